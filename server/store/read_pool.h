#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "server/store/connection.h"

namespace normlab::server {

// Connections for reads, opened as needed up to a number. Thread-safe.
class ReadPool {
 public:
  // `on_damage` is told of reads that end with DATA_LOSS, on the reader's thread.
  ReadPool(std::string path,
           int max_connections,
           std::function<void(const absl::Status&)> on_damage = nullptr);
  ~ReadPool() { Close(); }

  // Calls `body(Connection&)`, which returns a Status or StatusOr, with a connection of its own;
  // waits while all are in use. Exceptions of the library become a status. UNAVAILABLE after Close.
  template <typename Body>
  auto Read(Body&& body) -> decltype(body(std::declval<Connection&>())) {
    absl::StatusOr<std::unique_ptr<Connection>> connection = Acquire();
    if (!connection.ok()) {
      return connection.status();
    }
    auto answer = CatchSqlite(path_, [&] { return body(**connection); });
    Release(*std::move(connection));
    if (!answer.ok()) {
      Report(answer);
    }
    return answer;
  }

  // Waits for the reads under way; later ones are refused.
  void Close() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  template <typename T>
  void Report(const absl::StatusOr<T>& answer) const {
    Report(answer.status());
  }
  void Report(const absl::Status& status) const {
    if (on_damage_ != nullptr && absl::IsDataLoss(status)) {
      on_damage_(status);
    }
  }
  absl::StatusOr<std::unique_ptr<Connection>> Acquire() ABSL_LOCKS_EXCLUDED(mu_);
  void Release(std::unique_ptr<Connection> connection) ABSL_LOCKS_EXCLUDED(mu_);

  const std::string path_;
  const int max_connections_;
  const std::function<void(const absl::Status&)> on_damage_;
  absl::Mutex mu_;
  std::vector<std::unique_ptr<Connection>> idle_ ABSL_GUARDED_BY(mu_);
  int in_use_ ABSL_GUARDED_BY(mu_) = 0;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace normlab::server
