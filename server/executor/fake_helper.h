#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "server/executor/helper.h"

namespace normlab::server {

// A Helper without a process, for tests: answers every call at once (or when told to), on the
// calling thread, from a function (by default a data set of 10 28x28 grey images of 10 classes in
// /cache/data). Thread-safe.
class FakeHelper final : public Helper {
 public:
  using Handler = std::function<absl::StatusOr<v1::HelperResponse>(const v1::HelperRequest&)>;

  void SetHandler(Handler handler) {
    absl::MutexLock lock(&mu_);
    handler_ = std::move(handler);
  }

  void Call(v1::HelperRequest request, absl::Duration timeout, Callback done) override {
    (void)timeout;
    absl::ReleasableMutexLock lock(&mu_);
    request.set_id(++last_id_);
    requests_.push_back(request);
    if (hold_) {
      held_.emplace_back(std::move(request), std::move(done));
      return;
    }
    const Handler handler = handler_;
    lock.Release();
    std::move(done)(handler ? handler(request) : Default(request));
  }

  // Keeps calls unanswered until Release.
  void Hold() {
    absl::MutexLock lock(&mu_);
    hold_ = true;
  }
  void Release() {
    std::vector<std::pair<v1::HelperRequest, Callback>> held;
    Handler handler;
    {
      absl::MutexLock lock(&mu_);
      hold_ = false;
      held.swap(held_);
      handler = handler_;
    }
    for (auto& [request, done] : held) {
      std::move(done)(handler ? handler(request) : Default(request));
    }
  }

  std::vector<v1::HelperRequest> requests() const {
    absl::MutexLock lock(&mu_);
    return requests_;
  }

 private:
  static v1::HelperResponse Default(const v1::HelperRequest& request) {
    v1::HelperResponse response;
    response.set_id(request.id());
    if (request.has_engine_info()) {
      response.mutable_engine_info()->set_isa("FAKE");
      response.mutable_engine_info()->set_onednn_version("0.0.0");
      return response;
    }
    v1::DataReport& data = *response.mutable_data();
    data.set_data_cache("/cache/data");
    data.set_train_examples(10);
    data.set_test_examples(10);
    data.set_channels(1);
    data.set_height(28);
    data.set_width(28);
    data.set_classes(10);
    return response;
  }

  mutable absl::Mutex mu_;
  Handler handler_ ABSL_GUARDED_BY(mu_);
  bool hold_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::pair<v1::HelperRequest, Callback>> held_ ABSL_GUARDED_BY(mu_);
  int64_t last_id_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<v1::HelperRequest> requests_ ABSL_GUARDED_BY(mu_);
};

}  // namespace normlab::server
