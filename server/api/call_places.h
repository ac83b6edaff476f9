#pragma once

#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace normlab::server {

// Bounds calls that each take much memory (a CreateExperiment may hold ten thousand jobs): so many at
// a time, and fewer of one owner, so that nobody takes all places. Thread-safe.
class CallPlaces {
 public:
  static constexpr int kPlaces = 6;
  static constexpr int kPlacesPerOwner = 2;

  // False: none is free for the owner. True: to be followed by Return.
  bool Take(const std::string& owner) ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    const auto taken = taken_by_.find(owner);
    if (taken_ == kPlaces || (taken != taken_by_.end() && taken->second == kPlacesPerOwner)) {
      return false;
    }
    ++taken_;
    ++taken_by_[owner];
    return true;
  }

  void Return(const std::string& owner) ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    --taken_;
    if (const auto taken = taken_by_.find(owner); --taken->second == 0) {
      taken_by_.erase(taken);
    }
  }

 private:
  absl::Mutex mu_;
  int taken_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, int> taken_by_ ABSL_GUARDED_BY(mu_);
};

}  // namespace normlab::server
