#include "server/api/wait_for_end.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/clock.h"
#include "common/steady_wait.h"
#include "server/domain/errors.h"

namespace normlab::server {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(45);
constexpr absl::Duration kDrainRetry = absl::Seconds(1);
// How soon a server that ends is noticed, and how often a store in trouble is asked.
constexpr absl::Duration kLookInterval = absl::Milliseconds(200);

// Told by the hub. Shared with a callback that may run while the wait ends.
struct News {
  absl::Mutex mu;
  common::SteadyWait arrival;
  bool came ABSL_GUARDED_BY(mu) = true;
};

}  // namespace

absl::Status WaitForEnd(Backend& backend,
                        const std::string& key,
                        const std::string& name,
                        const std::function<absl::StatusOr<bool>()>& has_ended) {
  auto news = std::make_shared<News>();
  const std::unique_ptr<Hub::Subscription> subscription = backend.hub.Subscribe(key, [news] {
    absl::MutexLock lock(&news->mu);
    news->came = true;
    news->arrival.NotifyAll();
  });
  const common::Clock& clock = common::Clock::Real();
  const absl::Duration deadline = clock.Monotonic() + kTimeout;
  bool store_in_trouble = false;
  while (true) {
    if (backend.draining.load()) {
      return ShuttingDown(kDrainRetry);
    }
    const absl::Duration left = deadline - clock.Monotonic();
    if (left <= absl::ZeroDuration()) {
      return EndTakesTime(name);
    }
    bool came = false;
    {
      absl::MutexLock lock(&news->mu);
      news->arrival.WaitFor(news->mu, std::min(left, kLookInterval),
                            [&news]()
                                ABSL_EXCLUSIVE_LOCKS_REQUIRED(news->mu) { return news->came; });
      came = std::exchange(news->came, false);
    }
    if (!came && !store_in_trouble) {
      continue;
    }
    const absl::StatusOr<bool> ended = has_ended();
    store_in_trouble = absl::IsUnavailable(ended.status());
    if (!ended.ok() && !store_in_trouble) {
      return ended.status();
    }
    if (ended.ok() && *ended) {
      return absl::OkStatus();
    }
  }
}

}  // namespace normlab::server
