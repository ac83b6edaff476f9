#pragma once

#include <istream>
#include <string>

#include "absl/status/statusor.h"

#include "normlab/v1/normalization.pb.h"

namespace normlab::client {

// The array that an argument of the command line names: nested JSON lists written out ("[[1, 2],
// [3, 4]]"), or the path of a .npy or JSON file ("-": standard input). INVALID_ARGUMENT, naming
// `option` and the file and ending with what to do: it cannot be read, has more than 128 MiB, or is no
// array. Blocks on I/O; thread-safe.
absl::StatusOr<normlab::v1::Tensor> ReadArray(const std::string& option,
                                              const std::string& argument,
                                              std::istream& standard_input);

}  // namespace normlab::client
