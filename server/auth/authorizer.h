#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "common/clock.h"
#include "server/auth/caller.h"
#include "server/auth/rate_limiter.h"
#include "server/auth/token_store.h"
#include "server/monitor/observer.h"

namespace normlab::server {

struct AccessLimits {
  double requests_per_second = 0;  // of one owner, in the long run; 0: no limit
  int streams_per_owner = 0;       // open at once; 0: no limit
};

// Decides who makes a call, whether they may, and whether now; writes the audit log. Thread-safe;
// nothing here blocks for more than a log line.
class Authorizer {
 public:
  // Everybody is an admin who owns kLocalOwner's jobs: --auth=none. Without limits, as there is
  // nobody to protect from anybody.
  Authorizer() = default;
  // Callers prove who they are by a token. `observer` must outlive it.
  Authorizer(std::unique_ptr<TokenStore> tokens,
             AccessLimits limits,
             Observer& observer,
             const common::Clock& clock = common::Clock::Real());
  Authorizer(const Authorizer&) = delete;
  Authorizer& operator=(const Authorizer&) = delete;

  // One that lets everybody do everything; lives for ever.
  static Authorizer& AllowAll();

  // Who calls `method`, having sent this `authorization` metadata ("Bearer <token>"; empty: none).
  //   UNAUTHENTICATED: no token, or one that stands for nobody
  //   PERMISSION_DENIED: the role is too low, or the method has no rule
  //   RESOURCE_EXHAUSTED with RetryInfo: the owner calls too often
  // A refusal is in the audit log, as coming from `peer`.
  absl::StatusOr<Caller> Authorize(absl::string_view method,
                                   absl::string_view authorization,
                                   absl::string_view peer);

  // A place among the open streams of an owner, until it is destroyed.
  class StreamLease {
   public:
    StreamLease() = default;
    StreamLease(StreamLease&& other) noexcept;
    StreamLease& operator=(StreamLease&& other) noexcept;
    ~StreamLease();

   private:
    friend class Authorizer;
    StreamLease(Authorizer* authorizer, std::string owner)
        : authorizer_(authorizer), owner_(std::move(owner)) {}
    Authorizer* authorizer_ = nullptr;
    std::string owner_;
  };
  // RESOURCE_EXHAUSTED with RetryInfo: the owner has too many already.
  absl::StatusOr<StreamLease> OpenStream(const Caller& caller);

  // For a stream that stays open: whether its caller still may read. `seen` is the caller's own, 0
  // at first. UNAUTHENTICATED: the token was taken out of the file, or changed. Cheap.
  absl::Status StillAuthorized(const Caller& caller, int64_t& seen) const;

  // Notes what became of a call that changes something.
  void Audit(const Caller& caller,
             absl::string_view method,
             absl::string_view resource,
             absl::string_view peer,
             const absl::Status& outcome);

  // Notes a call that was refused for what it is about: a name that does not exist for the caller.
  // Lines are bounded like those of other refusals, so that whoever tries names cannot fill the
  // disk with them; what is left out is counted.
  void AuditRefused(const Caller& caller,
                    absl::string_view method,
                    absl::string_view resource,
                    absl::string_view peer,
                    const absl::Status& why);

 private:
  absl::StatusOr<Caller> Decide(absl::string_view method,
                                absl::string_view authorization,
                                Caller& known);
  void CloseStream(const std::string& owner);

  const std::unique_ptr<TokenStore> tokens_;  // null: --auth=none
  const AccessLimits limits_{};
  Observer* const observer_ = nullptr;
  const common::Clock* const clock_ = &common::Clock::Real();
  RateLimiter calls_{0, 0};
  // Whoever has no token must not be able to fill the disk with lines about them.
  RateLimiter refusal_lines_{5, 50};
  absl::Mutex mu_;
  std::map<std::string, int> streams_ ABSL_GUARDED_BY(mu_);
  int64_t unlogged_refusals_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace normlab::server
