#include "engine/checkpoint/weights_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

#include "common/open_beneath.h"
#include "common/read_at.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"
#include "engine/spec/violation.h"

namespace normlab::engine {
namespace {

// Room for some 100,000 tensors. The format allows more, of which the parsed form would take
// gigabytes.
constexpr uint64_t kMaxHeaderBytes = uint64_t{16} << 20;
constexpr size_t kHashPieceBytes = size_t{1} << 20;
constexpr absl::string_view kOtherFile =
    "name a safetensors file (a checkpoint's model.safetensors, or one saved by another program)";

// The part of an absolute path below a root; nullopt when it does not lie below it.
std::optional<std::string> Below(absl::string_view root, absl::string_view path) {
  while (root.size() > 1 && absl::ConsumeSuffix(&root, "/")) {
  }
  if (!absl::ConsumePrefix(&path, root) || (root != "/" && !absl::StartsWith(path, "/"))) {
    return std::nullopt;
  }
  while (absl::ConsumePrefix(&path, "/")) {
  }
  return path.empty() ? "." : std::string(path);
}

// A regular file below one root, or why not.
absl::StatusOr<DataFile> OpenBelow(const std::string& root, const std::string& relative) {
  DataFile file;
  file.path = absl::StrCat(root, absl::EndsWith(root, "/") ? "" : "/", relative);
  const common::UniqueFd folder(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) {
    return absl::NotFoundError(absl::StrCat("data root ", root, " cannot be opened"));
  }
  // O_NONBLOCK: opening a pipe must not wait for a writer.
  auto opened = common::OpenBeneath(folder.get(), relative, O_RDONLY | O_NONBLOCK);
  if (!opened.ok()) {
    return absl::NotFoundError(
        absl::StrCat(file.path, absl::IsNotFound(opened.status()) ? " does not exist"
                                : absl::IsPermissionDenied(opened.status())
                                    ? " leads outside of the data root or may not be read"
                                    : " cannot be opened"));
  }
  file.fd = *std::move(opened);
  struct stat info {};
  if (fstat(file.fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::NotFoundError(absl::StrCat(file.path, " is not a regular file"));
  }
  NORMLAB_ASSIGN_OR_RETURN(file.identity, IdentityOf(file.fd.get()));
  return file;
}

absl::StatusOr<DataFile> OpenBelowAny(const std::string& path,
                                      absl::Span<const std::string> roots) {
  std::vector<std::string> problems;
  for (const std::string& root : roots) {
    const std::optional<std::string> relative =
        absl::StartsWith(path, "/") ? Below(root, path) : path;
    if (!relative.has_value()) {
      continue;
    }
    auto file = OpenBelow(root, *relative);
    if (file.ok()) {
      return file;
    }
    problems.emplace_back(file.status().message());
  }
  if (problems.empty()) {
    problems.push_back(roots.empty() ? "this server has no data roots"
                                     : absl::StrCat("it does not lie below a data root (",
                                                    absl::StrJoin(roots, ", "), ")"));
  }
  return absl::NotFoundError(absl::StrCat(
      "is ", Quoted(path), ", where no weights were found: ", absl::StrJoin(problems, "; "), "; ",
      kOtherFile, " below a data root"));
}

absl::Status ReadAt(const DataFile& file, int64_t offset, absl::Span<char> to) {
  const auto size = static_cast<int64_t>(to.size());
  const absl::StatusOr<int64_t> got = common::ReadAt(file.fd.get(), to.data(), size, offset);
  if (got.ok() && *got == size) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("cannot be read from ", file.path, ": ",
                                          got.ok() ? "it became shorter" : got.status().message(),
                                          "; try again when the file is complete"));
}

}  // namespace

absl::StatusOr<WeightsFile> WeightsFile::Open(const std::string& path,
                                              absl::Span<const std::string> data_roots) {
  WeightsFile weights;
  NORMLAB_ASSIGN_OR_RETURN(weights.file_, OpenBelowAny(path, data_roots));
  const DataFile& file = weights.file_;
  const auto foreign = [&](absl::string_view problem) {
    return absl::InvalidArgumentError(
        absl::StrCat("is ", Quoted(path), ", but ", file.path, " ", problem, "; ", kOtherFile));
  };
  if (file.identity.bytes < kSafetensorsLengthBytes) {
    return foreign("is too short for a safetensors file");
  }
  char length[kSafetensorsLengthBytes] = {};
  NORMLAB_RETURN_IF_ERROR(ReadAt(file, 0, absl::MakeSpan(length)));
  uint64_t header_bytes = 0;
  for (int64_t i = kSafetensorsLengthBytes; i-- > 0;) {
    header_bytes = header_bytes << 8 | static_cast<unsigned char>(length[i]);
  }
  const int64_t after_length = file.identity.bytes - kSafetensorsLengthBytes;
  if (header_bytes > static_cast<uint64_t>(after_length)) {
    return foreign("is not a safetensors file, or is truncated");
  }
  if (header_bytes > kMaxHeaderBytes) {
    return foreign(absl::StrCat("has a header of ", header_bytes, " bytes, of which at most ",
                                kMaxHeaderBytes, " are read"));
  }
  std::string json(header_bytes, '\0');
  NORMLAB_RETURN_IF_ERROR(ReadAt(file, kSafetensorsLengthBytes, absl::MakeSpan(json)));
  weights.data_offset_ = kSafetensorsLengthBytes + static_cast<int64_t>(header_bytes);
  auto entries = ParseSafetensorsHeader(json, file.identity.bytes - weights.data_offset_, file.path,
                                        kOtherFile);
  if (!entries.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("is ", Quoted(path), ", but ", entries.status().message()));
  }
  weights.entries_ = *std::move(entries);
  return weights;
}

absl::Status WeightsFile::Read(const SafetensorsEntry& entry,
                               int64_t offset,
                               absl::Span<char> to) const {
  return ReadAt(file_, data_offset_ + entry.begin + offset, to);
}

absl::StatusOr<std::string> WeightsFile::Sha256() const {
  common::Sha256 digest;
  std::vector<char> piece(kHashPieceBytes);
  for (int64_t done = 0; done < file_.identity.bytes;) {
    const int64_t size =
        std::min<int64_t>(static_cast<int64_t>(piece.size()), file_.identity.bytes - done);
    NORMLAB_RETURN_IF_ERROR(
        ReadAt(file_, done, absl::MakeSpan(piece.data(), static_cast<size_t>(size))));
    digest.Update(piece.data(), static_cast<size_t>(size));
    done += size;
  }
  NORMLAB_ASSIGN_OR_RETURN(const FileIdentity now, IdentityOf(file_.fd.get()));
  if (now != file_.identity) {
    return absl::AbortedError(absl::StrCat("names ", file_.path,
                                           ", which changed while it was read; try again when it "
                                           "is complete"));
  }
  return digest.FinishHex();
}

}  // namespace normlab::engine
