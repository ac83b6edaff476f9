#include "server/store/backup_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/sha256.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"
#include "server/domain/errors.h"

namespace normlab::server {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBlockBytes = 1 << 20;
constexpr char kLogName[] = "worker.log";

absl::Status FileError(absl::string_view what, const std::string& path, int error) {
  const std::string detail =
      absl::StrCat(what, " ", path, ": ", std::system_category().message(error));
  return error == ENOSPC || error == EDQUOT ? StorageFull(detail) : StorageUnavailable(detail);
}

absl::Status MakeFolders(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  return error ? FileError("cannot make the folder", path.string(), error.value())
               : absl::OkStatus();
}

// Copies one regular file and answers how long it is; `sha256`: what it must have, empty: anything.
absl::StatusOr<int64_t> CopyFile(const std::string& from,
                                 const std::string& to,
                                 const std::string& sha256) {
  const common::UniqueFd in(open(from.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat info = {};
  if (!in.valid() || fstat(in.get(), &info) != 0) {
    return FileError("cannot read", from, errno);
  }
  const common::UniqueFd out(
      open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!out.valid()) {
    return FileError("cannot write", to, errno);
  }
  common::Sha256 hash;
  std::vector<char> block(kBlockBytes);
  int64_t bytes = 0;
  while (true) {
    const ssize_t count = read(in.get(), block.data(), block.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return FileError("cannot read", from, errno);
    }
    if (count == 0) {
      break;
    }
    if (!sha256.empty()) {
      hash.Update(block.data(), static_cast<size_t>(count));
    }
    for (ssize_t written = 0; written < count;) {
      const ssize_t wrote =
          write(out.get(), block.data() + written, static_cast<size_t>(count - written));
      if (wrote < 0 && errno == EINTR) {
        continue;
      }
      if (wrote <= 0) {
        return FileError("cannot write", to, errno);
      }
      written += wrote;
    }
    bytes += count;
  }
  if (!sha256.empty() && hash.FinishHex() != sha256) {
    return absl::DataLossError(
        absl::StrCat(from,
                     " is not what was stored: its SHA-256 is another than the database has; "
                     "the disk has damaged it. Delete its job, or restore the file from an "
                     "earlier backup, and make this one again"));
  }
  const timespec times[2] = {info.st_atim, info.st_mtim};
  if (fchmod(out.get(), info.st_mode & 07777) != 0 || futimens(out.get(), times) != 0) {
    return FileError("cannot write", to, errno);
  }
  return bytes;
}

}  // namespace

absl::StatusOr<bool> LinkFile(const std::string& from,
                              const std::string& path,
                              const std::string& to) {
  const std::string source = absl::StrCat(from, "/", path);
  const std::string link_path = absl::StrCat(to, "/", path);
  NORMLAB_RETURN_IF_ERROR(MakeFolders(fs::path(link_path).parent_path()));
  if (link(source.c_str(), link_path.c_str()) == 0 || errno == EEXIST) {
    return true;
  }
  if (errno == ENOENT) {
    return false;
  }
  if (errno == EPERM || errno == EMLINK || errno == EOPNOTSUPP) {
    const absl::StatusOr<int64_t> copied = CopyFile(source, link_path, "");
    if (copied.ok()) {
      return true;
    }
    return access(source.c_str(), F_OK) != 0 ? absl::StatusOr<bool>(false) : copied.status();
  }
  return FileError("cannot link", source, errno);
}

absl::StatusOr<bool> LinkFolder(const std::string& from,
                                const std::string& path,
                                const std::string& to) {
  std::error_code error;
  bool any = false;
  for (fs::directory_iterator entry(absl::StrCat(from, "/", path), error), end;
       !error && entry != end; entry.increment(error)) {
    if (entry->symlink_status(error).type() != fs::file_type::regular) {
      continue;
    }
    NORMLAB_ASSIGN_OR_RETURN(
        const bool there,
        LinkFile(from, absl::StrCat(path, "/", entry->path().filename().string()), to));
    if (!there) {
      return false;
    }
    any = true;
  }
  if (error && error.value() != ENOENT) {
    return FileError("cannot read the folder", absl::StrCat(from, "/", path), error.value());
  }
  return any && !error;
}

absl::StatusOr<CopiedFiles> CopyTree(const std::string& from,
                                     const std::string& to,
                                     const std::map<std::string, std::string>& sha256) {
  CopiedFiles copied;
  std::error_code error;
  if (!fs::is_directory(from, error)) {
    return copied;
  }
  NORMLAB_RETURN_IF_ERROR(MakeFolders(to));
  fs::permissions(to, fs::status(from, error).permissions(), error);
  for (fs::recursive_directory_iterator entry(from, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string relative = entry->path().lexically_relative(from).string();
    const std::string target = absl::StrCat(to, "/", relative);
    const fs::file_status status = entry->symlink_status(error);
    if (error) {
      break;
    }
    if (status.type() == fs::file_type::directory) {
      NORMLAB_RETURN_IF_ERROR(MakeFolders(target));
      fs::permissions(target, status.permissions(), error);
    } else if (status.type() == fs::file_type::symlink) {
      fs::copy_symlink(entry->path(), target, error);
    } else if (status.type() == fs::file_type::regular) {
      const auto expected = sha256.find(relative);
      NORMLAB_ASSIGN_OR_RETURN(
          const int64_t bytes,
          CopyFile(entry->path().string(), target,
                   expected == sha256.end() ? std::string() : expected->second));
      ++copied.files;
      copied.bytes += bytes;
    }
  }
  return error ? absl::StatusOr<CopiedFiles>(FileError("cannot copy", from, error.value()))
               : copied;
}

absl::StatusOr<CopiedFiles> CopyLogs(const std::string& from, const std::string& to) {
  CopiedFiles copied;
  std::error_code error;
  // jobs/<id>/attempt-<n>/worker.log
  for (fs::directory_iterator job(from, error), end; !error && job != end; job.increment(error)) {
    std::error_code inner;
    for (fs::directory_iterator attempt(job->path(), inner), last; !inner && attempt != last;
         attempt.increment(inner)) {
      const fs::path log = attempt->path() / kLogName;
      if (!fs::is_regular_file(fs::symlink_status(log, inner))) {
        inner.clear();
        continue;
      }
      const fs::path folder = fs::path(to) / job->path().filename() / attempt->path().filename();
      NORMLAB_RETURN_IF_ERROR(MakeFolders(folder));
      const absl::StatusOr<int64_t> bytes =
          CopyFile(log.string(), (folder / kLogName).string(), "");
      if (!bytes.ok() && !fs::exists(log, inner)) {
        continue;  // of a job that was deleted just now
      }
      NORMLAB_RETURN_IF_ERROR(bytes.status());
      ++copied.files;
      copied.bytes += *bytes;
    }
  }
  return copied;
}

absl::Status RemoveFolder(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  return error ? FileError("cannot remove", path, error.value()) : absl::OkStatus();
}

absl::Status FlushFilesystem(const std::string& path) {
  const common::UniqueFd folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid() || syncfs(folder.get()) != 0) {
    return FileError("cannot flush", path, errno);
  }
  return absl::OkStatus();
}

}  // namespace normlab::server
