#include "server/scheduler/controller.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"
#include "server/domain/states.h"
#include "server/domain/transitions.h"
#include "server/scheduler/controller_impl.h"
#include "server/scheduler/failures.h"

#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

// Between tries to use a store that does not work.
constexpr absl::Duration kStoreRetryDelay = absl::Seconds(1);

}  // namespace

std::unique_ptr<Controller> Controller::Create(ControllerOptions options,
                                               Store& store,
                                               Executor& executor,
                                               Helper& helper,
                                               Observer& observer) {
  if (options.cache_dir.empty()) {
    options.cache_dir = absl::StrCat(options.work_dir, "/cache");
  }
  return std::make_unique<ControllerImpl>(std::move(options), store, executor, helper, observer);
}

ControllerImpl::ControllerImpl(
    ControllerOptions options, Store& store, Executor& executor, Helper& helper, Observer& observer)
    : options_(std::move(options)),
      store_(store),
      executor_(executor),
      helper_(helper),
      observer_(observer) {
  PublishLoad();
}

ControllerImpl::~ControllerImpl() {
  Stop();
}

absl::Status ControllerImpl::Start() {
  executor_.SetExitCallback([mailbox = mailbox_, this](const ProcessExit& exit) {
    mailbox->Post([this, exit] { OnExit(exit); });
  });
  NORMLAB_RETURN_IF_ERROR(Recover());
  must_schedule_ = true;
  PublishLoad();
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void ControllerImpl::Stop() {
  if (thread_.joinable()) {
    mailbox_->Post([this] { stopping_ = true; });
    thread_.join();
    // Exits from here on are the next server's to find out.
    executor_.SetExitCallback(nullptr);
  } else {
    stopping_ = true;
    // Never started, or stopped already: whoever waits in the mailbox gets an answer.
    while (!mailbox_->CloseIfEmpty()) {
      for (Mailbox::Task& task : mailbox_->Take(absl::ZeroDuration())) {
        std::move(task)();
      }
    }
  }
}

void ControllerImpl::JobChanged(const v1::Job& job) {
  mailbox_->Post([this, job] { OnJobChanged(job); });
}

void ControllerImpl::AttemptFinished(const v1::Job& job) {
  mailbox_->Post([this, job] { OnAttemptFinished(job); });
}

void ControllerImpl::Disconnected(const AttemptKey& attempt, const WorkerSession* session) {
  mailbox_->Post([this, attempt, session] { OnDisconnected(attempt, session); });
}

Controller::Load ControllerImpl::GetLoad() {
  absl::MutexLock lock(&load_mu_);
  return load_;
}

void ControllerImpl::Run() {
  while (true) {
    for (Mailbox::Task& task : mailbox_->Take(NextWakeUp())) {
      std::move(task)();
    }
    if (stopping_) {
      break;
    }
    HandleDeadlines();
    if (must_schedule_) {
      Schedule();
    }
    PublishLoad();
  }
  for (const auto& [id, attempt] : live_) {
    if (attempt->session != nullptr) {
      attempt->session->Close(ShuttingDown(absl::Seconds(1)));
    }
  }
  while (!mailbox_->CloseIfEmpty()) {
    for (Mailbox::Task& task : mailbox_->Take(absl::ZeroDuration())) {
      std::move(task)();
    }
  }
}

absl::Duration ControllerImpl::NextWakeUp() const {
  if (must_schedule_) {
    return absl::ZeroDuration();
  }
  absl::Duration next = absl::InfiniteDuration();
  for (const auto& [id, attempt] : live_) {
    next = std::min(
        {next, attempt->phase_deadline, attempt->cancel_deadline, attempt->time_limit_deadline});
  }
  const absl::Duration now = Monotonic();
  for (const auto& [id, job] : waiting_) {
    if (job.not_before > now) {
      next = std::min(next, job.not_before);
    }
  }
  return std::min(options_.max_sleep, std::max(next - now, absl::ZeroDuration()));
}

void ControllerImpl::HandleDeadlines() {
  const absl::Duration now = Monotonic();
  std::vector<AttemptKey> keys;
  for (const auto& [id, attempt] : live_) {
    keys.push_back(attempt->key);
  }
  // Handling one may remove it, so each is looked up again.
  for (const AttemptKey& key : keys) {
    if (LiveAttempt* attempt = Find(key); attempt != nullptr && now >= attempt->phase_deadline) {
      attempt->phase_deadline = absl::InfiniteDuration();
      OnPhaseDeadline(*attempt);
    }
    if (LiveAttempt* attempt = Find(key); attempt != nullptr && now >= attempt->cancel_deadline) {
      attempt->cancel_deadline = absl::InfiniteDuration();
      Kill(*attempt, CancelIgnoredFailure(options_.cancel_grace));
    }
    if (LiveAttempt* attempt = Find(key);
        attempt != nullptr && now >= attempt->time_limit_deadline) {
      attempt->time_limit_deadline = absl::InfiniteDuration();
      const google::protobuf::Duration& limit = attempt->job.resolved_spec().time_limit();
      Kill(*attempt,
           TimeLimitFailure(absl::Seconds(limit.seconds()) + absl::Nanoseconds(limit.nanos())));
    }
  }
  for (const auto& [id, job] : waiting_) {
    // The end of a back-off; the rest of the queue is looked at when something else happens.
    must_schedule_ |= job.not_before > -absl::InfiniteDuration() && job.not_before <= now;
  }
}

void ControllerImpl::Schedule() {
  must_schedule_ = false;
  const absl::Duration now = Monotonic();
  std::vector<QueuedJob> queued;
  for (auto& [id, job] : waiting_) {
    if (job.not_before > now) {
      continue;
    }
    job.not_before = -absl::InfiniteDuration();
    // The process of the attempt before may not have gone yet; its end brings us here again.
    if (live_.count(id) == 0) {
      queued.push_back(job.queued);
    }
  }
  std::vector<Reservation> running;
  for (const auto& [id, attempt] : live_) {
    running.push_back(attempt->reservation);
  }
  Decision decision =
      Decide(queued, running, {options_.cores, options_.memory_bytes}, history_, WallClock());
  history_ = std::move(decision.history);
  for (const StartAction& start : decision.starts) {
    Begin(start);
  }
}

void ControllerImpl::PublishLoad() {
  Load load;
  load.queued = static_cast<int>(waiting_.size());
  std::vector<int> free = options_.cores;
  load.free_memory_bytes = options_.memory_bytes;
  for (const auto& [id, attempt] : live_) {
    load.running += attempt->phase != Phase::kEnded ? 1 : 0;
    load.free_memory_bytes -= attempt->reservation.memory_bytes;
    for (const int core : attempt->reservation.cores) {
      free.erase(std::remove(free.begin(), free.end(), core), free.end());
    }
  }
  load.free_cores = static_cast<int>(free.size());
  load.free_memory_bytes = std::max<int64_t>(load.free_memory_bytes, 0);
  absl::MutexLock lock(&load_mu_);
  load_ = load;
}

void ControllerImpl::AddWaiting(const v1::Job& job, absl::Duration delay) {
  const absl::StatusOr<std::string> id = ParseJobName(job.name());
  if (!id.ok()) {
    spdlog::error("a job without a valid name is not scheduled: {}", job.name());
    return;
  }
  WaitingJob waiting;
  waiting.queued.id = *id;
  waiting.queued.owner = job.owner();
  waiting.queued.priority = job.priority();
  waiting.queued.create_time = FromTimestamp(job.create_time());
  waiting.queued.cores = std::max(job.estimate().cores(), 1);
  waiting.queued.memory_bytes = job.estimate().memory_bytes();
  waiting.queued_since = FromTimestamp(
      job.attempts().empty() ? job.create_time() : job.attempts().rbegin()->end_time());
  if (delay > absl::ZeroDuration()) {
    waiting.not_before = Monotonic() + delay;
  }
  waiting_.insert_or_assign(*id, std::move(waiting));
  must_schedule_ = true;
}

void ControllerImpl::ReloadWaiting(const WaitingJob& fallback) {
  const JobResult job = store_.GetJob(fallback.queued.id);
  waiting_.erase(fallback.queued.id);
  if (job.ok() && job->state() == v1::Job::QUEUED) {
    AddWaiting(*job, absl::ZeroDuration());
  } else if (!job.ok() && !absl::IsNotFound(job.status())) {
    Postpone(fallback);
  }
  must_schedule_ = true;
}

void ControllerImpl::Postpone(WaitingJob waiting) {
  waiting.not_before = Monotonic() + kStoreRetryDelay;
  std::string id = waiting.queued.id;
  waiting_.insert_or_assign(std::move(id), std::move(waiting));
}

void ControllerImpl::OnJobChanged(const v1::Job& job) {
  const absl::StatusOr<std::string> id = ParseJobName(job.name());
  if (stopping_ || !id.ok()) {
    return;
  }
  // `job` may be older than what is known here: only what can not be taken back is believed.
  if (IsTerminal(job.state())) {
    waiting_.erase(*id);
    return;
  }
  const auto live = live_.find(*id);
  if (live != live_.end() && live->second->phase != Phase::kEnded) {
    if (job.has_cancel_request_time()) {
      RequestCancel(*live->second);
    }
  } else if (job.state() == v1::Job::QUEUED && waiting_.count(*id) == 0) {
    AddWaiting(job, absl::ZeroDuration());
  }
}

LiveAttempt* ControllerImpl::Find(const AttemptKey& key) {
  const auto found = live_.find(key.job_id);
  return found != live_.end() && found->second->key.number == key.number ? found->second.get()
                                                                         : nullptr;
}

void ControllerImpl::Update(const std::string& job_id,
                            Store::Mutator mutate,
                            std::optional<AttemptSecrets> secrets,
                            std::function<void(JobResult)> then) {
  store_.UpdateJob(job_id, std::move(mutate), std::move(secrets),
                   [mailbox = mailbox_, then = std::move(then)](JobResult result) mutable {
                     mailbox->Post([then = std::move(then), result = std::move(result)]() mutable {
                       then(std::move(result));
                     });
                   });
}

std::string ControllerImpl::AttemptPath(const AttemptKey& key) const {
  return absl::StrCat(options_.work_dir, "/", AttemptFolder(key.job_id, key.number));
}

std::string ControllerImpl::LogPath(const AttemptKey& key) const {
  return absl::StrCat(AttemptPath(key), "/worker.log");
}

}  // namespace normlab::server
