#include "client/report/collect_runs.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace normlab::client::report {
namespace {

constexpr size_t kThreads = 4;  // a call waits for the server most of its time
// Points of one series. A run of 20,000 steps comes whole when there are few jobs.
constexpr int64_t kAllPoints = 4'000'000;
constexpr int64_t kUsualSeries = 8;
constexpr int64_t kMostPoints = 20'000;
constexpr int64_t kFewestPoints = 1'000;

absl::Status Fetch(Client& client,
                   const std::string& name,
                   int max_points,
                   RunData& run,
                   std::atomic<bool>& sampled) {
  NORMLAB_ASSIGN_OR_RETURN(run.job, client.GetJob(name));
  if (!run.job.has_start_time()) {
    return absl::OkStatus();  // it has written nothing
  }
  normlab::v1::ReadMetricsRequest request;
  request.set_name(run.job.name());
  request.set_max_points(max_points);
  NORMLAB_RETURN_IF_ERROR(
      client.ReadMetrics(request, [&](const normlab::v1::ReadMetricsResponse& part) {
        SeriesPoints& points = run.series[part.series()];
        points.steps.insert(points.steps.end(), part.steps().begin(), part.steps().end());
        points.values.insert(points.values.end(), part.values().begin(), part.values().end());
        return absl::OkStatus();
      }));
  for (auto& [series, points] : run.series) {
    const size_t count = std::min(points.steps.size(), points.values.size());
    points.steps.resize(count);
    points.values.resize(count);
    // The server answers with about as many points as were asked for when it had to choose.
    if (count * 2 > static_cast<size_t>(max_points) && !points.steps.empty() &&
        points.steps.back() - points.steps.front() >= static_cast<double>(max_points)) {
      sampled = true;
    }
  }
  return absl::OkStatus();
}

// Jobs in the order of `names`; with `allow_missing`, one without a name for each that is gone.
absl::StatusOr<std::vector<RunData>> Collect(Client& client,
                                             const std::vector<std::string>& names,
                                             bool allow_missing,
                                             bool* sampled) {
  std::vector<RunData> runs(names.size());
  const auto max_points = static_cast<int>(std::clamp(
      kAllPoints / (kUsualSeries * static_cast<int64_t>(std::max<size_t>(1, names.size()))),
      kFewestPoints, kMostPoints));
  std::atomic<size_t> next{0};
  std::atomic<bool> any_sampled{false};
  std::mutex mutex;
  absl::Status error;
  const auto work = [&] {
    for (size_t i = next++; i < names.size(); i = next++) {
      const absl::Status status = Fetch(client, names[i], max_points, runs[i], any_sampled);
      if (allow_missing && absl::IsNotFound(status)) {
        runs[i] = RunData();
      } else if (!status.ok()) {
        const std::lock_guard<std::mutex> lock(mutex);
        error.Update(status);
        next = names.size();
      }
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(kThreads, names.size()); ++i) {
    threads.emplace_back(work);
  }
  work();
  for (std::thread& thread : threads) {
    thread.join();
  }
  NORMLAB_RETURN_IF_ERROR(error);
  *sampled = any_sampled;
  return runs;
}

}  // namespace

absl::StatusOr<std::vector<RunData>> CollectRuns(Client& client,
                                                 const std::vector<std::string>& names,
                                                 bool* sampled) {
  return Collect(client, names, false, sampled);
}

absl::StatusOr<RunSet> CollectExperiment(Client& client,
                                         const normlab::v1::Experiment& experiment) {
  RunSet set;
  set.groups = GroupCells(experiment, &set.axes);
  std::vector<std::string> names;
  for (const normlab::v1::Cell& cell : experiment.cells()) {
    names.insert(names.end(), cell.jobs().begin(), cell.jobs().end());
  }
  NORMLAB_ASSIGN_OR_RETURN(std::vector<RunData> runs, Collect(client, names, true, &set.sampled));
  size_t next = 0;
  for (int i = 0; i < experiment.cells_size(); ++i) {
    for (int j = 0; j < experiment.cells(i).jobs_size(); ++j) {
      RunData& run = runs[next++];
      if (!run.job.name().empty()) {
        set.groups[static_cast<size_t>(i)].runs.push_back(std::move(run));
      }
    }
  }
  set.groups.erase(std::remove_if(set.groups.begin(), set.groups.end(),
                                  [](const RunGroup& group) { return group.runs.empty(); }),
                   set.groups.end());
  set.experiment = experiment;
  set.experiment->clear_cells();
  return set;
}

absl::StatusOr<std::string> DescribeServer(Client& client) {
  NORMLAB_ASSIGN_OR_RETURN(const normlab::v1::ServerInfo info, client.GetServerInfo());
  return absl::StrCat("Normlab ", info.version(), ", oneDNN ", info.onednn_version(), " for ",
                      info.isa(), ", ", info.cores(), info.cores() == 1 ? " core." : " cores.");
}

}  // namespace normlab::client::report
