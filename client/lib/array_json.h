#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "normlab/v1/normalization.pb.h"

namespace normlab::client {

// An array written as nested JSON lists of numbers, as [[1, 2], [3, 4]]; what JSON has no number for
// is written "NaN", "Infinity" and "-Infinity". A bare number is an array without dimensions.
// INVALID_ARGUMENT, with the place and what to do: no JSON, something else than numbers, lists of
// unequal lengths, a number beyond float32. Thread-safe.
absl::StatusOr<normlab::v1::Tensor> ParseJsonArray(absl::string_view text);

// The same way back, on one line; every number reads back as exactly the same float. The number of
// values must be the product of dims. Thread-safe.
std::string FormatJsonArray(const normlab::v1::Tensor& tensor);

}  // namespace normlab::client
