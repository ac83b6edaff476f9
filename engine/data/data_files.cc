#include "engine/data/data_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

#include "common/open_beneath.h"
#include "common/status_macros.h"

namespace normlab::engine {
namespace {

using common::OpenBeneath;
using common::UniqueFd;

constexpr int kOpenAttempts = 10;
// On a NOT_FOUND: the folder itself is not there.
constexpr char kFolderMissingUrl[] = "normlab/folder_missing";

absl::Status MissingFolder(std::string message) {
  absl::Status status = absl::NotFoundError(std::move(message));
  status.SetPayload(kFolderMissingUrl, absl::Cord());
  return status;
}

// The part of an absolute path below an absolute root; nullopt when it does not lie below it.
std::optional<std::string> Below(absl::string_view root, absl::string_view path) {
  while (root.size() > 1 && absl::ConsumeSuffix(&root, "/")) {
  }
  if (!absl::ConsumePrefix(&path, root) || (!path.empty() && path.front() != '/' && root != "/")) {
    return std::nullopt;
  }
  while (absl::ConsumePrefix(&path, "/")) {
  }
  return path.empty() ? "." : std::string(path);
}

absl::StatusOr<DataFile> OpenOne(int root, const std::string& relative, std::string path) {
  // O_NONBLOCK: opening a pipe must not wait for a writer.
  NORMLAB_ASSIGN_OR_RETURN(UniqueFd fd, OpenBeneath(root, relative, O_RDONLY | O_NONBLOCK));
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot look at ", path));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError("not a regular file");
  }
  NORMLAB_ASSIGN_OR_RETURN(const FileIdentity identity, IdentityOf(fd.get()));
  return DataFile{.fd = std::move(fd), .path = std::move(path), .name = {}, .identity = identity};
}

// Opens `name`, or else `name`.gz, of a folder. NOT_FOUND: there is neither.
absl::StatusOr<DataFile> OpenPlainOrGzip(int root,
                                         const std::string& relative,
                                         const std::string& shown,
                                         const std::string& name) {
  absl::StatusOr<DataFile> opened = absl::NotFoundError("");
  for (const absl::string_view suffix : {"", ".gz"}) {
    const std::string file = absl::StrCat(name, suffix);
    opened = OpenOne(root, absl::StrCat(relative, "/", file), absl::StrCat(shown, "/", file));
    if (!absl::IsNotFound(opened.status())) {
      break;
    }
  }
  if (opened.ok()) {
    opened->name = name;
  }
  return opened;
}

// All files of one candidate folder, or a sentence that says why not.
absl::StatusOr<std::vector<DataFile>> OpenFolder(const std::string& root,
                                                 const std::string& relative,
                                                 absl::Span<const std::string> names,
                                                 absl::Span<const std::string> optional_names) {
  const std::string shown = relative == "." ? root : absl::StrCat(root, "/", relative);
  const UniqueFd root_fd(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root_fd.valid()) {
    return MissingFolder(absl::StrCat("data root ", root, " cannot be opened"));
  }
  const auto folder = OpenBeneath(root_fd.get(), relative, O_PATH | O_DIRECTORY);
  if (!folder.ok()) {
    if (absl::IsNotFound(folder.status())) {
      return MissingFolder(absl::StrCat(shown, " does not exist"));
    }
    return absl::NotFoundError(
        absl::IsPermissionDenied(folder.status())
            ? absl::StrCat(shown, " leads outside of the data root or may not be read")
            : absl::StrCat(shown, " is not a folder that can be opened"));
  }
  std::vector<DataFile> files;
  std::vector<std::string> problems;
  const auto open_all = [&](absl::Span<const std::string> wanted, bool required) {
    for (const std::string& name : wanted) {
      auto file = OpenPlainOrGzip(root_fd.get(), relative, shown, name);
      if (file.ok()) {
        files.push_back(*std::move(file));
      } else if (!absl::IsNotFound(file.status())) {
        problems.push_back(
            absl::StrCat("has a ", name, " that cannot be used: ", file.status().message()));
      } else if (required) {
        problems.push_back(absl::StrCat("has no ", name, " or ", name, ".gz"));
      }
    }
  };
  open_all(names, /*required=*/true);
  open_all(optional_names, /*required=*/false);
  if (!problems.empty()) {
    return absl::NotFoundError(absl::StrCat(shown, " ", absl::StrJoin(problems, ", ")));
  }
  return files;
}

}  // namespace

std::string FileIdentity::ToString() const {
  return absl::StrCat(device, ":", inode, ":", bytes, ":", modified_ns);
}

absl::StatusOr<FileIdentity> IdentityOf(int fd) {
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    return absl::InternalError(absl::ErrnoToStatus(errno, "fstat").message());
  }
  return FileIdentity{
      .device = info.st_dev,
      .inode = info.st_ino,
      .bytes = info.st_size,
      .modified_ns = int64_t{info.st_mtim.tv_sec} * 1000000000 + info.st_mtim.tv_nsec};
}

absl::StatusOr<std::vector<DataFile>> OpenDataFiles(const std::string& path,
                                                    absl::Span<const std::string> roots,
                                                    absl::Span<const std::string> names,
                                                    absl::Span<const std::string> optional_names) {
  const bool absolute = absl::StartsWith(path, "/");
  std::vector<std::string> problems;
  bool missing = true;
  for (const std::string& root : roots) {
    const std::optional<std::string> relative = absolute ? Below(root, path) : path;
    if (!relative.has_value()) {
      continue;
    }
    auto files = OpenFolder(root, *relative, names, optional_names);
    if (files.ok()) {
      return files;
    }
    problems.emplace_back(files.status().message());
    missing = missing && FolderIsMissing(files.status());
  }
  if (problems.empty()) {
    return absl::NotFoundError(roots.empty()
                                   ? "this server has no data roots"
                                   : absl::StrCat("the folder does not lie below a data root (",
                                                  absl::StrJoin(roots, ", "), ")"));
  }
  std::string text = absl::StrJoin(problems, "; ");
  return missing ? MissingFolder(std::move(text)) : absl::NotFoundError(text);
}

bool FolderIsMissing(const absl::Status& status) {
  return status.GetPayload(kFolderMissingUrl).has_value();
}

absl::StatusOr<DataFile> OpenDataFile(const std::string& path,
                                      absl::Span<const std::string> roots) {
  const size_t slash = path.rfind('/');
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") {
    return absl::NotFoundError("the path names a folder, not a file");
  }
  const std::string folder = slash == std::string::npos ? "."
                             : slash == 0               ? "/"
                                                        : path.substr(0, slash);
  NORMLAB_ASSIGN_OR_RETURN(std::vector<DataFile> files, OpenDataFiles(folder, roots, {name}));
  return std::move(files[0]);
}

absl::Status CheckUnchanged(const DataFile& file) {
  NORMLAB_ASSIGN_OR_RETURN(const FileIdentity now, IdentityOf(file.fd.get()));
  if (now == file.identity) {
    return absl::OkStatus();
  }
  return absl::AbortedError(
      absl::StrCat(file.path, " changed while it was read; try again when it is complete"));
}

}  // namespace normlab::engine
