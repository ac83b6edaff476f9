#include "server/scheduler/controller.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/scheduler/controller_impl.h"
#include "server/scheduler/failures.h"

#include "spdlog/spdlog.h"

namespace normlab::server {
std::unique_ptr<Controller> Controller::Create(ControllerOptions options,
                                               Store& store,
                                               Executor& executor,
                                               Helper& helper,
                                               Observer& observer) {
  return CreateController(std::move(options), {}, store, executor, helper, observer);
}

std::unique_ptr<Controller> CreateController(ControllerOptions options,
                                             StartOptions start,
                                             Store& store,
                                             Executor& executor,
                                             Helper& helper,
                                             Observer& observer) {
  if (options.cache_dir.empty()) {
    options.cache_dir = absl::StrCat(options.work_dir, "/cache");
  }
  return std::make_unique<ControllerImpl>(std::move(options), std::move(start), store, executor,
                                          helper, observer);
}

ControllerImpl::ControllerImpl(ControllerOptions options,
                               StartOptions start,
                               Store& store,
                               Executor& executor,
                               Helper& helper,
                               Observer& observer)
    : options_(std::move(options)),
      start_options_(std::move(start)),
      store_(store),
      executor_(executor),
      capabilities_(executor.capabilities()),
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
  NORMLAB_RETURN_IF_ERROR(LoadUsage());
  NORMLAB_RETURN_IF_ERROR(Recover());
  must_schedule_ = true;
  PublishLoad();
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void ControllerImpl::Drain() {
  mailbox_->Post([this] { StartDraining(); });
}

bool ControllerImpl::WaitUntilIdle(absl::Duration timeout) {
  // What was posted before, a Drain too, comes first.
  auto looked = std::make_shared<std::atomic<bool>>(false);
  const bool posted = mailbox_->Post([this, looked] {
    looked->store(true);
    PublishLoad();
  });
  absl::MutexLock lock(&load_mu_);
  return load_published_.WaitFor(load_mu_, timeout, [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(load_mu_) {
    return idle_ && (looked->load() || !posted);
  });
}

void ControllerImpl::StartDraining() {
  if (draining_ || stopping_) {
    return;
  }
  draining_ = true;
  if (capabilities_.outlives_server) {
    spdlog::info("stopping: {} attempt(s) go on without the server and report to the next one",
                 live_.size());
    return;
  }
  std::vector<AttemptKey> keys;
  for (const auto& [id, attempt] : live_) {
    keys.push_back(attempt->key);
  }
  spdlog::info("draining: {} attempt(s) are asked to end with a checkpoint", keys.size());
  for (const AttemptKey& key : keys) {
    if (LiveAttempt* attempt = Find(key);
        attempt != nullptr && !EndBeforeStart(*attempt, DrainedBeforeStartFailure())) {
      TellToStop(*attempt);
    }
  }
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
  SaveUsage();
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
  absl::Duration next = next_delay_;
  for (const auto& [id, attempt] : live_) {
    next = std::min(
        {next, attempt->phase_deadline, attempt->cancel_deadline, attempt->time_limit_deadline});
  }
  for (const auto& [id, when] : rechecks_) {
    next = std::min(next, when);
  }
  next = std::min({next, usage_due_, observe_due_});
  const absl::Duration now = Monotonic();
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
  std::vector<std::string> due;
  for (const auto& [id, when] : rechecks_) {
    if (now >= when) {
      due.push_back(id);
    }
  }
  for (const std::string& id : due) {
    rechecks_.erase(id);
    const auto live = live_.find(id);
    if (live != live_.end() && live->second->phase != Phase::kEnded) {
      FollowPause(*live->second);
    } else {
      Refresh(id);
    }
  }
  if (now >= observe_due_) {
    ObserveWaiting();
  }
  if (now >= usage_due_) {
    SaveUsage();
  }
  if (now >= next_delay_) {
    next_delay_ = absl::InfiniteDuration();  // found anew among those that wait
    must_schedule_ = true;
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
