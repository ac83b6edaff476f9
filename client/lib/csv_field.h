#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace normlab::client {

// One field of a line of CSV (RFC 4180): in quotes where a comma, a quote or a line break makes them necessary, and else as
// it is. Thread-safe.
std::string CsvField(absl::string_view text);

}  // namespace normlab::client
