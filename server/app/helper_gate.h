#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "server/executor/helper.h"

namespace normlab::server {

// A Helper that can be closed while others still hold it: calls in progress and later ones answer
// UNAVAILABLE, so that a shutdown never waits for a data set to be decoded. Thread-safe.
class HelperGate final : public Helper {
 public:
  explicit HelperGate(std::unique_ptr<Helper> helper) : helper_(std::move(helper)) {}

  void Call(v1::HelperRequest request, absl::Duration timeout, Callback done) override {
    {
      absl::ReaderMutexLock lock(&mu_);
      if (helper_ != nullptr) {
        helper_->Call(std::move(request), timeout, std::move(done));
        return;
      }
    }
    std::move(done)(absl::UnavailableError("the server is shutting down; try again soon"));
  }

  void CallInTurn(std::string owner,
                  v1::HelperRequest request,
                  absl::Duration timeout,
                  Callback done) override {
    {
      absl::ReaderMutexLock lock(&mu_);
      if (helper_ != nullptr) {
        helper_->CallInTurn(std::move(owner), std::move(request), timeout, std::move(done));
        return;
      }
    }
    std::move(done)(absl::UnavailableError("the server is shutting down; try again soon"));
  }

  void Close() {
    std::unique_ptr<Helper> closed;
    absl::MutexLock lock(&mu_);
    closed = std::move(helper_);
    // Destroyed after the lock is released: that runs callbacks.
  }

 private:
  absl::Mutex mu_;
  std::unique_ptr<Helper> helper_ ABSL_GUARDED_BY(mu_);
};

}  // namespace normlab::server
