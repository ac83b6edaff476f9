#include "common/read_at.h"

#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"

namespace normlab::common {

absl::StatusOr<int64_t> ReadAt(int fd, void* to, int64_t size, int64_t offset) {
  int64_t done = 0;
  while (done < size) {
    const ssize_t got =
        pread(fd, static_cast<char*>(to) + done, static_cast<size_t>(size - done), offset + done);
    if (got == 0) {
      break;
    }
    if (got < 0 && errno != EINTR) {
      return absl::ErrnoToStatus(errno, "cannot be read");
    }
    done += got > 0 ? got : 0;
  }
  return done;
}

}  // namespace normlab::common
