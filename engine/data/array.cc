#include "engine/data/array.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/status_macros.h"
#include "engine/spec/limits.h"
#include "engine/tensor/half_float.h"

namespace normlab::engine {
namespace {

constexpr int64_t kPieceBytes = int64_t{8} << 20;

absl::Status Wrong(const std::string& name, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(name, " ", problem));
}

// Files are little-endian, and so is every machine that oneDNN's fast kernels run on.
static_assert(std::endian::native == std::endian::little);

template <typename T>
T ValueAt(const Array& array, size_t index) {
  T value;
  std::memcpy(&value, array.bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// [index] of a flat index, as numpy would write it.
std::string IndexText(const std::vector<int64_t>& dims, int64_t index) {
  std::vector<int64_t> parts(dims.size());
  for (size_t i = dims.size(); i > 0; --i) {
    parts[i - 1] = index % dims[i - 1];
    index /= dims[i - 1];
  }
  return DimsText(parts);
}

template <typename Convert>
absl::StatusOr<std::vector<float>> ConvertFloats(const Array& array, const Convert& convert) {
  std::vector<float> values(array.bytes.size() / static_cast<size_t>(ElementBytes(array.type)));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = convert(i);
    if (!std::isfinite(values[i])) {
      return Wrong(
          array.name,
          absl::StrCat("has a value at index ", IndexText(array.dims, static_cast<int64_t>(i)),
                       " that is not a finite float32; replace or leave out such values"));
    }
  }
  return values;
}

template <typename T>
absl::StatusOr<std::vector<int32_t>> ConvertLabels(const Array& array) {
  std::vector<int32_t> labels(array.bytes.size() / sizeof(T));
  for (size_t i = 0; i < labels.size(); ++i) {
    const T value = ValueAt<T>(array, i);
    // A negative number becomes a huge one.
    if (static_cast<uint64_t>(value) >= static_cast<uint64_t>(kMaxClasses)) {
      return Wrong(
          array.name,
          absl::StrCat(
              "has label ",
              static_cast<std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>>(value),
              " at index ", i, ", but classes are counted from 0 to at most ", kMaxClasses - 1,
              "; number them so"));
    }
    labels[i] = static_cast<int32_t>(value);
  }
  return labels;
}

}  // namespace

int64_t ElementBytes(ElementType type) {
  switch (type) {
    case ElementType::kU8:
    case ElementType::kI8:
      return 1;
    case ElementType::kU16:
    case ElementType::kI16:
    case ElementType::kF16:
    case ElementType::kBF16:
      return 2;
    case ElementType::kU32:
    case ElementType::kI32:
    case ElementType::kF32:
      return 4;
    case ElementType::kU64:
    case ElementType::kI64:
    case ElementType::kF64:
      break;
  }
  return 8;
}

bool IsFloat(ElementType type) {
  return type == ElementType::kF16 || type == ElementType::kBF16 || type == ElementType::kF32 ||
         type == ElementType::kF64;
}

std::string ElementName(ElementType type) {
  if (type == ElementType::kBF16) {
    return "bfloat16";
  }
  const bool is_signed = type == ElementType::kI8 || type == ElementType::kI16 ||
                         type == ElementType::kI32 || type == ElementType::kI64;
  return absl::StrCat(IsFloat(type) ? "float" : is_signed ? "int" : "uint", 8 * ElementBytes(type));
}

std::string DimsText(const std::vector<int64_t>& dims) {
  return absl::StrCat("[", absl::StrJoin(dims, ", "), "]");
}

std::optional<int64_t> ArrayBytes(const std::vector<int64_t>& dims,
                                  ElementType type,
                                  int64_t limit) {
  int64_t bytes = ElementBytes(type);
  for (const int64_t dim : dims) {
    // Also of an empty array no size may be absurd.
    if (dim < 0 || (dim > 0 && std::max<int64_t>(bytes, 1) > limit / dim)) {
      return std::nullopt;
    }
    bytes *= dim;
  }
  return bytes;
}

absl::Status TooLargeArray(const std::string& name,
                           const std::vector<int64_t>& dims,
                           ElementType type,
                           int64_t limit) {
  return Wrong(
      name,
      absl::StrCat(
          "has shape ", DimsText(dims), " of ", ElementName(type),
          ", but the arrays of a data set may have at most ", kMaxDatasetBytes, " bytes in all",
          limit < kMaxDatasetBytes ? absl::StrCat(", of which the others leave ", limit) : "",
          "; use fewer examples"));
}

absl::StatusOr<std::vector<uint8_t>> ReadExactly(ReadFunction read,
                                                 const std::string& name,
                                                 int64_t bytes) {
  std::vector<uint8_t> values;
  int64_t done = 0;
  while (done < bytes) {
    const int64_t piece = std::min(bytes - done, kPieceBytes);
    values.resize(static_cast<size_t>(done + piece));
    NORMLAB_ASSIGN_OR_RETURN(const int64_t got, read(values.data() + done, piece));
    done += got;
    if (got < piece) {
      return Wrong(name, absl::StrCat("is truncated: its values end after ", done, " of ", bytes,
                                      " bytes; copy or save it again"));
    }
  }
  return values;
}

absl::StatusOr<std::vector<float>> ToFloats(Array array) {
  switch (array.type) {
    case ElementType::kF16:
      return ConvertFloats(array, [&](size_t i) { return FromHalf(ValueAt<uint16_t>(array, i)); });
    case ElementType::kBF16:
      return ConvertFloats(array,
                           [&](size_t i) { return FromBfloat16(ValueAt<uint16_t>(array, i)); });
    case ElementType::kF32:
      return ConvertFloats(array, [&](size_t i) { return ValueAt<float>(array, i); });
    case ElementType::kF64:
      return ConvertFloats(array,
                           [&](size_t i) { return static_cast<float>(ValueAt<double>(array, i)); });
    default:
      break;
  }
  return Wrong(array.name, absl::StrCat("has values of type ", ElementName(array.type),
                                        ", but floats were expected; convert it to float32"));
}

absl::StatusOr<std::vector<int32_t>> ToLabels(const Array& array) {
  switch (array.type) {
    case ElementType::kU8:
      return ConvertLabels<uint8_t>(array);
    case ElementType::kI8:
      return ConvertLabels<int8_t>(array);
    case ElementType::kU16:
      return ConvertLabels<uint16_t>(array);
    case ElementType::kI16:
      return ConvertLabels<int16_t>(array);
    case ElementType::kU32:
      return ConvertLabels<uint32_t>(array);
    case ElementType::kI32:
      return ConvertLabels<int32_t>(array);
    case ElementType::kU64:
      return ConvertLabels<uint64_t>(array);
    case ElementType::kI64:
      return ConvertLabels<int64_t>(array);
    default:
      break;
  }
  return Wrong(array.name, absl::StrCat("has values of type ", ElementName(array.type),
                                        ", but integers were expected; convert it to int64"));
}

}  // namespace normlab::engine
