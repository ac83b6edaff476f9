#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "server/scheduler/controller.h"

namespace normlab::server {

// A Controller that schedules nothing and remembers what it was told. Thread-safe.
class FakeController final : public Controller {
 public:
  absl::Status Start() override { return absl::OkStatus(); }
  void JobChanged(const v1::Job& job) override {
    absl::MutexLock lock(&mu_);
    changed_.push_back(job);
  }
  void Connected(const v1::Hello& /*hello*/,
                 std::shared_ptr<WorkerSession> /*session*/,
                 absl::AnyInvocable<void(absl::StatusOr<v1::Welcome>) &&> done) override {
    std::move(done)(absl::UnimplementedError("a fake has no workers"));
  }
  void Disconnected(const AttemptKey& /*attempt*/, const WorkerSession* /*session*/) override {}
  void Stop() override {}
  Load GetLoad() override { return {}; }
  std::map<std::string, absl::Duration> Silences(std::vector<std::string> job_ids) override {
    absl::MutexLock lock(&mu_);
    std::map<std::string, absl::Duration> silences;
    for (const std::string& id : job_ids) {
      silences[id] = silence_;
    }
    return silences;
  }
  // Of every job that runs.
  void set_silence(absl::Duration silence) {
    absl::MutexLock lock(&mu_);
    silence_ = silence;
  }

  std::vector<v1::Job> changed() const {
    absl::MutexLock lock(&mu_);
    return changed_;
  }

 private:
  mutable absl::Mutex mu_;
  std::vector<v1::Job> changed_ ABSL_GUARDED_BY(mu_);
  absl::Duration silence_ ABSL_GUARDED_BY(mu_);
};

}  // namespace normlab::server
