#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace normlab::common {

// `count` bytes from the kernel's random generator. Ends the process when the kernel has none to
// give.
std::string RandomBytes(size_t count);

// A 20-character id of [0-9a-z]: 8 characters of milliseconds since 1970, then 60 random bits, so
// that ids sort by time of creation and never meet. Thread-safe.
std::string NewId(absl::Time now);

// Whether `text` has the form of NewId: the only thing that may ever stand in a path or a query as
// an id.
bool IsId(absl::string_view text);

}  // namespace normlab::common
