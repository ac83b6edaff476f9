#include "client/studies/runner.h"

#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "client/studies/requests.h"
#include "common/status_macros.h"

namespace normlab::client::studies {
namespace {

constexpr int kLargestPage = 1000;
// Runs of one study that failed one after the other before it is given up to number them.
constexpr int kMostAttempts = 100;

std::string Label(const v1::Experiment& experiment, const char* key) {
  const auto found = experiment.labels().find(key);
  return found == experiment.labels().end() ? "" : found->second;
}

// The same error with the study's part before its text, and the server's details.
absl::Status InPart(const absl::Status& status, const Plan& plan, size_t part) {
  absl::Status named(status.code(), absl::StrCat("study ", plan.study, ", part ",
                                                 plan.parts[part].name, ": ", status.message()));
  status.ForEachPayload([&named](absl::string_view url, const absl::Cord& payload) {
    named.SetPayload(url, payload);
  });
  return named;
}

absl::Status Check(ExperimentCalls& calls,
                   const Plan& plan,
                   const std::vector<v1::CreateExperimentRequest>& requests) {
  for (size_t i = 0; i < requests.size(); ++i) {
    v1::CreateExperimentRequest request = requests[i];
    request.set_validate_only(true);
    request.clear_request_id();
    if (const absl::Status status = calls.Create(request).status(); !status.ok()) {
      return InPart(status, plan, i);
    }
  }
  return absl::OkStatus();
}

// Complete experiments in place of those of a list.
absl::StatusOr<std::vector<v1::Experiment>> Complete(ExperimentCalls& calls,
                                                     const std::vector<v1::Experiment>& listed) {
  std::vector<v1::Experiment> complete;
  for (const v1::Experiment& experiment : listed) {
    NORMLAB_ASSIGN_OR_RETURN(v1::Experiment whole, calls.Get(experiment.name()));
    complete.push_back(std::move(whole));
  }
  return complete;
}

// Whether every part of its study is there, and over.
bool HasAllParts(const std::vector<v1::Experiment>& parts) {
  const auto plan =
      MakePlan(Label(parts.front(), kStudyLabel), {.preset = Label(parts.front(), kPresetLabel)});
  return plan.ok() && plan->parts.size() == parts.size();
}

bool IsOver(const std::vector<v1::Experiment>& parts) {
  return std::all_of(parts.begin(), parts.end(),
                     [](const v1::Experiment& part) { return part.has_end_time(); });
}

// "a newer run of ... is under way".
std::string UnderWay(const std::vector<v1::Experiment>& parts) {
  const v1::Experiment& first = parts.front();
  const v1::JobCounts counts = SumOfCounts(parts);
  const std::string changes = Label(first, kChangesLabel);
  return absl::StrCat(
      "a newer run of this study (preset ", Label(first, kPresetLabel), changes.empty() ? "" : ", ",
      changes, ") is under way, ", JobsOver(counts), " of ", JobsIn(counts),
      " jobs over: it is not in this report; for what it has so far name ", first.name());
}

}  // namespace

v1::JobCounts SumOfCounts(const std::vector<v1::Experiment>& experiments) {
  v1::JobCounts sum;
  for (const v1::Experiment& experiment : experiments) {
    const v1::JobCounts& counts = experiment.counts();
    sum.set_queued(sum.queued() + counts.queued());
    sum.set_running(sum.running() + counts.running());
    sum.set_succeeded(sum.succeeded() + counts.succeeded());
    sum.set_diverged(sum.diverged() + counts.diverged());
    sum.set_failed(sum.failed() + counts.failed());
    sum.set_cancelled(sum.cancelled() + counts.cancelled());
    sum.set_paused(sum.paused() + counts.paused());
  }
  return sum;
}

int JobsOver(const v1::JobCounts& counts) {
  return counts.succeeded() + counts.diverged() + counts.failed() + counts.cancelled();
}

int JobsIn(const v1::JobCounts& counts) {
  return JobsOver(counts) + counts.queued() + counts.running() + counts.paused();
}

absl::Status CheckRun(ExperimentCalls& calls, const Plan& plan, absl::string_view server_version) {
  return Check(calls, plan, MakeRequests(plan, server_version, ""));
}

absl::StatusOr<StartedRun> StartRun(ExperimentCalls& calls,
                                    const Plan& plan,
                                    absl::string_view server_version,
                                    absl::string_view again) {
  NORMLAB_RETURN_IF_ERROR(CheckRun(calls, plan, server_version));
  for (int attempt = 1; attempt <= kMostAttempts; ++attempt) {
    const std::vector<v1::CreateExperimentRequest> requests =
        MakeRequests(plan, server_version,
                     attempt == 1 ? std::string(again) : absl::StrCat(again, "#", attempt));
    StartedRun run;
    for (size_t i = 0; i < requests.size(); ++i) {
      absl::StatusOr<v1::Experiment> experiment = calls.Create(requests[i]);
      if (!experiment.ok()) {
        return InPart(experiment.status(), plan, i);
      }
      run.experiments.push_back(*std::move(experiment));
    }
    const v1::JobCounts counts = SumOfCounts(run.experiments);
    run.found = JobsOver(counts) + counts.running() > 0;
    if (counts.failed() == 0 && counts.cancelled() == 0) {
      return run;
    }
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "study ", plan.study, ": ", kMostAttempts,
      " runs of it have failed jobs; look at them with: normlab list --filter labels.study=",
      plan.study));
}

absl::Status WaitForRun(ExperimentCalls& calls,
                        std::vector<v1::Experiment>& experiments,
                        const std::function<void(const std::vector<v1::Experiment>&)>& on_change) {
  // One after the other: they run in about this order, and what later ones do meanwhile is asked for when it is shown.
  for (v1::Experiment& experiment : experiments) {
    const auto changed = [&](const v1::Experiment& now) {
      *experiment.mutable_counts() = now.counts();
      for (v1::Experiment& other : experiments) {
        if (&other > &experiment) {
          if (const auto later = calls.Get(other.name()); later.ok()) {
            *other.mutable_counts() = later->counts();
          }
        }
      }
      on_change(experiments);
    };
    NORMLAB_RETURN_IF_ERROR(
        calls.Watch(experiment.name(), changed, [&] { on_change(experiments); }));
    NORMLAB_ASSIGN_OR_RETURN(experiment, calls.Get(experiment.name()));
  }
  on_change(experiments);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::Experiment>> FindRun(ExperimentCalls& calls,
                                                    absl::string_view what,
                                                    absl::string_view preset,
                                                    std::string* note) {
  std::string study(what);
  std::string only_run;
  if (absl::StartsWith(what, "experiments/")) {
    NORMLAB_ASSIGN_OR_RETURN(const v1::Experiment experiment, calls.Get(std::string(what)));
    study = Label(experiment, kStudyLabel);
    only_run = Label(experiment, kRunLabel);
    if (study.empty()) {
      return absl::NotFoundError(absl::StrCat(
          what, " is no run of a study; write its report with: normlab report ", what));
    }
  } else {
    NORMLAB_RETURN_IF_ERROR(DescribeStudy(study).status());
  }
  // Runs in the order of their newest part.
  std::vector<std::string> order;
  std::map<std::string, std::vector<v1::Experiment>> runs;
  v1::ListExperimentsRequest request;
  request.set_page_size(kLargestPage);
  do {
    NORMLAB_ASSIGN_OR_RETURN(const v1::ListExperimentsResponse page, calls.List(request));
    for (const v1::Experiment& experiment : page.experiments()) {
      const std::string run = Label(experiment, kRunLabel);
      const bool wanted = Label(experiment, kStudyLabel) == study && !run.empty() &&
                          (only_run.empty() || run == only_run) &&
                          (preset.empty() || Label(experiment, kPresetLabel) == preset);
      if (wanted) {
        if (runs[run].empty()) {
          order.push_back(run);
        }
        runs[run].push_back(experiment);
      }
    }
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  const std::vector<v1::Experiment>* newest = nullptr;
  for (const std::string& run : order) {
    if (!HasAllParts(runs[run])) {
      continue;
    }
    if (IsOver(runs[run])) {
      if (newest != nullptr && note != nullptr) {
        *note = UnderWay(*newest);
      }
      return Complete(calls, runs[run]);
    }
    newest = newest == nullptr ? &runs[run] : newest;
  }
  if (newest != nullptr) {
    return Complete(calls, *newest);
  }
  return absl::NotFoundError(absl::StrCat("there is no run of study ", study,
                                          preset.empty() ? "" : " with preset ", preset,
                                          " on this server; start one with: normlab study run ",
                                          study, preset.empty() ? "" : " --preset ", preset));
}

}  // namespace normlab::client::studies
