#include "client/lib/npy.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace normlab::client {
namespace {

static_assert(std::endian::native == std::endian::little, "values are copied as they lie");

constexpr absl::string_view kMagic = "\x93NUMPY";
constexpr size_t kVersionBytes = 2;
constexpr size_t kMaxValues = std::numeric_limits<int>::max();  // of a repeated field
constexpr int32_t kLargestInteger = 1 << 24;
constexpr size_t kAlignment = 64;  // of the values, as NumPy writes it

absl::Status Bad(absl::string_view problem) {
  return absl::InvalidArgumentError(
      absl::StrCat(problem, "; write it with numpy.save(path, x.astype(numpy.float32))"));
}

// What follows 'key': in the header's dictionary, up to the comma after it. Parentheses of the shape
// are part of it.
absl::StatusOr<absl::string_view> Entry(absl::string_view header, absl::string_view key) {
  for (const char quote : {'\'', '"'}) {
    const std::string quoted = absl::StrCat(std::string(1, quote), key, std::string(1, quote));
    const size_t at = header.find(quoted);
    if (at == absl::string_view::npos) {
      continue;
    }
    absl::string_view rest = header.substr(at + quoted.size());
    rest = absl::StripLeadingAsciiWhitespace(rest);
    if (!absl::ConsumePrefix(&rest, ":")) {
      break;
    }
    rest = absl::StripLeadingAsciiWhitespace(rest);
    size_t end = 0;
    for (int depth = 0; end < rest.size(); ++end) {
      const char c = rest[end];
      depth += c == '(' || c == '[' ? 1 : c == ')' || c == ']' ? -1 : 0;
      if (depth <= 0 && (c == ',' || c == '}')) {
        break;
      }
    }
    return absl::StripTrailingAsciiWhitespace(rest.substr(0, end));
  }
  return Bad(absl::StrCat("the .npy header names no ", key));
}

absl::Status ParseShape(absl::string_view text, normlab::v1::Tensor& tensor) {
  if (!absl::ConsumePrefix(&text, "(") || !absl::ConsumeSuffix(&text, ")")) {
    return Bad("the .npy header has a malformed shape");
  }
  for (absl::string_view size : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    int64_t value = 0;
    if (!absl::SimpleAtoi(size, &value) || value < 0) {
      return Bad("the .npy header has a malformed shape");
    }
    tensor.add_dims(value);
  }
  return absl::OkStatus();
}

template <typename Value>
absl::Status CopyValues(absl::string_view data, normlab::v1::Tensor& tensor) {
  uint64_t bytes = sizeof(Value);
  for (const int64_t size : tensor.dims()) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes)) {
      return Bad("the .npy header announces an impossible size");
    }
  }
  if (bytes != data.size()) {
    return Bad(absl::StrCat("the .npy header announces ", bytes, " bytes of values, but ",
                            data.size(), " follow"));
  }
  const size_t count = data.size() / sizeof(Value);
  if (count > kMaxValues) {
    return absl::InvalidArgumentError(absl::StrCat("the .npy array has ", count,
                                                   " values, of which a message holds at most ",
                                                   kMaxValues, "; give a smaller array"));
  }
  tensor.mutable_values()->Reserve(static_cast<int>(count));
  for (size_t i = 0; i < count; ++i) {
    Value value = 0;
    std::memcpy(&value, data.data() + i * sizeof(Value), sizeof(Value));
    const auto narrow = static_cast<float>(value);
    if constexpr (std::is_integral_v<Value>) {
      // All of which float32 has exactly.
      if (value > kLargestInteger || (std::is_signed_v<Value> && value < -kLargestInteger)) {
        return absl::InvalidArgumentError(
            absl::StrCat("value ", i, " of the array is ", value,
                         ", which float32 may not have exactly; write the array with "
                         "x.astype(numpy.float32), scaled as you want it"));
      }
    } else if (std::isinf(narrow) && !std::isinf(value)) {
      return absl::InvalidArgumentError(absl::StrCat("value ", i, " of the array is ", value,
                                                     ", beyond float32; scale the array"));
    }
    tensor.add_values(narrow);
  }
  return absl::OkStatus();
}

}  // namespace

bool IsNpy(absl::string_view bytes) {
  return bytes.substr(0, kMagic.size()) == kMagic;
}

absl::StatusOr<normlab::v1::Tensor> ParseNpy(absl::string_view bytes) {
  if (!absl::ConsumePrefix(&bytes, kMagic) || bytes.size() < kVersionBytes) {
    return Bad("this is no .npy file");
  }
  const int version = static_cast<unsigned char>(bytes[0]);
  const size_t length_bytes = version == 1 ? 2 : 4;
  if (version < 1 || version > 3 || bytes.size() < kVersionBytes + length_bytes) {
    return Bad(absl::StrCat("the .npy file is of the unknown version ", version));
  }
  bytes.remove_prefix(kVersionBytes);
  size_t length = 0;
  for (size_t i = 0; i < length_bytes; ++i) {
    length |= static_cast<size_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  bytes.remove_prefix(length_bytes);
  if (length > bytes.size()) {
    return Bad("the .npy file ends within its header");
  }
  const absl::string_view header = bytes.substr(0, length);
  const absl::string_view data = bytes.substr(length);

  const absl::StatusOr<absl::string_view> type = Entry(header, "descr");
  const absl::StatusOr<absl::string_view> order = Entry(header, "fortran_order");
  const absl::StatusOr<absl::string_view> shape = Entry(header, "shape");
  for (const auto* entry : {&type, &order, &shape}) {
    if (!entry->ok()) {
      return entry->status();
    }
  }
  normlab::v1::Tensor tensor;
  if (absl::Status status = ParseShape(*shape, tensor); !status.ok()) {
    return status;
  }
  if (*order != "False" && tensor.dims_size() > 1) {
    return absl::InvalidArgumentError(
        "the .npy array lies in Fortran order; write it with numpy.save(path, "
        "numpy.ascontiguousarray(x))");
  }
  absl::Status status;
  const absl::string_view name = type->size() >= 2 ? type->substr(1, type->size() - 2) : *type;
  if (name == "<f4") {
    status = CopyValues<float>(data, tensor);
  } else if (name == "<f8") {
    status = CopyValues<double>(data, tensor);
  } else if (name == "|u1") {
    status = CopyValues<uint8_t>(data, tensor);
  } else if (name == "|i1") {
    status = CopyValues<int8_t>(data, tensor);
  } else if (name == "<i2") {
    status = CopyValues<int16_t>(data, tensor);
  } else if (name == "<i4") {
    status = CopyValues<int32_t>(data, tensor);
  } else if (name == "<i8") {
    status = CopyValues<int64_t>(data, tensor);
  } else {
    status = Bad(absl::StrCat("the .npy array has elements of type ", *type,
                              ", but only float32, float64, int8 to int64 and uint8 are read"));
  }
  if (!status.ok()) {
    return status;
  }
  return tensor;
}

std::string FormatNpy(const normlab::v1::Tensor& tensor) {
  std::string header =
      absl::StrCat("{'descr': '<f4', 'fortran_order': False, 'shape': (",
                   absl::StrJoin(tensor.dims(), ", "), tensor.dims_size() == 1 ? ",), }" : "), }");
  constexpr size_t kPrefixBytes = 10;
  const size_t unpadded = kPrefixBytes + header.size() + 1;
  header.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ');
  header.push_back('\n');
  std::string bytes(kMagic);
  bytes.append({'\x01', '\x00', static_cast<char>(header.size() & 0xFF),
                static_cast<char>(header.size() >> 8 & 0xFF)});
  bytes.append(header);
  const size_t values_at = bytes.size();
  bytes.resize(values_at + static_cast<size_t>(tensor.values_size()) * sizeof(float));
  if (tensor.values_size() > 0) {
    std::memcpy(bytes.data() + values_at, tensor.values().data(), bytes.size() - values_at);
  }
  return bytes;
}

}  // namespace normlab::client
