#pragma once

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
  ReadPool(std::string path, int max_connections);
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
    return answer;
  }

  // Waits for the reads under way; later ones are refused.
  void Close() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  absl::StatusOr<std::unique_ptr<Connection>> Acquire() ABSL_LOCKS_EXCLUDED(mu_);
  void Release(std::unique_ptr<Connection> connection) ABSL_LOCKS_EXCLUDED(mu_);

  const std::string path_;
  const int max_connections_;
  absl::Mutex mu_;
  std::vector<std::unique_ptr<Connection>> idle_ ABSL_GUARDED_BY(mu_);
  int in_use_ ABSL_GUARDED_BY(mu_) = 0;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace normlab::server
