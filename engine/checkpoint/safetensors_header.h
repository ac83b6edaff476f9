#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace normlab::engine {

// The length of the header in front of it, little-endian.
inline constexpr int64_t kSafetensorsLengthBytes = 8;
// The format's own limit.
inline constexpr int64_t kMaxSafetensorsHeaderBytes = 100000000;

// Where a tensor of any type lies in a safetensors file.
struct SafetensorsEntry {
  std::string dtype;  // as in the file: "F32", "U8", ...
  std::vector<int64_t> dims;
  int64_t begin = 0;  // in bytes, after the header
  int64_t end = 0;
};

// Tensors by name, from the JSON header of a safetensors file whose values have `data_bytes` bytes.
// Believes nothing: every entry is well-formed and lies within the values, and its sizes are not
// negative. That its length fits its type and shape is left to the caller, who knows the types.
//
// `file` stands in messages, which end with `remedy`. INVALID_ARGUMENT: damaged. Thread-safe.
absl::StatusOr<std::map<std::string, SafetensorsEntry>> ParseSafetensorsHeader(
    absl::string_view json, int64_t data_bytes, const std::string& file, absl::string_view remedy);

}  // namespace normlab::engine
