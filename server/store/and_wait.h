#pragma once

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace normlab::server {

// Waits for the answer of something that is told to answer: `start` is called with a callback that takes an Answer, on whatever
// thread.
template <typename Answer, typename Start>
Answer AnswerOf(Start start) {
  struct Waiting {
    absl::Mutex mu;
    bool answered ABSL_GUARDED_BY(mu) = false;
    Answer answer ABSL_GUARDED_BY(mu);
  };
  // Shared, as this may be back before the callback has let go of the lock.
  const auto waiting = std::make_shared<Waiting>();
  start([waiting](Answer answer) {
    absl::MutexLock lock(&waiting->mu);
    waiting->answer = std::move(answer);
    waiting->answered = true;
  });
  absl::MutexLock lock(&waiting->mu);
  waiting->mu.Await(absl::Condition(&waiting->answered));
  return std::move(waiting->answer);
}

}  // namespace normlab::server
