#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "normlab/v1/normalization.pb.h"

namespace normlab::client {

// NumPy's .npy files, format versions 1 to 3 (numpy.lib.format).

// Whether `bytes` begin as every .npy file does. Thread-safe.
bool IsNpy(absl::string_view bytes);

// Reads an array of little-endian float32 or float64 in C order; float64 is rounded.
// INVALID_ARGUMENT, ending with what to do: anything else, a file that is cut off or too long, or a
// finite number that is infinite as float32. Thread-safe.
absl::StatusOr<normlab::v1::Tensor> ParseNpy(absl::string_view bytes);

// A version 1 file of float32. Thread-safe.
std::string FormatNpy(const normlab::v1::Tensor& tensor);

}  // namespace normlab::client
