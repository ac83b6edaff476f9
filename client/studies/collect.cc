#include "client/studies/collect.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "client/lib/proto_time.h"
#include "client/studies/requests.h"
#include "common/status_macros.h"

namespace normlab::client::studies {
namespace {

constexpr int kThreads = 4;

// Whether a stored cell is the plan's cell of that index.
bool Fits(const Part& part, int index, const v1::Cell& cell) {
  for (const Level* level : LevelsOfCell(part, index)) {
    for (const auto& [field, value] : level->fields) {
      const auto found = cell.values().find(field);
      if (found == cell.values().end() || found->second != value) {
        return false;
      }
    }
  }
  return true;
}

absl::Status FillPart(const Part& part, const v1::Experiment& experiment, PartRun& run) {
  const absl::Status other = absl::FailedPreconditionError(absl::StrCat(
      experiment.name(), " has other cells than part ", part.name,
      " of the study: it was made by another version of normlab; run the study again"));
  if (experiment.cells_size() != part.cells()) {
    return other;
  }
  run.experiment = experiment.name();
  for (int i = 0; i < experiment.cells_size(); ++i) {
    const v1::Cell& cell = experiment.cells(i);
    CellRun& to = run.cells[static_cast<size_t>(i)];
    if (!Fits(part, i, cell) || cell.jobs_size() != static_cast<int>(to.seeds.size())) {
      return other;
    }
    for (int s = 0; s < cell.jobs_size(); ++s) {
      to.seeds[static_cast<size_t>(s)].job.set_name(cell.jobs(s));
    }
  }
  return absl::OkStatus();
}

// Everything about one job.
absl::Status FillSeed(Client& client, SeedRun& seed) {
  const std::string name = seed.job.name();
  absl::StatusOr<v1::Job> job = client.GetJob(name);
  if (absl::IsNotFound(job.status())) {
    return absl::OkStatus();  // deleted since
  }
  NORMLAB_RETURN_IF_ERROR(job.status());
  seed.job = *std::move(job);
  if (seed.job.start_time().seconds() == 0) {
    return absl::OkStatus();
  }
  v1::ReadMetricsRequest request;
  request.set_name(name);
  return client.ReadMetrics(request, [&seed](const v1::ReadMetricsResponse& part) {
    Points& points = seed.series[part.series()];
    points.steps.insert(points.steps.end(), part.steps().begin(), part.steps().end());
    points.values.insert(points.values.end(), part.values().begin(), part.values().end());
    return absl::OkStatus();
  });
}

// Several at a time: a study has some hundreds of jobs, and a call waits mostly.
absl::Status FillSeeds(Client& client, const std::vector<SeedRun*>& seeds) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  absl::Status first_error;
  const auto work = [&] {
    for (size_t i = next++; i < seeds.size(); i = next++) {
      const absl::Status status = FillSeed(client, *seeds[i]);
      if (!status.ok()) {
        const std::lock_guard<std::mutex> lock(mutex);
        first_error.Update(status);
        next = seeds.size();
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < kThreads; ++i) {
    threads.emplace_back(work);
  }
  work();
  for (std::thread& thread : threads) {
    thread.join();
  }
  return first_error;
}

}  // namespace

absl::StatusOr<Run> Collect(Client& client,
                            const Plan& plan,
                            const std::vector<v1::Experiment>& experiments) {
  Run run = EmptyRun(plan);
  run.create_time = absl::InfiniteFuture();
  run.end_time = absl::InfinitePast();
  std::vector<SeedRun*> seeds;
  for (size_t i = 0; i < plan.parts.size(); ++i) {
    const auto found =
        std::find_if(experiments.begin(), experiments.end(), [&](const v1::Experiment& e) {
          const auto label = e.labels().find(kPartLabel);
          return label != e.labels().end() && label->second == plan.parts[i].name;
        });
    if (found == experiments.end()) {
      return absl::FailedPreconditionError(
          absl::StrCat("part ", plan.parts[i].name, " of study ", plan.study,
                       " was never started or was deleted; run the study again"));
    }
    NORMLAB_RETURN_IF_ERROR(FillPart(plan.parts[i], *found, run.parts[i]));
    run.create_time = std::min(run.create_time, ToTime(found->create_time()));
    run.end_time = found->has_end_time() ? std::max(run.end_time, ToTime(found->end_time()))
                                         : absl::InfiniteFuture();
    for (CellRun& cell : run.parts[i].cells) {
      for (SeedRun& seed : cell.seeds) {
        seeds.push_back(&seed);
      }
    }
  }
  NORMLAB_RETURN_IF_ERROR(FillSeeds(client, seeds));
  for (PartRun& part : run.parts) {
    for (CellRun& cell : part.cells) {
      cell.resolved = cell.seeds.front().job.resolved_spec();
      for (SeedRun& seed : cell.seeds) {
        seed.job.clear_resolved_spec();
      }
    }
  }
  NORMLAB_ASSIGN_OR_RETURN(const v1::ServerInfo info, client.GetServerInfo());
  run.server = absl::StrCat("normlab ", info.version(), ", oneDNN ", info.onednn_version(), ", ",
                            info.isa(), ", ", info.cores(), info.cores() == 1 ? " core" : " cores");
  return run;
}

absl::StatusOr<Plan> PlanOfExperiments(const std::vector<v1::Experiment>& experiments) {
  const auto label = [](const v1::Experiment& experiment, const char* key) {
    const auto found = experiment.labels().find(key);
    return found == experiment.labels().end() ? std::string() : found->second;
  };
  if (experiments.empty() || label(experiments.front(), kStudyLabel).empty()) {
    return absl::NotFoundError(
        "no study made this experiment; see those of studies with: normlab study list");
  }
  const v1::Experiment& first = experiments.front();
  NORMLAB_ASSIGN_OR_RETURN(
      Plan plan, MakePlan(label(first, kStudyLabel), {.preset = label(first, kPresetLabel)}));
  for (Part& part : plan.parts) {
    for (const v1::Experiment& experiment : experiments) {
      if (label(experiment, kPartLabel) == part.name) {
        part.base = experiment.base();
        part.seeds.assign(experiment.design().seeds().begin(), experiment.design().seeds().end());
      }
    }
  }
  if (const std::string changes = label(first, kChangesLabel); !changes.empty()) {
    plan.changes.push_back(changes);
  }
  return plan;
}

}  // namespace normlab::client::studies
