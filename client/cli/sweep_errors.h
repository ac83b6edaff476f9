#pragma once

#include <string>

#include "absl/strings/string_view.h"

#include "normlab/v1/experiments.pb.h"

namespace normlab::client {

// The server's words about a design in those of the command line: "design.axes[0].values[1]" becomes "--axis normalization,
// value batsh", design.seeds --seeds, and so on. `experiment`: the one that was sent. Thread-safe.
std::string InTermsOfOptions(absl::string_view text, const normlab::v1::Experiment& experiment);

}  // namespace normlab::client
