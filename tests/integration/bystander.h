#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include <grpcpp/channel.h>

#include "normlab/v1/jobs.grpc.pb.h"

namespace normlab {

// Another client, which calls all the while in a thread of its own. Not thread-safe.
class Bystander {
 public:
  explicit Bystander(const std::shared_ptr<grpc::Channel>& channel)
      : thread_([this, stub = v1::Jobs::NewStub(channel)] {
          do {
            grpc::ClientContext context;
            v1::ListJobsResponse response;
            const absl::Time start = absl::Now();
            const grpc::Status status = stub->ListJobs(&context, {}, &response);
            latencies_.push_back(absl::Now() - start);
            failures_ += status.ok() ? 0 : 1;
            absl::SleepFor(absl::Milliseconds(2));
          } while (!stop_.load());
        }) {}

  struct Result {
    size_t calls = 0;
    int failures = 0;
    absl::Duration median;
    absl::Duration worst;
  };
  // Ends it, after the first call at the earliest. Once.
  Result Stop() {
    stop_.store(true);
    thread_.join();
    std::sort(latencies_.begin(), latencies_.end());
    return {latencies_.size(), failures_, latencies_[latencies_.size() / 2], latencies_.back()};
  }

 private:
  std::atomic<bool> stop_ = false;
  std::vector<absl::Duration> latencies_;
  int failures_ = 0;
  std::thread thread_;
};

}  // namespace normlab
