#include "engine/data/array_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/read_at.h"
#include "common/status_macros.h"
#include "engine/checkpoint/safetensors_header.h"
#include "engine/data/byte_source.h"
#include "engine/data/npy_file.h"
#include "engine/data/zip_archive.h"
#include "engine/spec/limits.h"
#include "engine/spec/violation.h"

namespace normlab::engine {
namespace {

using Arrays = std::map<std::string, absl::StatusOr<Array>>;

constexpr const char* kParts[] = {"x_train", "y_train", "x_test", "y_test"};
constexpr size_t kMaxNamesShown = 20;
// Far more than a data set's header needs, and little enough to parse in a shared process.
constexpr int64_t kMaxHeaderBytes = std::min(kMaxSafetensorsHeaderBytes, int64_t{16} << 20);

absl::Status Wrong(const std::string& name, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(name, " ", problem));
}

template <typename Names>
absl::Status Missing(const std::string& file, absl::string_view part, const Names& names) {
  std::vector<std::string> shown;
  for (const std::string& name : names) {
    if (shown.size() == kMaxNamesShown) {
      shown.emplace_back("...");
      break;
    }
    shown.push_back(Quoted(name));
  }
  return Wrong(file, absl::StrCat("has no array ", part, " (it has ",
                                  shown.empty() ? "none" : absl::StrJoin(shown, ", "),
                                  "); save x_train, y_train, x_test and y_test in it"));
}

absl::StatusOr<Array> ReadMember(const ZipArchive& zip,
                                 const ZipArchive::Entry& entry,
                                 const std::string& name,
                                 int64_t limit) {
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<ZipArchive::Reader> reader, zip.OpenMember(entry));
  return ReadNpy([&](uint8_t* to, int64_t size) { return reader->Read(to, size); }, name, limit);
}

absl::StatusOr<Arrays> ReadNpz(int fd, const std::string& name, int64_t left) {
  NORMLAB_ASSIGN_OR_RETURN(const ZipArchive zip, ZipArchive::Open(fd, name));
  std::vector<std::string> names;
  for (const ZipArchive::Entry& entry : zip.entries()) {
    names.push_back(entry.name);
  }
  Arrays arrays;
  for (const char* part : kParts) {
    const ZipArchive::Entry* entry = zip.Find(absl::StrCat(part, ".npy"));
    if (entry == nullptr) {
      arrays.emplace(part, Missing(name, part, names));
    } else {
      auto array = ReadMember(zip, *entry, absl::StrCat(name, " (array ", part, ")"), left);
      left -= array.ok() ? static_cast<int64_t>(array->bytes.size()) : 0;
      arrays.emplace(part, std::move(array));
    }
  }
  return arrays;
}

absl::StatusOr<ElementType> ParseDtype(const std::string& name, const std::string& dtype) {
  static constexpr std::pair<absl::string_view, ElementType> kTypes[] = {
      {"U8", ElementType::kU8},   {"I8", ElementType::kI8},     {"U16", ElementType::kU16},
      {"I16", ElementType::kI16}, {"U32", ElementType::kU32},   {"I32", ElementType::kI32},
      {"U64", ElementType::kU64}, {"I64", ElementType::kI64},   {"F16", ElementType::kF16},
      {"F32", ElementType::kF32}, {"BF16", ElementType::kBF16}, {"F64", ElementType::kF64}};
  for (const auto& [text, type] : kTypes) {
    if (dtype == text) {
      return type;
    }
  }
  return Wrong(name, absl::StrCat("has dtype ", Quoted(dtype),
                                  ", but U8, F16, BF16, F32 or F64 inputs and integer or float "
                                  "targets can be read; convert it"));
}

absl::StatusOr<Array> ReadTensor(int fd,
                                 const std::string& name,
                                 const SafetensorsEntry& entry,
                                 int64_t data_offset,
                                 int64_t limit) {
  Array array;
  array.name = name;
  NORMLAB_ASSIGN_OR_RETURN(array.type, ParseDtype(name, entry.dtype));
  const std::optional<int64_t> bytes = ArrayBytes(entry.dims, array.type, limit);
  if (!bytes.has_value()) {
    return TooLargeArray(name, entry.dims, array.type, limit);
  }
  if (*bytes != entry.end - entry.begin) {
    return Wrong(name, absl::StrCat("has ", entry.end - entry.begin, " bytes, but its shape ",
                                    DimsText(entry.dims), " of ", ElementName(array.type),
                                    " needs ", *bytes, "; copy or save the file again"));
  }
  array.dims = entry.dims;
  int64_t offset = data_offset + entry.begin;
  NORMLAB_ASSIGN_OR_RETURN(
      array.bytes, ReadExactly(
                       [&](uint8_t* to, int64_t size) -> absl::StatusOr<int64_t> {
                         const absl::StatusOr<int64_t> got = common::ReadAt(fd, to, size, offset);
                         if (!got.ok()) {
                           return absl::InternalError(
                               absl::StrCat("cannot read ", name, ": ", got.status().message()));
                         }
                         offset += *got;
                         return *got;
                       },
                       name, *bytes));
  return array;
}

absl::StatusOr<Arrays> ReadSafetensors(int fd, const std::string& name, int64_t left) {
  constexpr char kRemedy[] = "give a .npz or .safetensors file, and copy or save it again";
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    return absl::InternalError(absl::ErrnoToStatus(errno, "cannot look at " + name).message());
  }
  uint8_t length_bytes[kSafetensorsLengthBytes] = {};
  uint64_t length = 0;
  const bool has_length = common::ReadAt(fd, length_bytes, sizeof(length_bytes), 0).value_or(0) ==
                          kSafetensorsLengthBytes;
  for (size_t i = 0; i < sizeof(length_bytes); ++i) {
    length |= uint64_t{length_bytes[i]} << (8 * i);
  }
  const int64_t rest = info.st_size - kSafetensorsLengthBytes;
  if (!has_length || rest < 0 || length > static_cast<uint64_t>(rest) ||
      length > static_cast<uint64_t>(kMaxHeaderBytes)) {
    return Wrong(name, absl::StrCat("is neither a .npz nor a whole .safetensors file; ", kRemedy));
  }
  std::string header(length, '\0');
  const auto header_bytes = static_cast<int64_t>(length);
  if (common::ReadAt(fd, header.data(), header_bytes, kSafetensorsLengthBytes).value_or(0) !=
      header_bytes) {
    return Wrong(name, absl::StrCat("could not be read whole; ", kRemedy));
  }
  const int64_t data_bytes = rest - static_cast<int64_t>(length);
  NORMLAB_ASSIGN_OR_RETURN(const auto entries,
                           ParseSafetensorsHeader(header, data_bytes, name, kRemedy));
  std::vector<std::string> names;
  for (const auto& [tensor, entry] : entries) {
    names.push_back(tensor);
  }
  Arrays arrays;
  for (const char* part : kParts) {
    const auto found = entries.find(part);
    if (found == entries.end()) {
      arrays.emplace(part, Missing(name, part, names));
    } else {
      auto array = ReadTensor(fd, absl::StrCat(name, " (array ", part, ")"), found->second,
                              kSafetensorsLengthBytes + static_cast<int64_t>(length), left);
      left -= array.ok() ? static_cast<int64_t>(array->bytes.size()) : 0;
      arrays.emplace(part, std::move(array));
    }
  }
  return arrays;
}

}  // namespace

absl::StatusOr<Array> ReadNpyFile(int fd, const std::string& name, int64_t limit) {
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> source, ByteSource::Open(fd, name));
  return ReadNpy([&](uint8_t* to, int64_t size) { return source->Read(to, size); }, name, limit);
}

absl::StatusOr<Arrays> ReadArchive(int fd, const std::string& name, int64_t limit) {
  char magic[6] = {};
  const int64_t got = common::ReadAt(fd, magic, sizeof(magic), 0).value_or(0);
  const absl::string_view start(magic, static_cast<size_t>(got));
  if (absl::StartsWith(start, "PK")) {
    return ReadNpz(fd, name, limit);
  }
  if (start == "\x93NUMPY") {
    return Wrong(name,
                 "is a .npy file with a single array; give the four files as x_train, "
                 "y_train, x_test and y_test instead of path");
  }
  return ReadSafetensors(fd, name, limit);
}

}  // namespace normlab::engine
