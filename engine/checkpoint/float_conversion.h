#pragma once

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace normlab::engine {

// Formats of floating-point numbers in files.
enum class FloatFormat { kF64, kF32, kF16, kBf16 };

// Of a safetensors dtype; nullopt: it is not a floating-point format that this program reads.
std::optional<FloatFormat> FloatFormatOf(absl::string_view dtype);

int64_t BytesOf(FloatFormat format);

// Converts little-endian numbers; `bytes` has values.size() of them, without any alignment. F16 and
// BF16 are exact, F64 is rounded to nearest (beyond a float's range to infinity); NaN stays NaN.
// Thread-safe.
void ConvertToFloat(FloatFormat format, absl::string_view bytes, absl::Span<float> values);

}  // namespace normlab::engine
