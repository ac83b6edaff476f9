#include "server/store/read_pool.h"

#include <utility>

#include "server/domain/errors.h"
#include "server/store/schema.h"

namespace normlab::server {

ReadPool::ReadPool(std::string path,
                   int max_connections,
                   std::function<void(const absl::Status&)> on_damage)
    : path_(std::move(path)), max_connections_(max_connections), on_damage_(std::move(on_damage)) {}

absl::StatusOr<std::unique_ptr<Connection>> ReadPool::Acquire() {
  {
    absl::MutexLock lock(&mu_);
    const auto ready = [this]() {
      mu_.AssertHeld();
      return closed_ || in_use_ < max_connections_;
    };
    mu_.Await(absl::Condition(&ready));
    if (closed_) {
      return ShuttingDown(absl::Seconds(1));
    }
    ++in_use_;
    if (!idle_.empty()) {
      std::unique_ptr<Connection> connection = std::move(idle_.back());
      idle_.pop_back();
      return connection;
    }
  }
  absl::StatusOr<std::unique_ptr<Connection>> opened = CatchSqlite(
      path_,
      [&]() -> absl::StatusOr<std::unique_ptr<Connection>> { return OpenForReading(path_); });
  if (!opened.ok()) {
    absl::MutexLock lock(&mu_);
    --in_use_;
  }
  return opened;
}

void ReadPool::Release(std::unique_ptr<Connection> connection) {
  absl::MutexLock lock(&mu_);
  idle_.push_back(std::move(connection));
  --in_use_;
}

void ReadPool::Close() {
  absl::MutexLock lock(&mu_);
  closed_ = true;
  const auto unused = [this]() {
    mu_.AssertHeld();
    return in_use_ == 0;
  };
  mu_.Await(absl::Condition(&unused));
  idle_.clear();
}

}  // namespace normlab::server
