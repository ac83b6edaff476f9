#include "server/executor/slurm_executor.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/status_macros.h"
#include "server/executor/slurm_executor_impl.h"

#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

// For Slurm to come back while a server starts.
constexpr absl::Duration kReconcilePatience = absl::Seconds(5);

}  // namespace

SlurmExecutor::SlurmExecutor(SlurmOptions options, SlurmClient client, SlurmClient::Config config)
    : options_(std::move(options)),
      client_(std::move(client)),
      config_(std::move(config)),
      prefix_(absl::StrCat("normlab-", options_.server_id, "-")),
      most_together_(MostTogether(config_)),
      hand_over_([this] { HandOver(); }),
      watch_([this] { Watch(); }) {}

SlurmExecutor::~SlurmExecutor() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  hand_over_.join();
  watch_.join();
}

ExecutorCapabilities SlurmExecutor::capabilities() const {
  ExecutorCapabilities capabilities;
  capabilities.name = "Slurm";
  capabilities.places = true;
  capabilities.max_attempts = options_.max_attempts;
  capabilities.may_wait = true;
  capabilities.finds_unrecorded = true;
  capabilities.outlives_server = true;
  capabilities.staleness = options_.poll_interval + options_.command_timeout;
  return capabilities;
}

void SlurmExecutor::SetExitCallback(ExitCallback callback) {
  absl::MutexLock lock(&callback_mu_);
  callback_ = std::move(callback);
}

void SlurmExecutor::Submit(SubmitRequest request, SubmitCallback done) {
  std::string identity;
  {
    absl::MutexLock lock(&mu_);
    const Key key = KeyOf(request.attempt);
    if (const auto known = entries_.find(key); known != entries_.end()) {
      identity = known->second.id.Identity();
    } else {
      const auto [pending, is_new] = pending_.try_emplace(key);
      if (is_new) {
        pending->second.shape = ShapeOf(request.assignment, options_.wishes);
        pending->second.request = std::move(request);
        order_.push_back(key);
      }
      pending->second.done.push_back(std::move(done));
      changed_.NotifyAll();
      return;
    }
  }
  std::move(done)(std::move(identity));
}

std::vector<AttemptView> SlurmExecutor::Observe(absl::Span<const AttemptKey> attempts) {
  absl::MutexLock lock(&mu_);
  std::vector<AttemptView> views;
  for (const AttemptKey& attempt : attempts) {
    AttemptView& view = views.emplace_back();
    if (const auto found = entries_.find(KeyOf(attempt)); found != entries_.end()) {
      view = found->second.view;
      view.identity = found->second.id.Identity();
      if (!health_.ok()) {
        view.state = AttemptView::State::kUnknown;
        view.reason = std::string(health_.message());
      }
    } else if (pending_.count(KeyOf(attempt)) > 0) {
      view.state = AttemptView::State::kWaiting;
      view.reason = "is being handed over to Slurm";
    } else {
      view.reason = "it is gone";
    }
    view.attempt = attempt;
  }
  return views;
}

std::vector<AttemptView> SlurmExecutor::Reconcile(std::vector<KnownAttempt> attempts) {
  const std::map<Key, SlurmId> lists = ReadLists();
  {
    absl::MutexLock lock(&mu_);
    for (const KnownAttempt& known : attempts) {
      Entry entry;
      entry.attempt = known.attempt;
      entry.known_since = -absl::InfiniteDuration();
      if (const auto id = SlurmId::Parse(known.identity); id.has_value()) {
        entry.id = *id;
      } else if (!known.identity.empty()) {
        continue;  // of another kind of executor
      } else if (const auto listed = lists.find(KeyOf(known.attempt)); listed != lists.end()) {
        entry.id = listed->second;
      } else {
        entry.id.name = NameOf(known.attempt);
      }
      entry.view.state = AttemptView::State::kUnknown;
      entry.view.reason = "Slurm has not been asked yet";
      entries_.insert_or_assign(KeyOf(known.attempt), std::move(entry));
    }
  }
  // The exits that the look finds are the answer; nobody else is told.
  ExitCallback told;
  std::map<Key, ProcessExit> exits;
  {
    absl::MutexLock lock(&callback_mu_);
    told = std::exchange(callback_,
                         [&exits](const ProcessExit& exit) { exits[KeyOf(exit.attempt)] = exit; });
  }
  const absl::Duration deadline = Monotonic() + kReconcilePatience;
  while (!attempts.empty() && !Look().ok() && Monotonic() < deadline) {
    absl::MutexLock lock(&mu_);
    changed_.WaitFor(mu_, absl::Milliseconds(500),
                     [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stopping_; });
  }
  {
    absl::MutexLock lock(&callback_mu_);
    callback_ = std::move(told);
  }
  std::vector<AttemptKey> keys;
  for (const KnownAttempt& known : attempts) {
    keys.push_back(known.attempt);
  }
  std::vector<AttemptView> views = Observe(keys);
  for (AttemptView& view : views) {
    if (const auto exit = exits.find(KeyOf(view.attempt)); exit != exits.end()) {
      view.reason = exit->second.description;
      if (exit->second.cause != ExitCause::kUnknown) {
        view.exit = exit->second;
      }
    }
  }
  return views;
}

absl::Status SlurmExecutor::Signal(const AttemptKey& attempt, AttemptSignal signal) {
  std::vector<SubmitCallback> dropped;
  {
    absl::MutexLock lock(&mu_);
    const Key key = KeyOf(attempt);
    if (const auto pending = pending_.find(key); pending != pending_.end()) {
      const auto waiting = std::find(order_.begin(), order_.end(), key);
      if (waiting == order_.end()) {
        pending->second.signal = signal;  // sbatch has it now
        return absl::OkStatus();
      }
      order_.erase(waiting);
      dropped = std::move(pending->second.done);
      pending_.erase(pending);
    } else if (const auto entry = entries_.find(key); entry != entries_.end()) {
      entry->second.killed = entry->second.killed || signal == AttemptSignal::kKill ||
                             entry->second.view.state == AttemptView::State::kWaiting;
      signals_[key] = signal;
      changed_.NotifyAll();
    }
  }
  for (SubmitCallback& done : dropped) {
    std::move(done)(absl::CancelledError("it was ended before it was handed over to Slurm"));
  }
  return absl::OkStatus();
}

WorkerUsage SlurmExecutor::GetUsage() {
  absl::MutexLock lock(&mu_);
  WorkerUsage usage;
  for (const auto& [key, entry] : entries_) {
    usage.processes += entry.view.state == AttemptView::State::kRunning ? 1 : 0;
  }
  return usage;
}

absl::Status SlurmExecutor::Health() {
  absl::MutexLock lock(&mu_);
  return health_;
}

std::string SlurmExecutor::SlurmId::Text() const {
  return task.has_value() ? absl::StrCat(job_id, "_", *task) : absl::StrCat(job_id);
}

std::string SlurmExecutor::SlurmId::Identity() const {
  return absl::StrCat("slurm/", job_id, "/", task.has_value() ? absl::StrCat(*task) : "-", "/",
                      name);
}

std::optional<SlurmExecutor::SlurmId> SlurmExecutor::SlurmId::Parse(absl::string_view identity) {
  const std::vector<absl::string_view> parts = absl::StrSplit(identity, absl::MaxSplits('/', 3));
  SlurmId id;
  int64_t task = 0;
  if (parts.size() != 4 || parts[0] != "slurm" || !absl::SimpleAtoi(parts[1], &id.job_id) ||
      (parts[2] != "-" && !absl::SimpleAtoi(parts[2], &task))) {
    return std::nullopt;
  }
  if (parts[2] != "-") {
    id.task = task;
  }
  id.name = std::string(parts[3]);
  return id;
}

absl::StatusOr<std::unique_ptr<Executor>> NewSlurmExecutor(SlurmOptions options) {
  if (access(options.worker_binary.c_str(), X_OK) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot run the worker program ", options.worker_binary,
                     "; install normlab-worker at the same path here and on every node, or name it "
                     "with --worker_binary"));
  }
  SlurmClient client(options.bin, options.command_timeout);
  const absl::StatusOr<SlurmClient::Config> config = client.GetConfig();
  if (!config.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("--executor=slurm, but Slurm does not answer: ", config.status().message(),
                     "; start slurmctld, or have SLURM_CONF name its configuration, or use "
                     "--executor=local"));
  }
  spdlog::info("Slurm {} runs the jobs, {} attempts at a time; its arrays have up to {} elements",
               config->version, options.max_attempts, config->max_array_size);
  return std::make_unique<SlurmExecutor>(std::move(options), std::move(client), *config);
}

}  // namespace normlab::server
