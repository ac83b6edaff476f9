#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "engine/graph/graph.h"

namespace normlab::engine {

// A tensor of floats in plain layout; the memory is someone else's.
struct ConstTensor {
  std::string name;
  Dims dims;
  absl::Span<const float> values;
};

// The same, to be filled.
struct MutableTensor {
  std::string name;
  Dims dims;
  absl::Span<float> values;
};

// The bytes of a safetensors file (8 bytes little-endian length of a JSON header, the header, the
// values), all tensors F32, in the order given, as Hugging Face's format has it: other frameworks
// read it. Names are unique.
std::string EncodeSafetensors(absl::Span<const ConstTensor> tensors);

// Fills `tensors` from the bytes of a safetensors file and believes nothing in it. Tensors of the
// file that are not asked for are an error, so that nothing is silently ignored.
//
// `file` stands in messages. DATA_LOSS: the file is damaged or does not fit, naming the tensor and
// both shapes; some of `tensors` may have been filled then. Thread-safe.
absl::Status DecodeSafetensors(absl::string_view bytes,
                               const std::string& file,
                               absl::Span<const MutableTensor> tensors);

}  // namespace normlab::engine
