#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "engine/spec/violation.h"

#include "normlab/v1/normalization.pb.h"

namespace normlab::engine {

// 16 MiB of floats.
inline constexpr int64_t kMaxTensorValues = int64_t{4} << 20;

// "parameters[weight]": the field path of a parameter; a name that is not plain short text is quoted.
// Thread-safe.
std::string ParameterField(absl::string_view name);

// The first tensor of the request with more than kMaxTensorValues values, as a field path; empty
// when there is none. Thread-safe.
std::string FindTooLargeTensor(const v1::NormalizeRequest& request);

// Everything that is wrong with the request by itself: settings of the normalizer, sizes of the
// tensors, numbers out of range; fields are paths below the request, as "input.dims" or
// "parameters[weight]". Whether the parameters are those of the normalizer is for who makes it to
// say. Looks at sizes only, never at a value. Pure; thread-safe.
std::vector<Violation> ValidateNormalize(const v1::NormalizeRequest& request);

}  // namespace normlab::engine
