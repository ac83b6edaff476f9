#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "normlab/v1/experiments.pb.h"

namespace normlab::client {

// An axis as the command line has it. INVALID_ARGUMENT says what is wrong with the text; whether the
// spec has such a field is for the server. Thread-safe.
//   FIELD=V1,V2,...   values; commas within quotes, brackets and braces do not separate
//   FIELD=MIN..MAX    a range, for random designs; with log:, int: or log:int: before it for one that
//                     is uniform in the logarithm, or of whole numbers
absl::StatusOr<normlab::v1::Axis> ParseAxis(absl::string_view text);

// Seeds: "5" is five of them, 1 to 5; "1,4,7" (or "4,": with a comma) are these. INVALID_ARGUMENT.
// Thread-safe.
absl::StatusOr<std::vector<uint32_t>> ParseSeeds(absl::string_view text);

// Cells one by one from a YAML or JSON file ("-": `standard_input`): a list of maps from field to
// value, for example
//   - {normalization: batch, optimizer.sgd.learning_rate: 0.1}
// A value that is no scalar becomes the JSON of the field. INVALID_ARGUMENT names file and line.
// Blocks on I/O; thread-safe.
absl::StatusOr<std::vector<normlab::v1::Assignments>> ReadCells(const std::string& path,
                                                                std::istream& standard_input);
// The same from text; `name` stands in messages.
absl::StatusOr<std::vector<normlab::v1::Assignments>> ParseCells(const std::string& name,
                                                                 const std::string& text);

}  // namespace normlab::client
