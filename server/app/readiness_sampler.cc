#include "server/app/readiness_sampler.h"

#include <cstdint>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/steady_wait.h"

namespace normlab::server {
namespace {

// A local disk answers within microseconds, and a scrape has 20 ms.
constexpr absl::Duration kPatience = absl::Milliseconds(10);

}  // namespace

struct ReadinessSampler::State {
  explicit State(std::function<Sample()> given) : look(std::move(given)) {}

  const std::function<Sample()> look;
  absl::Mutex mu;
  common::SteadyWait looked;
  bool looking ABSL_GUARDED_BY(mu) = false;
  int64_t looks ABSL_GUARDED_BY(mu) = 0;  // that have ended
  Sample last ABSL_GUARDED_BY(mu);
};

ReadinessSampler::ReadinessSampler(WorkPool& pool, std::function<Sample()> look)
    : state_(std::make_shared<State>(std::move(look))), pool_(pool) {}

ReadinessSampler::~ReadinessSampler() = default;

ReadinessSampler::Sample ReadinessSampler::Latest() {
  bool begin = false;
  int64_t looks_before = 0;
  {
    absl::MutexLock lock(&state_->mu);
    begin = !std::exchange(state_->looking, true);
    looks_before = state_->looks;
  }
  if (begin) {
    pool_.Post([state = state_] {
      Sample seen = state->look();
      absl::MutexLock lock(&state->mu);
      state->last = std::move(seen);
      state->looking = false;
      ++state->looks;
      state->looked.NotifyAll();
    });
  }
  absl::MutexLock lock(&state_->mu);
  state_->looked.WaitFor(state_->mu, kPatience,
                         [this, looks_before]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mu) {
                           return state_->looks > looks_before;
                         });
  return state_->last;
}

}  // namespace normlab::server
