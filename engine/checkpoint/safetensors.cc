#include "engine/checkpoint/safetensors.h"

#include <cstring>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/checkpoint/safetensors_header.h"

#include <nlohmann/json.hpp>

namespace normlab::engine {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kLengthBytes = kSafetensorsLengthBytes;
constexpr size_t kShownNameBytes = 100;
// Values start at a multiple of this in the file, as the reference implementation writes them.
constexpr size_t kHeaderAlignment = 8;

constexpr absl::string_view kRemedy = "use another checkpoint, or start from the beginning";

absl::Status Damaged(const std::string& file, absl::string_view problem) {
  return absl::DataLossError(absl::StrCat(file, ": ", problem, "; ", kRemedy));
}

std::string Shown(absl::string_view name) {
  return absl::StrCat("tensor \"", absl::CHexEscape(name.substr(0, kShownNameBytes)), "\"");
}

void PutLength(uint64_t value, std::string& out) {
  for (size_t i = 0; i < kLengthBytes; ++i) {
    out.push_back(static_cast<char>(value >> (8 * i)));
  }
}

uint64_t GetLength(absl::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    value |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  return value;
}

// Takes the entry of a tensor that must be there with this dtype, shape and length.
absl::StatusOr<SafetensorsEntry> Take(const std::string& file,
                                      const std::string& name,
                                      absl::string_view dtype,
                                      const Dims& dims,
                                      size_t bytes,
                                      std::map<std::string, SafetensorsEntry>& entries) {
  const auto found = entries.find(name);
  if (found == entries.end()) {
    return Damaged(file, absl::StrCat("has no ", Shown(name)));
  }
  SafetensorsEntry entry = std::move(found->second);
  entries.erase(found);
  if (entry.dtype != dtype) {
    return Damaged(file, absl::StrCat(Shown(name), " has dtype \"", entry.dtype, "\", but ", dtype,
                                      " was expected"));
  }
  if (entry.dims != dims) {
    return Damaged(file, absl::StrCat(Shown(name), " has shape ", DimsToString(entry.dims),
                                      ", but this network needs ", DimsToString(dims)));
  }
  if (static_cast<uint64_t>(entry.end - entry.begin) != bytes) {
    return Damaged(file, absl::StrCat(Shown(name), " has a length unlike its shape's"));
  }
  return entry;
}

}  // namespace

std::string EncodeSafetensors(absl::Span<const ConstTensor> tensors,
                              absl::Span<const ConstCounter> counters) {
  Json header = Json::object();
  uint64_t offset = 0;
  const auto describe = [&](const std::string& name, const char* dtype, const Dims& dims,
                            uint64_t bytes) {
    header[name] = {{"dtype", dtype}, {"shape", dims}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  };
  // Counters come first, so that both kinds lie at multiples of their sizes.
  for (const ConstCounter& counter : counters) {
    describe(counter.name, "I64", {}, sizeof(counter.value));
  }
  for (const ConstTensor& tensor : tensors) {
    describe(tensor.name, "F32", tensor.dims, tensor.values.size() * sizeof(float));
  }
  std::string text = header.dump();
  text.append((kHeaderAlignment - text.size() % kHeaderAlignment) % kHeaderAlignment, ' ');

  std::string out;
  out.reserve(kLengthBytes + text.size() + offset);
  PutLength(text.size(), out);
  out += text;
  for (const ConstCounter& counter : counters) {
    out.append(reinterpret_cast<const char*>(&counter.value), sizeof(counter.value));
  }
  for (const ConstTensor& tensor : tensors) {
    out.append(reinterpret_cast<const char*>(tensor.values.data()),
               tensor.values.size() * sizeof(float));
  }
  return out;
}

absl::Status DecodeSafetensors(absl::string_view bytes,
                               const std::string& file,
                               absl::Span<const MutableTensor> tensors,
                               absl::Span<const MutableCounter> counters) {
  if (bytes.size() < kLengthBytes) {
    return Damaged(file, "is too short for a safetensors file");
  }
  const uint64_t header_bytes = GetLength(bytes);
  bytes.remove_prefix(kLengthBytes);
  if (header_bytes > kMaxSafetensorsHeaderBytes || header_bytes > bytes.size()) {
    return Damaged(file, "is not a safetensors file or is truncated");
  }
  const absl::string_view json = bytes.substr(0, header_bytes);
  bytes.remove_prefix(header_bytes);
  auto parsed = ParseSafetensorsHeader(json, static_cast<int64_t>(bytes.size()), file, kRemedy);
  if (!parsed.ok()) {
    return absl::DataLossError(parsed.status().message());
  }
  std::map<std::string, SafetensorsEntry>& entries = *parsed;
  for (const MutableCounter& counter : counters) {
    NORMLAB_ASSIGN_OR_RETURN(const SafetensorsEntry entry,
                             Take(file, counter.name, "I64", {}, sizeof(*counter.value), entries));
    std::memcpy(counter.value, bytes.data() + entry.begin, sizeof(*counter.value));
    if (*counter.value < 0) {
      return Damaged(file, absl::StrCat(Shown(counter.name), " is negative"));
    }
  }
  for (const MutableTensor& tensor : tensors) {
    NORMLAB_ASSIGN_OR_RETURN(
        const SafetensorsEntry entry,
        Take(file, tensor.name, "F32", tensor.dims, tensor.values.size() * sizeof(float), entries));
    // Checked to be of the same size; offsets need no alignment.
    std::memcpy(tensor.values.data(), bytes.data() + entry.begin,
                tensor.values.size() * sizeof(float));
  }
  if (!entries.empty()) {
    return Damaged(file,
                   absl::StrCat(Shown(entries.begin()->first), " is not part of this network"));
  }
  return absl::OkStatus();
}

}  // namespace normlab::engine
