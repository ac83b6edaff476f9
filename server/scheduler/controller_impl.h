#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "common/steady_wait.h"
#include "server/scheduler/controller.h"
#include "server/scheduler/live_attempt.h"
#include "server/scheduler/mailbox.h"
#include "server/scheduler/policy.h"
#include "server/scheduler/shares.h"
#include "server/scheduler/start_options.h"

namespace normlab::server {

// The controller's thread and what it knows. Members are implemented by topic: controller.cc
// (thread), queue.cc (queue, policy), recovery.cc, attempt_start.cc, handing_over.cc, attempt_end.cc, trouble.cc,
// durations.cc, damage.cc, sessions.cc.
//
// The store is the truth; what is held here is a view of it that every answer of the store
// corrects. All writes go through pure transitions inside the store's transactions, so an action
// decided on an outdated view is refused there and the view is read anew.
class ControllerImpl final : public Controller {
 public:
  ControllerImpl(ControllerOptions options,
                 StartOptions start,
                 Store& store,
                 Executor& executor,
                 Helper& helper,
                 Observer& observer);
  ~ControllerImpl() override;

  absl::Status Start() override;
  void JobChanged(const v1::Job& job) override;
  void Connected(const v1::Hello& hello,
                 std::shared_ptr<WorkerSession> session,
                 absl::AnyInvocable<void(absl::StatusOr<v1::Welcome>) &&> done) override;
  void Disconnected(const AttemptKey& attempt, const WorkerSession* session) override;
  void AttemptFinished(const v1::Job& job) override;
  void ReportRefused(const AttemptKey& attempt, const absl::Status& why) override;
  std::vector<v1::Segment> UntoldOutput(const AttemptKey& attempt) override;
  void Ping(absl::AnyInvocable<void() &&> done) override { mailbox_->Post(std::move(done)); }
  void Drain() override;
  bool WaitUntilIdle(absl::Duration timeout) override;
  void Stop() override;
  Load GetLoad() override;
  std::map<std::string, std::string> QueueReasons(std::vector<std::string> job_ids) override;
  std::map<std::string, absl::Duration> Silences(std::vector<std::string> job_ids) override;

 private:
  using WelcomeCallback = absl::AnyInvocable<void(absl::StatusOr<v1::Welcome>) &&>;
  using JobResult = absl::StatusOr<v1::Job>;

  // Between tries to use a store that does not work.
  static constexpr absl::Duration kStoreRetryDelay = absl::Seconds(1);

  // A job in the queue.
  struct WaitingJob {
    QueuedJob queued;
    absl::Time queue_time;  // when it came into the queue; wall clock, as stored
    absl::Duration not_before = -absl::InfiniteDuration();  // monotonic; back-off
    int postponed = 0;  // times in a row that something else than the job kept it from starting
    std::string postponed_for{};  // what that was; empty: not known
    int data_failures = 0;        // times in a row that its data could not be got ready
  };

  // What keeps every attempt from being started.
  struct Trouble {
    absl::Status what;  // OK: nothing
    int failures = 0;   // attempts in a row that the machine could not start
    absl::Duration not_before = -absl::InfiniteDuration();  // the next try; monotonic
  };

  // ---- controller.cc
  void Run();
  absl::Duration NextWakeUp() const;
  void HandleDeadlines();
  void Schedule();
  void PublishLoad();
  void AddWaiting(const v1::Job& job);
  void AddWaiting(const QueueEntry& entry, absl::Duration retry_delay);
  // Reads the job from the store and makes the queue agree, a little later when the store cannot
  // tell.
  void Refresh(const std::string& job_id);
  // Makes it live: from now on it holds what is reserved for it.
  LiveAttempt& AddLive(std::unique_ptr<LiveAttempt> attempt, absl::Duration since);
  void CountHeld(LiveAttempt& attempt, absl::Duration since);
  Sharing CurrentSharing();
  std::vector<Reservation> Reservations() const;
  std::map<std::string, std::string> Explain(const std::vector<std::string>& job_ids);
  std::map<std::string, std::string> ExplainByPolicy(const std::vector<std::string>& job_ids,
                                                     absl::Duration now);
  // What `look` says on the controller's thread; nothing when that is too busy.
  template <typename Result>
  Result Ask(std::function<Result()> look);
  void OnJobChanged(const v1::Job& job);
  absl::Duration Monotonic() const { return options_.clock->Monotonic(); }
  absl::Time WallClock() const { return options_.clock->Now(); }
  LiveAttempt* Find(const AttemptKey& key);
  // Writes to the store and runs `then` with the answer on this thread.
  void Update(const std::string& job_id,
              Store::Mutator mutate,
              std::optional<AttemptSecrets> secrets,
              std::function<void(JobResult)> then);
  // For a little later: something failed that is not the job's fault.
  void Postpone(WaitingJob waiting, absl::string_view why);
  void StartDraining();
  absl::Status LoadUsage();
  void SaveUsage();
  std::string AttemptPath(const AttemptKey& key) const;
  std::string LogPath(const AttemptKey& key) const;

  // ---- recovery.cc
  absl::Status Recover();
  absl::Status RecoverQueue();
  // An attempt of an earlier server, and what the executor knows of it.
  struct FoundAttempt {
    v1::Job job;
    AttemptKey key;
    AttemptSecrets secrets;
  };
  // None: it was failed, as something stored of it is damaged.
  absl::StatusOr<std::optional<FoundAttempt>> FindUnfinished(const v1::Job& job);
  void RecoverAttempt(const FoundAttempt& found, const AttemptView& view);

  // ---- attempt_start.cc
  // Where the next attempt of a job starts.
  struct StartingPoint {
    std::string folder;  // of the checkpoint, relative to the work folder; empty: the beginning
    int64_t step = 0;
    std::string warning;  // for the job's log; empty: none
  };
  void Begin(const StartAction& start);
  // DATA_LOSS; any other error passes: it cannot be told now.
  absl::StatusOr<StartingPoint> FindStartingPoint(const std::string& job_id, const v1::Job& job);
  void OnBegun(const AttemptKey& key, const WaitingJob& waiting, JobResult result);
  void Prepare(LiveAttempt& attempt);
  void OnPrepared(const AttemptKey& key, absl::StatusOr<v1::HelperResponse> response);
  // The data of a run that begins may have another shape than those that it was admitted with.
  void CorrectDataOf(LiveAttempt& attempt, const v1::DataReport& report);
  void Launch(LiveAttempt& attempt, const std::string& data_cache);

  // ---- handing_over.cc
  // What the executor answered to the submission.
  void OnSubmitted(const AttemptKey& key, absl::StatusOr<std::string> identity);
  // Looks after attempts that wait where the executor has them run.
  void ObserveWaiting();
  void KeepDataOfWaiting();
  // It runs, since so long.
  void RunsOutside(LiveAttempt& attempt, absl::Duration running_for);
  void StartTimeLimit(LiveAttempt& attempt, absl::Duration running_for);
  void RecordPlace(const LiveAttempt& attempt, const std::string& place);
  Capacity CurrentCapacity() const;
  // Whether the executor could not run more attempts now.
  bool IsFull() const;

  // ---- attempt_end.cc
  void OnExit(const ProcessExit& exit);
  void OnAttemptFinished(const v1::Job& job);
  void OnPhaseDeadline(LiveAttempt& attempt);
  void RequestCancel(LiveAttempt& attempt);
  // The wish to pause was made, or taken back.
  void FollowPause(LiveAttempt& attempt);
  // Ends, for `failure`, an attempt that has not begun to train; false when it has.
  bool EndBeforeStart(LiveAttempt& attempt, const v1::Failure& failure);
  // Tells a connected worker what is wished, if anything.
  void TellToStop(LiveAttempt& attempt) const;
  // Ends the process; its exit then makes the attempt lost, for `failure`.
  void Kill(LiveAttempt& attempt, v1::Failure failure);
  // Nothing more can come from the worker: commits the loss of the attempt.
  void FinishExit(LiveAttempt& attempt);
  void Lose(LiveAttempt& attempt, v1::Failure failure);
  void OnLost(const AttemptKey& key, JobResult result);
  // What is in its log beside the worker's own lines; empty where nobody else writes.
  std::vector<v1::Segment> OutputOf(const LiveAttempt& attempt) const;
  // The store has the attempt as ended. Removes it unless its process lives.
  void Ended(LiveAttempt& attempt, const v1::Job& job);
  void Remove(const AttemptKey& key);

  // ---- trouble.cc
  // Nothing is to be started now.
  bool StartsAreHeld(absl::Duration now);
  bool OneStartAtATime() const;
  // Holds the starts back when it is not.
  bool WorkFolderIsUsable();
  // UNAVAILABLE: the work folder is not usable, or has not so much room even without old data sets.
  absl::Status CheckRoom(int64_t free_bytes) const;
  // The same for the job's files.
  absl::Status CheckRoomFor(const v1::Job& job) const;
  void HoldStarts(const absl::Status& why, absl::Duration until);
  void TellStarts() const;
  // The machine can start attempts.
  void ReleaseStarts();
  void ClearTrouble();
  // The machine could not start an attempt.
  void OnMachineFailed(const absl::Status& why);
  // Undoes an attempt that has had no working process, and puts its job off.
  void TakeBack(LiveAttempt& attempt, const absl::Status& why);
  // The job's data could not be got ready, or not in time, though nothing is known to be wrong with
  // them: the attempt is taken back, but only so often.
  void OnDataNotReady(LiveAttempt& attempt, const absl::Status& why);
  void OnTakenBack(const AttemptKey& key, const std::string& why, JobResult result);

  // ---- durations.cc
  // The job has left the queue.
  void CorrectWaited(const std::string& job_id, const v1::Job& job);
  // The attempt has ended.
  void CorrectCoreSeconds(const LiveAttempt& attempt, const v1::Job& job);

  // ---- damage.cc
  void OnReportRefused(const AttemptKey& key, const absl::Status& why);
  // Ends a job without a live attempt of which something stored cannot be read.
  void FailDamagedJob(const std::string& job_id, const absl::Status& why);
  void OnDamageStored(const std::string& job_id, const JobResult& result);

  // ---- sessions.cc
  void OnConnected(const v1::Hello& hello,
                   std::shared_ptr<WorkerSession> session,
                   WelcomeCallback done);
  // OK when the hello is that of a live attempt.
  absl::Status CheckHello(const v1::Hello& hello, const AttemptKey& key);
  void OnMarkedRunning(const AttemptKey& key,
                       const std::shared_ptr<WorkerSession>& session,
                       JobResult result,
                       WelcomeCallback done);
  void OnDisconnected(const AttemptKey& key, const WorkerSession* session);

  const ControllerOptions options_;
  const StartOptions start_options_;
  Store& store_;
  Executor& executor_;
  const ExecutorCapabilities capabilities_;
  Helper& helper_;
  Observer& observer_;
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();

  // Of the controller's thread (of Start's caller before there is one).
  std::map<std::string, WaitingJob> waiting_;                 // by job id
  std::map<std::string, std::unique_ptr<LiveAttempt>> live_;  // by job id: a job has one at most
  HeadHistory history_;
  // Of a long queue; monotonic time.
  struct ReasonsOfAll {
    std::map<std::string, std::string> by_id;
    absl::Duration as_of = -absl::InfiniteDuration();
  };
  ReasonsOfAll reasons_of_all_;
  Trouble trouble_;
  ShareLedger ledger_;
  int mute_in_a_row_ = 0;  // workers elsewhere that did not say hello in time
  absl::Duration not_submitted_at_ = -absl::InfiniteDuration();  // the last time; monotonic
  absl::Duration observe_due_ = absl::InfiniteDuration();        // waiting attempts; monotonic
  absl::Duration data_due_ = -absl::InfiniteDuration();  // when their data is marked as used again
  absl::Duration usage_due_ = absl::InfiniteDuration();  // when it is saved next; monotonic
  std::map<std::string, absl::Duration> usage_loaded_;   // owners, and up to when; monotonic
  std::map<std::string, absl::Duration> rechecks_;  // jobs to be read again, and when; monotonic
  // The earliest end of a back-off; monotonic.
  absl::Duration next_delay_ = absl::InfiniteDuration();
  absl::Duration last_decision_ = -absl::InfiniteDuration();
  absl::Duration oldest_wait_since_ = absl::InfiniteDuration();  // as of last_decision_
  bool must_schedule_ = false;
  bool draining_ = false;
  bool stopping_ = false;

  absl::Mutex load_mu_;
  common::SteadyWait load_published_;
  Load load_ ABSL_GUARDED_BY(load_mu_);
  bool idle_ ABSL_GUARDED_BY(load_mu_) = true;  // no attempt is live, not even a lingering process

  std::thread thread_;
};

}  // namespace normlab::server
