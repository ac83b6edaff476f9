#include "server/store/checkpointer.h"

#include <sqlite3.h>

#include <algorithm>
#include <utility>

#include "server/domain/errors.h"

namespace normlab::server {
namespace {

// 4 MB of 4 KiB pages: large enough to write each hot page once for many commits.
constexpr int kPagesToStart = 1000;
// 16 MB: commits and readers have kept the log from starting over for a while. What is left after a
// passive checkpoint is then taken with the writer held up, some milliseconds.
constexpr int kPagesToRestart = 4000;
// After a failure; the log goes on growing meanwhile, and commits with it.
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

}  // namespace

Checkpointer::Checkpointer(std::unique_ptr<Connection> connection)
    : connection_(std::move(connection)), thread_([this] { Run(); }) {}

Checkpointer::~Checkpointer() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    stopped_.NotifyAll();
  }
  thread_.join();
}

void Checkpointer::LogGrew(int pages) {
  absl::MutexLock lock(&mu_);
  pages_ = pages;
}

absl::Status Checkpointer::Health() const {
  absl::MutexLock lock(&mu_);
  return health_;
}

void Checkpointer::Run() {
  while (true) {
    int pages = 0;
    {
      absl::MutexLock lock(&mu_);
      const auto wake = [this]() {
        mu_.AssertHeld();
        return stopping_ || pages_ >= kPagesToStart;
      };
      mu_.Await(absl::Condition(&wake));
      if (stopping_) {
        return;
      }
      pages = std::exchange(pages_, 0);
    }
    absl::Status status = Checkpoint(pages);
    absl::MutexLock lock(&mu_);
    health_ = std::move(status);
    if (!health_.ok()) {
      // Tried again even when nothing is written any more: nobody else would notice that the disk
      // has recovered.
      pages_ = std::max(pages_, pages);
      stopped_.WaitFor(mu_, kRetryAfter,
                       [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stopping_; });
    }
  }
}

absl::Status Checkpointer::Checkpoint(int pages) {
  // PASSIVE takes what no reader needs and blocks nobody.
  absl::Status status = RunMode(SQLITE_CHECKPOINT_PASSIVE);
  if (status.ok() && pages >= kPagesToRestart) {
    status = RunMode(SQLITE_CHECKPOINT_RESTART);
  }
  return status;
}

absl::Status Checkpointer::RunMode(int mode) {
  sqlite3* handle = connection_->database().getHandle();
  const int code = sqlite3_wal_checkpoint_v2(handle, nullptr, mode, nullptr, nullptr);
  if (code == SQLITE_OK || code == SQLITE_BUSY || code == SQLITE_LOCKED) {
    return absl::OkStatus();
  }
  return StatusFromSqlite(SQLite::Exception(handle, code), connection_->path());
}

}  // namespace normlab::server
