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

// A whole number, stored as a scalar of dtype I64.
struct ConstCounter {
  std::string name;
  int64_t value = 0;
};

// The same, to be filled.
struct MutableCounter {
  std::string name;
  int64_t* value = nullptr;
};

// The bytes of a safetensors file (8 bytes little-endian length of a JSON header, the header, the
// values) as Hugging Face's format has it: other frameworks read it. First the counters (I64), then
// the tensors (F32), in the order given. Names are unique.
std::string EncodeSafetensors(absl::Span<const ConstTensor> tensors,
                              absl::Span<const ConstCounter> counters = {});

// Fills `tensors` and `counters` from the bytes of a safetensors file and believes nothing in it.
// Tensors of the file that are not asked for are an error, so that nothing is silently ignored.
//
// `file` stands in messages. DATA_LOSS: the file is damaged or does not fit, naming the tensor and
// both shapes; some of `tensors` may have been filled then. Thread-safe.
absl::Status DecodeSafetensors(absl::string_view bytes,
                               const std::string& file,
                               absl::Span<const MutableTensor> tensors,
                               absl::Span<const MutableCounter> counters = {});

}  // namespace normlab::engine
