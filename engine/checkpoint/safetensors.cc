#include "engine/checkpoint/safetensors.h"

#include <cstring>
#include <map>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

#include <nlohmann/json.hpp>

namespace normlab::engine {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kLengthBytes = 8;
// The format's own limit.
constexpr uint64_t kMaxHeaderBytes = 100000000;
// Values start at a multiple of this in the file, as the reference implementation writes them.
constexpr size_t kHeaderAlignment = 8;
constexpr size_t kMaxTensorDims = 8;

absl::Status Damaged(const std::string& file, absl::string_view problem) {
  return absl::DataLossError(
      absl::StrCat(file, ": ", problem, "; use another checkpoint, or start from the beginning"));
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

std::string Shown(absl::string_view name) {
  return absl::StrCat("tensor \"", absl::CHexEscape(name.substr(0, 100)), "\"");
}

// Where a tensor lies in the file.
struct Entry {
  Dims dims;
  uint64_t begin = 0;  // in bytes, after the header
  uint64_t end = 0;
};

absl::StatusOr<Entry> ParseEntry(const std::string& file,
                                 const std::string& name,
                                 const Json& value,
                                 uint64_t data_bytes) {
  const auto bad = [&](absl::string_view what) {
    return Damaged(file, absl::StrCat(Shown(name), " ", what));
  };
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets")) {
    return bad("lacks dtype, shape or data_offsets");
  }
  if (value["dtype"] != "F32") {
    return bad(absl::StrCat("has dtype ", value["dtype"].dump(), ", but F32 was expected"));
  }
  const Json& shape = value["shape"];
  const Json& offsets = value["data_offsets"];
  if (!shape.is_array() || shape.size() > kMaxTensorDims || !offsets.is_array() ||
      offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) {
    return bad("has a malformed shape or data_offsets");
  }
  Entry entry;
  for (const Json& dim : shape) {
    if (!dim.is_number_unsigned() || dim.get<uint64_t>() > data_bytes) {
      return bad("has an impossible size in its shape");
    }
    entry.dims.push_back(static_cast<int64_t>(dim.get<uint64_t>()));
  }
  entry.begin = offsets[0].get<uint64_t>();
  entry.end = offsets[1].get<uint64_t>();
  if (entry.begin > entry.end || entry.end > data_bytes) {
    return bad("lies outside of the file");
  }
  return entry;
}

}  // namespace

std::string EncodeSafetensors(absl::Span<const ConstTensor> tensors) {
  Json header = Json::object();
  uint64_t offset = 0;
  for (const ConstTensor& tensor : tensors) {
    const uint64_t bytes = tensor.values.size() * sizeof(float);
    header[tensor.name] = {
        {"dtype", "F32"}, {"shape", tensor.dims}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.append((kHeaderAlignment - text.size() % kHeaderAlignment) % kHeaderAlignment, ' ');

  std::string out;
  out.reserve(kLengthBytes + text.size() + offset);
  PutLength(text.size(), out);
  out += text;
  for (const ConstTensor& tensor : tensors) {
    out.append(reinterpret_cast<const char*>(tensor.values.data()),
               tensor.values.size() * sizeof(float));
  }
  return out;
}

absl::Status DecodeSafetensors(absl::string_view bytes,
                               const std::string& file,
                               absl::Span<const MutableTensor> tensors) {
  if (bytes.size() < kLengthBytes) {
    return Damaged(file, "is too short for a safetensors file");
  }
  const uint64_t header_bytes = GetLength(bytes);
  bytes.remove_prefix(kLengthBytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size()) {
    return Damaged(file, "is not a safetensors file or is truncated");
  }
  const Json header = Json::parse(bytes.substr(0, header_bytes), nullptr, /*exceptions=*/false);
  if (!header.is_object()) {
    return Damaged(file, "has a header that is not a JSON object");
  }
  bytes.remove_prefix(header_bytes);

  std::map<std::string, Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      NORMLAB_ASSIGN_OR_RETURN(entries[name], ParseEntry(file, name, value, bytes.size()));
    }
  }
  for (const MutableTensor& tensor : tensors) {
    const auto found = entries.find(tensor.name);
    if (found == entries.end()) {
      return Damaged(file, absl::StrCat("has no ", Shown(tensor.name)));
    }
    const Entry& entry = found->second;
    if (entry.dims != tensor.dims) {
      return Damaged(file, absl::StrCat(Shown(tensor.name), " has shape ", DimsToString(entry.dims),
                                        ", but this network needs ", DimsToString(tensor.dims)));
    }
    if (entry.end - entry.begin != tensor.values.size() * sizeof(float)) {
      return Damaged(file, absl::StrCat(Shown(tensor.name), " has a length unlike its shape's"));
    }
    // Checked to be of the same size; offsets need no alignment.
    std::memcpy(tensor.values.data(), bytes.data() + entry.begin, entry.end - entry.begin);
    entries.erase(found);
  }
  if (!entries.empty()) {
    return Damaged(file,
                   absl::StrCat(Shown(entries.begin()->first), " is not part of this network"));
  }
  return absl::OkStatus();
}

}  // namespace normlab::engine
