#include "server/stream/hub.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

namespace normlab::server {

// Shared by the subscription and by the calls under way, so that whoever is last frees it.
struct Hub::Entry {
  explicit Entry(std::function<void()> callback) : on_news(std::move(callback)) {}

  void Call() ABSL_LOCKS_EXCLUDED(mu) {
    {
      absl::MutexLock lock(&mu);
      if (ended) {
        return;
      }
      running.push_back(std::this_thread::get_id());
    }
    on_news();
    absl::MutexLock lock(&mu);
    running.erase(std::find(running.begin(), running.end(), std::this_thread::get_id()));
  }

  void End() ABSL_LOCKS_EXCLUDED(mu) {
    absl::MutexLock lock(&mu);
    ended = true;
    // Calls of this very thread are further down its stack and cannot be waited for. (The condition
    // itself may be evaluated by other threads.)
    const auto others_are_done = [this, self = std::this_thread::get_id()]() {
      mu.AssertHeld();
      return std::all_of(running.begin(), running.end(),
                         [&](std::thread::id id) { return id == self; });
    };
    mu.Await(absl::Condition(&others_are_done));
  }

  void Committed(int64_t sequence) {
    int64_t known = last.load(std::memory_order_relaxed);
    while (known < sequence &&
           !last.compare_exchange_weak(known, sequence, std::memory_order_relaxed)) {
    }
  }

  const std::function<void()> on_news;
  std::atomic<int64_t> sent = -1;  // never told: -1
  std::atomic<int64_t> last = 0;   // record of the job that was committed, as far as was told
  absl::Mutex mu;
  bool ended ABSL_GUARDED_BY(mu) = false;
  std::vector<std::thread::id> running ABSL_GUARDED_BY(mu);
};

Hub::Subscription::Subscription(Hub& hub, std::string job_id, std::shared_ptr<Entry> entry)
    : hub_(hub), job_id_(std::move(job_id)), entry_(std::move(entry)) {}

Hub::Subscription::~Subscription() {
  hub_.Remove(job_id_, entry_.get());
  entry_->End();
}

void Hub::Subscription::Sent(int64_t sequence, int64_t last) {
  entry_->Committed(std::max(sequence, last));
  entry_->sent.store(sequence, std::memory_order_relaxed);
}

std::unique_ptr<Hub::Subscription> Hub::Subscribe(const std::string& job_id,
                                                  std::function<void()> on_news) {
  auto entry = std::make_shared<Entry>(std::move(on_news));
  Entries observers;
  {
    absl::MutexLock lock(&mu_);
    Entries& subscribers = subscribers_[job_id];
    subscribers.push_back(entry);
    ++subscriber_count_;
    if (subscribers.size() == 1) {
      observers = Find(audience_observers_, job_id);
    }
  }
  CallAll(observers);
  return std::make_unique<Subscription>(*this, job_id, std::move(entry));
}

bool Hub::HasSubscribers(const std::string& job_id) const {
  absl::MutexLock lock(&mu_);
  return subscribers_.contains(job_id);
}

std::unique_ptr<Hub::Subscription> Hub::ObserveAudience(const std::string& job_id,
                                                        std::function<void()> on_change) {
  auto entry = std::make_shared<Entry>(std::move(on_change));
  {
    absl::MutexLock lock(&mu_);
    audience_observers_[job_id].push_back(entry);
  }
  return std::make_unique<Subscription>(*this, job_id, std::move(entry));
}

void Hub::Published(const std::string& job_id, int64_t last_sequence, bool /*terminal*/) {
  Entries to_call;
  {
    absl::MutexLock lock(&mu_);
    to_call = Find(subscribers_, job_id);
  }
  for (const std::shared_ptr<Entry>& entry : to_call) {
    entry->Committed(last_sequence);
  }
  CallAll(to_call);
}

int64_t Hub::subscriber_count() const {
  absl::MutexLock lock(&mu_);
  return subscriber_count_;
}

int64_t Hub::MaxLag() const {
  absl::MutexLock lock(&mu_);
  int64_t most = 0;
  for (const auto& [job_id, entries] : subscribers_) {
    for (const std::shared_ptr<Entry>& entry : entries) {
      const int64_t sent = entry->sent.load(std::memory_order_relaxed);
      if (sent >= 0) {
        most = std::max(most, entry->last.load(std::memory_order_relaxed) - sent);
      }
    }
  }
  return most;
}

void Hub::Remove(const std::string& job_id, const Entry* entry) {
  Entries observers;
  {
    absl::MutexLock lock(&mu_);
    if (Erase(subscribers_, job_id, entry)) {
      --subscriber_count_;
      if (!subscribers_.contains(job_id)) {
        observers = Find(audience_observers_, job_id);
      }
    } else {
      Erase(audience_observers_, job_id, entry);
    }
  }
  CallAll(observers);
}

bool Hub::Erase(EntriesByJob& from, const std::string& job_id, const Entry* entry) {
  const auto it = from.find(job_id);
  if (it == from.end() ||
      std::erase_if(it->second, [entry](const auto& other) { return other.get() == entry; }) == 0) {
    return false;
  }
  if (it->second.empty()) {
    from.erase(it);
  }
  return true;
}

Hub::Entries Hub::Find(const EntriesByJob& in, const std::string& job_id) {
  const auto it = in.find(job_id);
  return it == in.end() ? Entries() : it->second;
}

void Hub::CallAll(const Entries& entries) {
  for (const std::shared_ptr<Entry>& entry : entries) {
    entry->Call();
  }
}

}  // namespace normlab::server
