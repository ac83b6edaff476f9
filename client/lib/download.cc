#include "client/lib/download.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>

#include "absl/strings/str_cat.h"

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"

namespace normlab::client {
namespace {

absl::Status FileError(const std::string& path, const char* what) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot ", what, " ", path, ": ", std::strerror(errno),
                   "; choose another file with -o FILE or make room"));
}

absl::Status WriteAll(int fd, absl::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t count = write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return FileError(path, "write");
    }
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

// Adds what the file has already to the hash; its size.
absl::StatusOr<int64_t> HashFile(int fd, const std::string& path, common::Sha256& hash) {
  std::string buffer(size_t{1} << 20, '\0');
  int64_t total = 0;
  while (true) {
    const ssize_t count = read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return FileError(path, "read");
    }
    if (count == 0) {
      return total;
    }
    hash.Update({buffer.data(), static_cast<size_t>(count)});
    total += count;
  }
}

}  // namespace

absl::Status DownloadArtifact(Client& client,
                              const normlab::v1::Artifact& artifact,
                              const std::string& path) {
  const std::string part = path + ".part";
  const common::UniqueFd file(open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!file.valid()) {
    return FileError(part, "open");
  }
  std::optional<common::Sha256> hash(std::in_place);
  NORMLAB_ASSIGN_OR_RETURN(int64_t have, HashFile(file.get(), part, *hash));
  if (have > artifact.bytes()) {
    // Of something else.
    if (ftruncate(file.get(), 0) != 0 || lseek(file.get(), 0, SEEK_SET) != 0) {
      return FileError(part, "empty");
    }
    hash.emplace();
    have = 0;
  }
  NORMLAB_RETURN_IF_ERROR(
      client.ReadArtifact(artifact, have, [&](absl::string_view bytes) -> absl::Status {
        hash->Update(bytes);
        return WriteAll(file.get(), bytes, part);
      }));
  if (hash->FinishHex() != artifact.sha256()) {
    std::remove(part.c_str());
    return absl::DataLossError(absl::StrCat("what was downloaded of ", artifact.name(), " to ",
                                            part,
                                            " has another SHA-256 than the file that the job "
                                            "wrote; it was removed: download it again"));
  }
  if (fsync(file.get()) != 0) {
    return FileError(part, "flush");
  }
  if (std::rename(part.c_str(), path.c_str()) != 0) {
    return FileError(path, "create");
  }
  const std::string folder = std::filesystem::absolute(path).parent_path().string();
  return common::SyncFolder(folder);
}

}  // namespace normlab::client
