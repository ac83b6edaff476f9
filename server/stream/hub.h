#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"

namespace normlab::server {

// Tells subscribers that a job has new records, or that states of an experiment's jobs changed
// (under its name, experiments/<id>, where others give a job's id); carries no data (a subscriber is a cursor over the
// store, never a queue). Thread-safe. Must outlive its subscriptions.
class Hub {
 public:
  // Ends on destruction; after that `on_news` does not run any more and is not running. Destroying
  // it waits for a call that is running on another thread, so it must not be done while holding a
  // lock that `on_news` takes. Inside `on_news` itself it may be destroyed: that call is then the
  // last.
  class Subscription;

  // `on_news` is called, possibly from several threads, after records of the job were committed; it
  // must only schedule work. News that comes between a reader's last read and its Subscribe is not
  // told: read once more after subscribing.
  std::unique_ptr<Subscription> Subscribe(const std::string& job_id, std::function<void()> on_news)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Whether somebody is subscribed to the job now.
  bool HasSubscribers(const std::string& job_id) const ABSL_LOCKS_EXCLUDED(mu_);

  // `on_change` is called after the job got its first subscriber or lost its last; HasSubscribers then tells which
  // (calls of several threads may come in any order, so it must look and not count). The same rules as for on_news.
  std::unique_ptr<Subscription> ObserveAudience(const std::string& job_id,
                                                std::function<void()> on_change)
      ABSL_LOCKS_EXCLUDED(mu_);

  // The store's commit listener: calls the job's subscribers, holding no lock.
  void Published(const std::string& job_id, int64_t last_sequence, bool terminal)
      ABSL_LOCKS_EXCLUDED(mu_);

  int64_t subscriber_count() const ABSL_LOCKS_EXCLUDED(mu_);

  // How many committed records the subscriber that is furthest behind has not been sent; 0 when none
  // is. Of those that tell what they sent.
  int64_t MaxLag() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Entry;
  using Entries = std::vector<std::shared_ptr<Entry>>;
  using EntriesByJob = absl::flat_hash_map<std::string, Entries>;

  void Remove(const std::string& job_id, const Entry* entry) ABSL_LOCKS_EXCLUDED(mu_);
  // Whether it was there.
  static bool Erase(EntriesByJob& from, const std::string& job_id, const Entry* entry);
  static Entries Find(const EntriesByJob& in, const std::string& job_id);
  static void CallAll(const Entries& entries);

  mutable absl::Mutex mu_;
  EntriesByJob subscribers_ ABSL_GUARDED_BY(mu_);
  EntriesByJob audience_observers_ ABSL_GUARDED_BY(mu_);
  int64_t subscriber_count_ ABSL_GUARDED_BY(mu_) = 0;
};

// Owned by the subscriber; refers to its hub.
class Hub::Subscription {
 public:
  Subscription(Hub& hub, std::string job_id, std::shared_ptr<Entry> entry);
  ~Subscription();
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

  // For MaxLag: the reader was sent everything up to `sequence`, and the job's last record is `last`
  // or a later one. Thread-safe.
  void Sent(int64_t sequence, int64_t last = 0);

 private:
  Hub& hub_;
  const std::string job_id_;
  const std::shared_ptr<Entry> entry_;
};

}  // namespace normlab::server
