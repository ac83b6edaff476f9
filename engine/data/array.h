#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "engine/spec/limits.h"

namespace normlab::engine {

// Element types of the array files that we read.
enum class ElementType {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kU64,
  kI64,
  kF16,
  kBF16,
  kF32,
  kF64,
};

int64_t ElementBytes(ElementType type);
bool IsFloat(ElementType type);
// "uint8", "float32", ...
std::string ElementName(ElementType type);

// An array as a file has it: little-endian values in C order.
struct Array {
  std::string name;  // file, and member within it; for messages
  ElementType type = ElementType::kU8;
  std::vector<int64_t> dims;
  std::vector<uint8_t> bytes;  // the product of dims times ElementBytes
};

// "[3, 28, 28]"
std::string DimsText(const std::vector<int64_t>& dims);

// Bytes of an array of these sizes; nullopt: negative sizes, or more than `limit`, which is what a
// data set's other arrays leave of kMaxDatasetBytes.
std::optional<int64_t> ArrayBytes(const std::vector<int64_t>& dims,
                                  ElementType type,
                                  int64_t limit = kMaxDatasetBytes);
// INVALID_ARGUMENT: array `name` is larger than that.
absl::Status TooLargeArray(const std::string& name,
                           const std::vector<int64_t>& dims,
                           ElementType type,
                           int64_t limit);

// Reads up to `size` bytes into `to` and returns how many; fewer only at the end.
using ReadFunction = absl::FunctionRef<absl::StatusOr<int64_t>(uint8_t* to, int64_t size)>;

// Exactly `bytes` bytes, in pieces, so that a header alone cannot make us allocate much.
// INVALID_ARGUMENT, naming `name`: they end early. Errors of `read` as they are.
absl::StatusOr<std::vector<uint8_t>> ReadExactly(ReadFunction read,
                                                 const std::string& name,
                                                 int64_t bytes);

// The values of a float array as float32 (half precision exactly, doubles rounded).
// INVALID_ARGUMENT: another type, or a value that is not finite as float32, with its index.
absl::StatusOr<std::vector<float>> ToFloats(Array array);

// The values of an integer array as classes. INVALID_ARGUMENT: another type, or a value below 0 or
// not below kMaxClasses, with its index.
absl::StatusOr<std::vector<int32_t>> ToLabels(const Array& array);

}  // namespace normlab::engine
