#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/clock.h"
#include "common/log_pace.h"
#include "common/steady_wait.h"
#include "server/executor/slurm_client.h"
#include "server/executor/slurm_executor.h"

namespace normlab::server {

// Elements that one array may have.
inline size_t MostTogether(const SlurmClient::Config& config) {
  return static_cast<size_t>(std::max(config.max_array_size - 1, 1));
}

// The executor's state and threads: slurm_executor.cc has what is asked of it, slurm_hand_over.cc the thread
// that runs sbatch and scancel, slurm_watch.cc the one that polls.
class SlurmExecutor final : public Executor {
 public:
  SlurmExecutor(SlurmOptions options, SlurmClient client, SlurmClient::Config config);
  ~SlurmExecutor() override;

  ExecutorCapabilities capabilities() const override;
  void SetExitCallback(ExitCallback callback) override;
  void Submit(SubmitRequest request, SubmitCallback done) override;
  std::vector<AttemptView> Observe(absl::Span<const AttemptKey> attempts) override;
  std::vector<AttemptView> Reconcile(std::vector<KnownAttempt> attempts) override;
  absl::Status Signal(const AttemptKey& attempt, AttemptSignal signal) override;
  WorkerUsage GetUsage() override;
  absl::Status Health() override;

 private:
  using Key = std::pair<std::string, int32_t>;  // job and number
  static Key KeyOf(const AttemptKey& attempt) { return {attempt.job_id, attempt.number}; }

  // A job of Slurm, or an element of an array.
  struct SlurmId {
    int64_t job_id = 0;  // 0: not known, it is looked for by its name
    std::optional<int64_t> task;
    std::string name;
    std::string Text() const;      // "4711_3"
    std::string Identity() const;  // "slurm/4711/3/normlab-..."
    static std::optional<SlurmId> Parse(absl::string_view identity);
  };
  struct Entry {
    AttemptKey attempt;
    SlurmId id;
    AttemptView view;
    absl::Duration known_since;  // monotonic: a list of jobs that is older says nothing of it
    bool killed = false;         // by us
    bool has_ranks = false;      // it is several processes, below srun
    std::string
        assignment;  // its file, until it has ended; empty: not known (of an earlier server)
  };
  struct Pending {
    SubmitRequest request;
    SlurmShape shape;
    std::vector<SubmitCallback> done;
    std::optional<AttemptSignal> signal;  // came before it was handed over
  };

  // ---- slurm_hand_over.cc
  void HandOver();
  // Takes the next submission, with those that can go with it as one array.
  std::vector<Pending*> TakeBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SubmitBatch(const std::vector<Pending*>& batch) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<int64_t> RunSbatch(const std::vector<Pending*>& batch, const std::string& name);
  // Whether the submission took place although its answer is not known.
  absl::StatusOr<int64_t> FindByName(const std::string& name);
  std::string NameOf(const AttemptKey& attempt) const;
  void SendSignals(const std::map<Key, AttemptSignal>& signals) ABSL_LOCKS_EXCLUDED(mu_);

  // ---- slurm_watch.cc
  void Watch();
  // One look at everything; the error of the command.
  absl::Status Look() ABSL_LOCKS_EXCLUDED(mu_, callback_mu_);
  // What became of a job that is not in Slurm's list.
  absl::StatusOr<SlurmRecord> FindForgotten(const SlurmId& id);
  void Tell(const std::vector<ProcessExit>& exits) ABSL_LOCKS_EXCLUDED(mu_, callback_mu_);
  // Attempts of arrays, by the lists in the work folder.
  std::map<Key, SlurmId> ReadLists() const;
  void RemoveOldLists(const std::vector<SlurmRecord>& records);
  void SetHealth(const absl::Status& health) ABSL_LOCKS_EXCLUDED(mu_);

  absl::Duration Monotonic() const { return common::Clock::Real().Monotonic(); }
  std::string ListsFolder() const { return options_.work_dir + "/slurm"; }

  // Removes the file with its secret, which one that never ran has left.
  static void RemoveAssignment(const Entry& entry);

  const SlurmOptions options_;
  const SlurmClient client_;
  const SlurmClient::Config config_;
  const std::string prefix_;  // of the names of all jobs of this server

  common::LogPace scancel_troubles_{absl::Minutes(5)};

  absl::Mutex mu_;
  common::SteadyWait changed_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool look_now_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status health_ ABSL_GUARDED_BY(mu_);
  std::map<Key, Entry> entries_ ABSL_GUARDED_BY(mu_);
  // Not handed over yet; those in order_ wait, the others are being handed over.
  std::map<Key, Pending> pending_ ABSL_GUARDED_BY(mu_);
  std::deque<Key> order_ ABSL_GUARDED_BY(mu_);
  std::map<Key, AttemptSignal> signals_ ABSL_GUARDED_BY(mu_);
  // Of attempts handed over together: as far as Slurm's limits let it go.
  size_t most_together_ ABSL_GUARDED_BY(mu_) = 1;

  // Held while the callback runs, which must not block: so SetExitCallback can promise that the old one
  // is done.
  absl::Mutex callback_mu_;
  ExitCallback callback_ ABSL_GUARDED_BY(callback_mu_);

  std::thread hand_over_;  // last: they use everything above
  std::thread watch_;
};

}  // namespace normlab::server
