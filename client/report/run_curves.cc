#include "client/report/run_curves.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

#include "client/report/downsample.h"
#include "common/name_hint.h"
#include "common/series_name.h"
#include "common/wildcard.h"

namespace normlab::client::report {
namespace {

using normlab::v1::Job;

// Series with more points than these are drawn as means over windows.
constexpr size_t kManyPoints = 240;
constexpr double kWindows = 120;

Windowed PointsOf(const RunData& run, const std::string& series, double window) {
  const auto found = run.series.find(series);
  if (found == run.series.end()) {
    return {};
  }
  return window > 0 ? WindowMeans(found->second.steps, found->second.values, window)
                    : Windowed{found->second.steps, found->second.values};
}

// Mean and band over runs at each step that all of them have.
Line MeanLine(const std::vector<Windowed>& runs) {
  std::map<double, std::vector<double>> at;
  for (const Windowed& run : runs) {
    for (size_t i = 0; i < run.x.size(); ++i) {
      at[run.x[i]].push_back(run.y[i]);
    }
  }
  Line line;
  for (const auto& [step, values] : at) {
    if (values.size() != runs.size()) {
      continue;
    }
    double sum = 0;
    for (const double value : values) {
      sum += value;
    }
    line.x.push_back(step);
    line.y.push_back(sum / static_cast<double>(values.size()));
    if (runs.size() > 1) {
      const auto [low, high] = std::minmax_element(values.begin(), values.end());
      line.low.push_back(*low);
      line.high.push_back(*high);
    }
  }
  return line;
}

std::string ShortState(const Job& job) {
  switch (job.state()) {
    case Job::DIVERGED:
      return "diverged";
    case Job::FAILED:
      return "failed";
    case Job::CANCELLED:
      return "cancelled";
    case Job::PAUSED:
      return "paused";
    default:
      return "not over";
  }
}

}  // namespace

std::vector<Line> CurvesOf(const RunGroup& group, const std::string& series, double window) {
  std::vector<Windowed> complete;
  std::vector<Line> lines;
  std::vector<Line> others;
  for (const RunData& run : group.runs) {
    Windowed points = PointsOf(run, series, window);
    if (points.x.empty()) {
      continue;
    }
    if (run.succeeded()) {
      complete.push_back(std::move(points));
      continue;
    }
    Line line;
    line.name = group.runs.size() == 1 ? absl::StrCat(group.name, " (", ShortState(run.job), ")")
                                       : absl::StrCat(group.name, ", seed ", run.job.spec().seed(),
                                                      " (", ShortState(run.job), ")");
    line.x = std::move(points.x);
    line.y = std::move(points.y);
    others.push_back(std::move(line));
  }
  if (!complete.empty()) {
    Line mean = MeanLine(complete);
    mean.name = group.name;
    if (!mean.x.empty()) {
      lines.push_back(std::move(mean));
    }
  }
  lines.insert(lines.end(), others.begin(), others.end());
  return lines;
}

double ChooseWindow(const RunSet& set, const std::string& series) {
  size_t most = 0;
  double last = 0;
  for (const RunGroup& group : set.groups) {
    for (const RunData& run : group.runs) {
      const auto found = run.series.find(series);
      if (found != run.series.end() && !found->second.steps.empty()) {
        most = std::max(most, found->second.steps.size());
        last = std::max(last, found->second.steps.back());
      }
    }
  }
  return most > kManyPoints ? std::max(1.0, std::ceil((last + 1) / kWindows)) : 0;
}

Scale ChooseScale(const std::vector<Line>& lines) {
  std::vector<double> values;
  for (const Line& line : lines) {
    for (const double value : line.y) {
      if (std::isfinite(value)) {
        values.push_back(value);
      }
    }
  }
  if (values.empty()) {
    return Scale::kLinear;
  }
  std::sort(values.begin(), values.end());
  constexpr double kWide = 30;
  constexpr double kTail = 0.02;
  const auto tail = static_cast<size_t>(kTail * static_cast<double>(values.size()));
  const double low = values[tail];
  const double high = values[values.size() - 1 - tail];
  return values.front() > 0 && high / low > kWide ? Scale::kLogarithmic : Scale::kLinear;
}

std::vector<std::string> AllSeries(const RunSet& set) {
  std::set<std::string> names;
  for (const RunGroup& group : set.groups) {
    for (const RunData& run : group.runs) {
      for (const auto& [name, points] : run.series) {
        names.insert(name);
      }
    }
  }
  std::vector<std::string> ordered;
  for (const char* first : {"train/loss", "test/loss", "train/accuracy", "test/accuracy"}) {
    if (names.erase(first) > 0) {
      ordered.emplace_back(first);
    }
  }
  ordered.insert(ordered.end(), names.begin(), names.end());
  return ordered;
}

absl::Status CheckSeries(const RunSet& set, const std::vector<std::string>& wanted) {
  std::vector<std::string> names = AllSeries(set);
  if (names.empty()) {
    return absl::OkStatus();
  }
  for (const std::string& pattern : wanted) {
    if (std::none_of(names.begin(), names.end(), [&pattern](const std::string& name) {
          return common::WildcardMatch(pattern, name);
        })) {
      const std::string nearest = common::NearestName(pattern, names);
      // Of layers there may be hundreds.
      names.erase(
          std::remove_if(names.begin(), names.end(),
                         [](const std::string& name) { return common::IsDetailSeries(name); }),
          names.end());
      return absl::InvalidArgumentError(
          absl::StrCat("no job here has a series \"", pattern, "\"; ",
                       nearest.empty() ? absl::StrCat("there are ", absl::StrJoin(names, ", "))
                                       : absl::StrCat("did you mean ", nearest, "?")));
    }
  }
  return absl::OkStatus();
}

bool IsWanted(const std::string& series, const RunReportOptions& options) {
  if (!options.series.empty()) {
    return std::any_of(
        options.series.begin(), options.series.end(),
        [&](const std::string& pattern) { return common::WildcardMatch(pattern, series); });
  }
  // The same norms once more over the weights alone.
  const bool of_weights =
      absl::EndsWith(series, "_weights") &&
      (absl::StartsWith(series, "landscape/") || absl::StartsWith(series, "gradient_noise/"));
  return !common::IsDetailSeries(series) && !of_weights && series != "train/learning_rate" &&
         series != "sharpness/iterations";
}

std::string StateText(const Job& job) {
  const int64_t step = job.progress().step();
  switch (job.state()) {
    case Job::SUCCEEDED:
      return "succeeded";
    case Job::DIVERGED:
      return absl::StrCat("diverged at step ", job.result().steps());
    case Job::FAILED:
      return absl::StrCat("failed at step ", step);
    case Job::CANCELLED:
      return absl::StrCat("was cancelled at step ", step);
    case Job::PAUSED:
      return absl::StrCat("is paused at step ", step);
    case Job::STARTING:
    case Job::RUNNING:
      return job.progress().total_steps() > 0
                 ? absl::StrCat("still runs, at step ", step, " of ", job.progress().total_steps())
                 : "still runs";
    default:
      return "waits";
  }
}

std::string SeriesTitle(const std::string& series) {
  static const std::map<std::string, std::string>& titles = *new std::map<std::string, std::string>{
      {"train/loss", "Training loss"},
      {"train/accuracy", "Training accuracy"},
      {"test/loss", "Test loss"},
      {"test/accuracy", "Test accuracy"},
      {"train/learning_rate", "Learning rate"},
      {"landscape/smoothness", "Effective smoothness along the gradient"},
      {"gradient_norm/all", "Norm of the gradient"},
      {"gradient_norm/weights", "Norm of the weights' gradient"},
      {"weight_norm/weights", "Norm of the weights"},
      {"update_ratio/weights", "Size of updates relative to the weights"},
      {"gradient_noise/second_moment", "Second moment of the gradient"},
      {"gradient_noise/variance", "Variance of the gradient"},
      {"gradient_noise/mean_squared_norm", "Squared norm of the true gradient"},
      {"gradient_noise/noise_scale", "Gradient noise scale"},
      {"sharpness/top_eigenvalue", "Sharpness: greatest eigenvalue of the Hessian"},
      {"covariate_shift", "Internal covariate shift (Santurkar et al., Def. 2.1)"},
      {"covariate_shift_cosine",
       "Cosine of the gradients before and after the layers below were updated"},
      {"covariate_shift_relative", "Internal covariate shift relative to the gradient"},
      {"gradient_norm", "Norm of each layer's gradient"},
      {"output_gradient_norm", "Norm of the gradient at each layer's output"},
      {"activation_shift", "Shift of each layer's activations in one update"},
      {"dead_fraction", "Share of dead channels"},
      {"gradient_weight_cosine", "Cosine of weights and gradient"}};
  const auto found = titles.find(series);
  return found == titles.end() ? absl::StrReplaceAll(series, {{"_", " "}}) : found->second;
}

}  // namespace normlab::client::report
