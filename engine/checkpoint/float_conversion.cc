#include "engine/checkpoint/float_conversion.h"

#include <bit>
#include <cstring>

#include "engine/tensor/half_float.h"

namespace normlab::engine {
namespace {

template <typename Value>
Value Load(const char* bytes) {
  static_assert(std::endian::native == std::endian::little);
  Value value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

}  // namespace

std::optional<FloatFormat> FloatFormatOf(absl::string_view dtype) {
  if (dtype == "F32") {
    return FloatFormat::kF32;
  }
  if (dtype == "F64") {
    return FloatFormat::kF64;
  }
  if (dtype == "F16") {
    return FloatFormat::kF16;
  }
  if (dtype == "BF16") {
    return FloatFormat::kBf16;
  }
  return std::nullopt;
}

int64_t BytesOf(FloatFormat format) {
  switch (format) {
    case FloatFormat::kF64:
      return 8;
    case FloatFormat::kF32:
      return 4;
    case FloatFormat::kF16:
    case FloatFormat::kBf16:
      break;
  }
  return 2;
}

void ConvertToFloat(FloatFormat format, absl::string_view bytes, absl::Span<float> values) {
  const char* from = bytes.data();
  switch (format) {
    case FloatFormat::kF64:
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>(Load<double>(from + i * sizeof(double)));
      }
      return;
    case FloatFormat::kF32:
      std::memcpy(values.data(), from, values.size() * sizeof(float));
      return;
    case FloatFormat::kF16:
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = FromHalf(Load<uint16_t>(from + i * sizeof(uint16_t)));
      }
      return;
    case FloatFormat::kBf16:
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = FromBfloat16(Load<uint16_t>(from + i * sizeof(uint16_t)));
      }
      return;
  }
}

}  // namespace normlab::engine
