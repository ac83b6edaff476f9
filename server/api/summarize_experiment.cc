#include "server/api/summarize_experiment.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/name_hint.h"
#include "common/statistics.h"
#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

// Read together; no reader is open for longer, and nothing of a finished job changes in between.
constexpr int kJobsPerRead = 500;
constexpr int kMaxSeries = 1000;
// No series of a job has a longer name.
constexpr size_t kMaxSeriesBytes = 200;
// Statistics of one answer, cells by series. A cell repeats the name of every series, so that few
// bytes of a request could make very many of an answer.
constexpr int64_t kMaxStatistics = 100'000;
// The answer has to fit into what gRPC clients take by default, 4 MiB.
constexpr size_t kMaxSummaryBytes = size_t{4'000} << 10;
constexpr double kDefaultConfidence = 0.95;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

constexpr const char* kDefaultSeries[] = {"train/loss", "train/accuracy", "test/loss",
                                          "test/accuracy"};

// Values by cell, series and seed; NaN: the job has not succeeded, or has no such series.
using Values = std::vector<std::vector<std::vector<double>>>;

struct Results {
  Values values;
  std::vector<bool> seen;      // by series: some job has it
  int64_t first_success = -1;  // position of a job that succeeded; -1: none has
};

absl::StatusOr<Results> ReadResults(Backend& backend,
                                    const std::string& id,
                                    const v1::Experiment& experiment,
                                    const std::vector<std::string>& series) {
  Results results;
  results.seen.assign(series.size(), false);
  std::vector<std::pair<size_t, size_t>> places;  // cell and seed by position
  for (const v1::Cell& cell : experiment.cells()) {
    const auto seeds = static_cast<size_t>(cell.jobs_size());
    for (size_t seed = 0; seed < seeds; ++seed) {
      places.emplace_back(results.values.size(), seed);
    }
    results.values.emplace_back(series.size(), std::vector<double>(seeds, kNan));
  }
  int64_t position = 0;
  while (true) {
    NORMLAB_ASSIGN_OR_RETURN(
        const std::vector<ExperimentResult> jobs,
        backend.store.experiments().ReadResults(id, series, position, kJobsPerRead));
    if (jobs.empty()) {
      return results;
    }
    for (const ExperimentResult& job : jobs) {
      if (job.state != v1::Job::SUCCEEDED || static_cast<size_t>(job.position) >= places.size()) {
        continue;
      }
      results.first_success = results.first_success < 0 ? job.position : results.first_success;
      const auto [cell, seed] = places[static_cast<size_t>(job.position)];
      for (size_t s = 0; s < series.size(); ++s) {
        results.values[cell][s][seed] = job.last_values[s];
        results.seen[s] = results.seen[s] || !std::isnan(job.last_values[s]);
      }
    }
    position = jobs.back().position + 1;
  }
}

// A series that no job has is a mistake, once some job has ended.
absl::Status CheckSeen(Backend& backend,
                       const v1::Experiment& experiment,
                       const std::vector<std::string>& series,
                       const Results& results) {
  if (results.first_success < 0) {
    return absl::OkStatus();
  }
  int64_t position = results.first_success;
  std::string job;
  for (const v1::Cell& cell : experiment.cells()) {
    if (position < cell.jobs_size()) {
      job = cell.jobs(static_cast<int>(position));
      break;
    }
    position -= cell.jobs_size();
  }
  NORMLAB_ASSIGN_OR_RETURN(const std::string job_id, ParseJobName(job));
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<v1::Series> known, backend.store.ReadSeries(job_id));
  std::vector<std::string> names;
  for (const v1::Series& one : known) {
    names.push_back(one.name());
  }
  std::vector<FieldViolation> violations;
  for (size_t s = 0; s < series.size(); ++s) {
    // A series of nothing but NaN exists all the same.
    if (!results.seen[s] && std::find(names.begin(), names.end(), series[s]) == names.end()) {
      violations.push_back(
          {absl::StrCat("series[", s, "]"),
           absl::StrCat(QuotedForMessage(series[s]), " is no series of these jobs; ",
                        common::NameHint(series[s], names))});
    }
  }
  return violations.empty() ? absl::OkStatus() : InvalidRequest(violations);
}

v1::Statistic Describe(const std::string& series,
                       const std::vector<double>& values,
                       const std::vector<double>* baseline,
                       double confidence) {
  const common::SampleStatistics sample = common::DescribeSample(values);
  const common::Interval interval = common::MeanInterval(sample, confidence);
  v1::Statistic statistic;
  statistic.set_series(series);
  statistic.set_n(static_cast<int32_t>(sample.n));
  statistic.set_mean(sample.mean);
  statistic.set_standard_deviation(sample.standard_deviation);
  statistic.set_interval_low(interval.low);
  statistic.set_interval_high(interval.high);
  statistic.set_minimum(sample.minimum);
  statistic.set_maximum(sample.maximum);
  statistic.mutable_per_seed()->Add(values.begin(), values.end());
  if (baseline != nullptr) {
    const common::TTest difference = common::PairedTTest(values, *baseline, confidence);
    statistic.set_difference_mean(difference.mean);
    statistic.set_difference_low(difference.interval.low);
    statistic.set_difference_high(difference.interval.high);
    statistic.set_difference_n(static_cast<int32_t>(difference.n));
  }
  return statistic;
}

absl::Status TooLarge(absl::string_view what) {
  return InvalidArgument(
      "series", absl::StrCat("makes ", what,
                             "; ask for fewer series at a time, or make several experiments"));
}

// Before anything is read: what the names alone, and a value of every job, would take.
absl::Status CheckSize(const v1::SummarizeExperimentRequest& request,
                       const v1::Experiment& experiment) {
  const int64_t cells = experiment.cells_size();
  int64_t jobs = 0;
  for (const v1::Cell& cell : experiment.cells()) {
    jobs += cell.jobs_size();
  }
  if (cells * request.series_size() > kMaxStatistics) {
    return TooLarge(absl::StrCat(cells, " cells by ", request.series_size(),
                                 " series, but an answer has at most ", kMaxStatistics,
                                 " statistics"));
  }
  int64_t bytes = 0;
  for (int s = 0; s < request.series_size(); ++s) {
    if (const size_t length = request.series(s).size(); length > kMaxSeriesBytes) {
      return InvalidArgument(absl::StrCat("series[", s, "]"),
                             absl::StrCat("has ", length, " bytes, but no series has more than ",
                                          kMaxSeriesBytes, "; give a name such as train/loss"));
    }
    bytes += cells * static_cast<int64_t>(request.series(s).size()) +
             jobs * static_cast<int64_t>(sizeof(double));
  }
  if (bytes > static_cast<int64_t>(kMaxSummaryBytes)) {
    return TooLarge(absl::StrCat("more than ", bytes >> 10, " KiB, but an answer has at most ",
                                 kMaxSummaryBytes >> 10, " KiB"));
  }
  return absl::OkStatus();
}

absl::Status CheckRequest(const v1::SummarizeExperimentRequest& request,
                          const v1::Experiment& experiment) {
  if (request.has_confidence() && !(request.confidence() > 0 && request.confidence() < 1)) {
    return InvalidArgument("confidence", absl::StrCat("is ", request.confidence(),
                                                      "; give a fraction above 0 and below 1, for "
                                                      "example 0.95"));
  }
  if (request.has_baseline() &&
      (request.baseline() < 0 || request.baseline() >= experiment.cells_size())) {
    return InvalidArgument(
        "baseline",
        absl::StrCat("is ", request.baseline(), ", but the experiment's ", experiment.cells_size(),
                     " cells are numbered from 0; give one of them"));
  }
  if (request.series_size() > kMaxSeries) {
    return InvalidArgument(
        "series", absl::StrCat("has ", request.series_size(), " names; use at most ", kMaxSeries));
  }
  return CheckSize(request, experiment);
}

}  // namespace

absl::StatusOr<v1::ExperimentSummary> HandleSummarizeExperiment(
    Backend& backend, const Caller& /*caller*/, const v1::SummarizeExperimentRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseExperimentName(request.name()));
  NORMLAB_ASSIGN_OR_RETURN(const StoredExperiment stored,
                           backend.store.experiments().Get(id, ExperimentStore::Parts::kAll));
  NORMLAB_RETURN_IF_ERROR(CheckRequest(request, stored.experiment));
  const bool chosen = !request.series().empty();
  std::vector<std::string> series(request.series().begin(), request.series().end());
  if (!chosen) {
    series.assign(std::begin(kDefaultSeries), std::end(kDefaultSeries));
  }
  NORMLAB_ASSIGN_OR_RETURN(const Results results,
                           ReadResults(backend, id, stored.experiment, series));
  if (chosen) {
    NORMLAB_RETURN_IF_ERROR(CheckSeen(backend, stored.experiment, series, results));
  }
  const double confidence = request.has_confidence() ? request.confidence() : kDefaultConfidence;
  v1::ExperimentSummary summary;
  size_t bytes = 0;
  for (int c = 0; c < stored.experiment.cells_size(); ++c) {
    const v1::Cell& cell = stored.experiment.cells(c);
    v1::CellSummary& out = *summary.add_cells();
    *out.mutable_values() = cell.values();
    *out.mutable_counts() = cell.counts();
    for (size_t s = 0; s < series.size(); ++s) {
      // A regression, say, has no accuracy.
      if (!chosen && !results.seen[s] && results.first_success >= 0) {
        continue;
      }
      const auto baseline = static_cast<size_t>(request.baseline());
      *out.add_statistics() =
          Describe(series[s], results.values[static_cast<size_t>(c)][s],
                   request.has_baseline() ? &results.values[baseline][s] : nullptr, confidence);
    }
    bytes += out.ByteSizeLong();
    if (bytes > kMaxSummaryBytes) {
      return TooLarge(absl::StrCat("an answer of more than ", kMaxSummaryBytes >> 10, " KiB (",
                                   series.size(), " series of ", stored.experiment.cells_size(),
                                   " cells)"));
    }
  }
  return summary;
}

}  // namespace normlab::server
