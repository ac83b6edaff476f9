#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include <grpcpp/security/server_credentials.h>

#include "common/steady_wait.h"
#include "common/unique_fd.h"
#include "server/app/tls.h"

namespace normlab::server {

// Keeps a listener's certificate up to date. The files are looked at every second; when they changed and
// are good together (CheckTlsFiles), they serve the next connection. When they are not, in the middle of
// a renewal or for good, what was served before is served on, and the log and healthy() say so.
//
// gRPC reads files by itself but takes whatever it finds; so it is given our own copies, in memory, as
// /proc/self/fd/N, which are replaced only by good ones.
//
// Thread-safe; owns a thread. Must outlive the listener that has its credentials.
class TlsKeeper {
 public:
  // Errors of CheckTlsFiles; `files` are enabled.
  static absl::StatusOr<std::unique_ptr<TlsKeeper>> Start(TlsFiles files);
  ~TlsKeeper();
  TlsKeeper(const TlsKeeper&) = delete;
  TlsKeeper& operator=(const TlsKeeper&) = delete;

  // TLS 1.2 or later; with a client authority, only clients that show a certificate of it get through.
  std::shared_ptr<grpc::ServerCredentials> MakeCredentials() const;
  // The files as they are now are those that are served.
  bool healthy() const { return healthy_.load(); }
  // When the certificate that is served ends.
  absl::Time certificate_end() const;

 private:
  explicit TlsKeeper(TlsFiles files) : files_(std::move(files)) {}

  void Watch();
  // Looks at the files and takes them when they are good and not those that are served.
  void Look() ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Serve(const TlsTexts& texts) ABSL_LOCKS_EXCLUDED(mu_);

  const TlsFiles files_;
  // Descriptors whose numbers stay while what they stand for is replaced: certificate, key, authority.
  std::array<common::UniqueFd, 3> copies_;
  TlsTexts served_;           // the thread's own after the start
  std::string last_problem_;  // the thread's own
  std::atomic<bool> healthy_ = true;

  mutable absl::Mutex mu_;
  common::SteadyWait wakes_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time end_ ABSL_GUARDED_BY(mu_);

  std::thread thread_;  // last: it uses everything above
};

}  // namespace normlab::server
