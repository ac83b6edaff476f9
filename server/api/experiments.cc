#include "server/api/experiments.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"

#include "common/status_macros.h"
#include "common/steady_wait.h"
#include "server/api/unary.h"
#include "server/api/wait_for_end.h"
#include "server/domain/errors.h"
#include "server/domain/experiment_errors.h"
#include "server/domain/names.h"
#include "server/domain/states.h"
#include "server/domain/transitions.h"

#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

constexpr int kDefaultPageSize = 50;
constexpr int kMaxPageSize = 1000;
// Each of them keeps one of the handlers' threads for a while.
constexpr int kMaxSweeps = 3;
// Cancellations that are on their way to the store at a time.
constexpr size_t kCancelsAtOnce = 256;

constexpr auto kAll = ExperimentStore::Parts::kAll;

// One of the few places for long calls.
class SweepLease {
 public:
  explicit SweepLease(Backend& backend)
      : backend_(backend), granted_(backend.experiment_sweeps.fetch_add(1) < kMaxSweeps) {}
  ~SweepLease() { backend_.experiment_sweeps.fetch_sub(1); }
  SweepLease(const SweepLease&) = delete;
  SweepLease& operator=(const SweepLease&) = delete;
  absl::Status status() const { return granted_ ? absl::OkStatus() : Overloaded(kOverloadRetry); }

 private:
  Backend& backend_;
  const bool granted_;
};

// Names of the jobs that are not terminal, those that run first.
std::vector<std::string> OpenJobs(const StoredExperiment& stored) {
  std::vector<std::string> running;
  std::vector<std::string> waiting;
  size_t position = 0;
  for (const v1::Cell& cell : stored.experiment.cells()) {
    for (const std::string& job : cell.jobs()) {
      const v1::Job::State state =
          position < stored.states.size() ? stored.states[position] : v1::Job::STATE_UNSPECIFIED;
      ++position;
      if (IsActive(state)) {
        running.push_back(job);
      } else if (state != v1::Job::STATE_UNSPECIFIED && !IsTerminal(state)) {
        waiting.push_back(job);
      }
    }
  }
  running.insert(running.end(), waiting.begin(), waiting.end());
  return running;
}

// Asks for the end of these jobs and waits until that is stored. Jobs that ended by themselves, or
// were deleted, are left alone.
absl::Status CancelJobs(Backend& backend, absl::Span<const std::string> jobs) {
  struct Outcome {
    v1::Job::State before = v1::Job::STATE_UNSPECIFIED;
    absl::StatusOr<v1::Job> job;
  };
  std::vector<Outcome> outcomes(jobs.size());
  absl::BlockingCounter left(static_cast<int>(jobs.size()));
  for (size_t i = 0; i < jobs.size(); ++i) {
    Outcome& outcome = outcomes[i];
    const absl::StatusOr<std::string> id = ParseJobName(jobs[i]);
    if (!id.ok()) {
      outcome.job = id.status();
      left.DecrementCount();
      continue;
    }
    backend.store.UpdateJob(
        *id,
        [&outcome, clock = backend.options.clock](v1::Job& job, std::vector<v1::Segment>& records) {
          outcome.before = job.state();
          return RequestCancel(job, clock->Now(), records);
        },
        std::nullopt,
        [&outcome, &left](absl::StatusOr<v1::Job> job) {
          outcome.job = std::move(job);
          left.DecrementCount();
        });
  }
  left.Wait();
  absl::Status failure;
  for (const Outcome& outcome : outcomes) {
    if (!outcome.job.ok()) {
      if (!absl::IsNotFound(outcome.job.status()) &&
          ReasonOf(outcome.job.status()) != reason::kJobTerminal) {
        failure.Update(outcome.job.status());
      }
      continue;
    }
    if (outcome.job->state() != outcome.before) {
      backend.observer.OnTransition(outcome.job->state(),
                                    v1::FailureReason::FAILURE_REASON_UNSPECIFIED);
    }
    backend.controller.JobChanged(*outcome.job);
  }
  return failure;
}

absl::Status CancelAll(Backend& backend, const std::string& id) {
  NORMLAB_ASSIGN_OR_RETURN(const StoredExperiment stored,
                           backend.store.experiments().Get(id, kAll));
  const std::vector<std::string> open = OpenJobs(stored);
  for (size_t begin = 0; begin < open.size(); begin += kCancelsAtOnce) {
    NORMLAB_RETURN_IF_ERROR(
        CancelJobs(backend, absl::MakeSpan(open).subspan(begin, kCancelsAtOnce)));
  }
  if (!open.empty()) {
    spdlog::info("{}: {} job(s) cancelled, as asked", ExperimentName(id), open.size());
  }
  return absl::OkStatus();
}

// Waits until no job waits or runs.
absl::Status WaitForJobs(Backend& backend, const std::string& id) {
  const std::string name = ExperimentName(id);
  return WaitForEnd(
      backend, name, absl::StrCat("every job of ", name), [&]() -> absl::StatusOr<bool> {
        NORMLAB_ASSIGN_OR_RETURN(
            const StoredExperiment stored,
            backend.store.experiments().Get(id, ExperimentStore::Parts::kWithoutCells));
        const auto& counts = stored.experiment.counts();
        return counts.queued() + counts.running() == 0;
      });
}

}  // namespace

absl::StatusOr<v1::Experiment> HandleGetExperiment(Backend& backend,
                                                   const Caller& /*caller*/,
                                                   const v1::GetExperimentRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseExperimentName(request.name()));
  NORMLAB_ASSIGN_OR_RETURN(StoredExperiment stored, backend.store.experiments().Get(id, kAll));
  return std::move(stored.experiment);
}

absl::StatusOr<v1::ListExperimentsResponse> HandleListExperiments(
    Backend& backend, const Caller& caller, const v1::ListExperimentsRequest& request) {
  if (request.page_size() < 0) {
    return InvalidArgument("page_size",
                           absl::StrCat("is ", request.page_size(), "; use 1 to ", kMaxPageSize,
                                        ", or leave it out for ", kDefaultPageSize));
  }
  const int page_size =
      request.page_size() == 0 ? kDefaultPageSize : std::min(request.page_size(), kMaxPageSize);
  std::optional<std::string> owner;
  if (!caller.sees_all()) {
    owner = caller.owner;
  }
  NORMLAB_ASSIGN_OR_RETURN(ExperimentPage page, backend.store.experiments().List(
                                                    owner, page_size, request.page_token()));
  v1::ListExperimentsResponse response;
  for (v1::Experiment& experiment : page.experiments) {
    *response.add_experiments() = std::move(experiment);
  }
  response.set_next_page_token(std::move(page.next_page_token));
  return response;
}

absl::StatusOr<v1::Experiment> HandleCancelExperiment(Backend& backend,
                                                      const Caller& /*caller*/,
                                                      const v1::CancelExperimentRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseExperimentName(request.name()));
  const SweepLease lease(backend);
  NORMLAB_RETURN_IF_ERROR(lease.status());
  NORMLAB_RETURN_IF_ERROR(CancelAll(backend, id));
  NORMLAB_ASSIGN_OR_RETURN(StoredExperiment stored, backend.store.experiments().Get(id, kAll));
  return std::move(stored.experiment);
}

absl::StatusOr<google::protobuf::Empty> HandleDeleteExperiment(
    Backend& backend, const Caller& /*caller*/, const v1::DeleteExperimentRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseExperimentName(request.name()));
  const SweepLease lease(backend);
  NORMLAB_RETURN_IF_ERROR(lease.status());
  absl::Status deleted;
  if (request.force()) {
    deleted = CancelAll(backend, id);
    if (deleted.ok()) {
      deleted = WaitForJobs(backend, id);
    }
  }
  if (deleted.ok()) {
    deleted = backend.store.experiments().DeleteAndWait(id);
  }
  if (absl::IsNotFound(deleted) && request.allow_missing()) {
    return google::protobuf::Empty();
  }
  NORMLAB_RETURN_IF_ERROR(deleted);
  spdlog::info("{} deleted, with its jobs", ExperimentName(id));
  return google::protobuf::Empty();
}

}  // namespace normlab::server
