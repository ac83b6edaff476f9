#include "engine/checkpoint/safetensors_header.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include <nlohmann/json.hpp>

namespace normlab::engine {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxTensorDims = 8;
constexpr size_t kShownBytes = 80;

// An empty text: `value` is well-formed and now in `entry`; else what is wrong.
std::string ParseEntry(const Json& value, int64_t data_bytes, SafetensorsEntry& entry) {
  if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string() ||
      !value.contains("shape") || !value.contains("data_offsets")) {
    return "lacks dtype, shape or data_offsets";
  }
  entry.dtype = value["dtype"].get<std::string>().substr(0, kShownBytes);
  const Json& shape = value["shape"];
  const Json& offsets = value["data_offsets"];
  if (!shape.is_array() || shape.size() > kMaxTensorDims || !offsets.is_array() ||
      offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) {
    return "has a malformed shape or data_offsets";
  }
  const auto limit = static_cast<uint64_t>(data_bytes);
  for (const Json& dim : shape) {
    if (!dim.is_number_unsigned() || dim.get<uint64_t>() > limit) {
      return "has an impossible size in its shape";
    }
    entry.dims.push_back(static_cast<int64_t>(dim.get<uint64_t>()));
  }
  if (offsets[0].get<uint64_t>() > offsets[1].get<uint64_t>() ||
      offsets[1].get<uint64_t>() > limit) {
    return "lies outside of the file, which may be truncated";
  }
  entry.begin = static_cast<int64_t>(offsets[0].get<uint64_t>());
  entry.end = static_cast<int64_t>(offsets[1].get<uint64_t>());
  return "";
}

}  // namespace

absl::StatusOr<std::map<std::string, SafetensorsEntry>> ParseSafetensorsHeader(
    absl::string_view json, int64_t data_bytes, const std::string& file, absl::string_view remedy) {
  const Json header = Json::parse(json, nullptr, /*exceptions=*/false);
  if (!header.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, " is not a safetensors file: its header is no JSON object; ", remedy));
  }
  std::map<std::string, SafetensorsEntry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      continue;
    }
    const std::string problem = ParseEntry(value, data_bytes, entries[name]);
    if (!problem.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(file, ": tensor \"",
                                                     absl::CHexEscape(name.substr(0, kShownBytes)),
                                                     "\" ", problem, "; ", remedy));
    }
  }
  return entries;
}

}  // namespace normlab::engine
