#include "common/open_beneath.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace normlab::common {
namespace {

absl::Status OpenError(int error, const std::string& relative) {
  if (error == EXDEV || error == ELOOP) {
    return absl::PermissionDeniedError(absl::StrCat(relative, " leads outside of its root"));
  }
  return absl::ErrnoToStatus(error, absl::StrCat("cannot open ", relative));
}

}  // namespace

// One component after the other, no links, no way up.
absl::StatusOr<UniqueFd> WalkBeneath(int root, const std::string& relative, int flags) {
  const std::vector<std::string> parts = absl::StrSplit(
      relative, '/', [](absl::string_view part) { return !part.empty() && part != "."; });
  UniqueFd folder(openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  for (size_t i = 0; folder.valid() && i < parts.size(); ++i) {
    if (parts[i] == "..") {
      return OpenError(EXDEV, relative);
    }
    const bool last = i + 1 == parts.size();
    const int part_flags = last ? flags : O_PATH | O_DIRECTORY;
    folder = UniqueFd(openat(folder.get(), parts[i].c_str(), part_flags | O_NOFOLLOW | O_CLOEXEC));
  }
  if (!folder.valid()) {
    return OpenError(errno, relative);
  }
  return folder;
}

absl::StatusOr<UniqueFd> OpenBeneath(int root,
                                     const std::string& relative,
                                     int flags,
                                     Links links) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = static_cast<uint64_t>(RESOLVE_BENEATH) |
                (links == Links::kNone ? RESOLVE_NO_SYMLINKS : RESOLVE_NO_MAGICLINKS);
  const auto fd = static_cast<int>(syscall(SYS_openat2, root, relative.c_str(), &how, sizeof(how)));
  if (fd >= 0) {
    return UniqueFd(fd);
  }
  // Older container runtimes answer EPERM for calls that their filter does not know.
  if (errno == ENOSYS || errno == EPERM) {
    return WalkBeneath(root, relative, flags);
  }
  return OpenError(errno, relative);
}

}  // namespace normlab::common
