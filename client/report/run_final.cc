#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

#include "client/report/number_text.h"
#include "client/report/run_curves.h"
#include "client/report/runs.h"
#include "common/statistics.h"

namespace normlab::client::report {
namespace {

using normlab::v1::Job;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
// Fewer values of two axes make a table, not a map.
constexpr size_t kLeastMap = 6;

std::string Lower(std::string text) {
  if (!text.empty()) {
    text[0] = absl::ascii_tolower(static_cast<unsigned char>(text[0]));
  }
  return text;
}

// Final values of the jobs of a group that succeeded, in the order of seeds; NaN for the others.
std::vector<double> FinalValues(const RunGroup& group, const std::string& series) {
  std::vector<double> values;
  for (const RunData& run : group.runs) {
    values.push_back(run.succeeded() ? run.Final(series) : kNaN);
  }
  return values;
}

// The values of b's seeds in the order of a's; NaN for a seed that b has not.
std::vector<double> MatchSeeds(const RunGroup& a, const RunGroup& b, const std::string& series) {
  std::vector<double> values;
  for (const RunData& run : a.runs) {
    const auto same = std::find_if(b.runs.begin(), b.runs.end(), [&](const RunData& other) {
      return other.job.spec().seed() == run.job.spec().seed() && other.succeeded();
    });
    values.push_back(same == b.runs.end() ? kNaN : same->Final(series));
  }
  return values;
}

std::string Percent(double share) {
  return absl::StrCat(FormatMeasure(100 * share), "%");
}

// Means with intervals, in the order of groups.
Table FinalTable(const RunSet& set, const std::vector<std::string>& series, double confidence) {
  Table table{.id = "final", .title = "Final values"};
  table.columns = {"run", "seeds", "succeeded"};
  for (const std::string& name : series) {
    table.columns.push_back(Lower(SeriesTitle(name)));
    table.columns.push_back(absl::StrCat("\u00b1 ", Percent(confidence)));
  }
  for (const RunGroup& group : set.groups) {
    const auto succeeded = std::count_if(group.runs.begin(), group.runs.end(),
                                         [](const RunData& run) { return run.succeeded(); });
    std::vector<Table::Value> row = {group.name, static_cast<double>(group.runs.size()),
                                     static_cast<double>(succeeded)};
    for (const std::string& name : series) {
      const common::SampleStatistics sample = common::DescribeSample(FinalValues(group, name));
      const common::Interval interval = common::MeanInterval(sample, confidence);
      row.emplace_back(sample.mean);
      row.emplace_back((interval.high - interval.low) / 2);
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

Table DifferenceTable(const RunSet& set,
                      const std::vector<std::string>& series,
                      size_t baseline,
                      double confidence) {
  const RunGroup& base = set.groups[baseline];
  Table table{.id = "differences", .title = absl::StrCat("Differences to ", base.name)};
  table.columns = {"run", "pairs of seeds"};
  for (const std::string& name : series) {
    const std::string title = Lower(SeriesTitle(name));
    table.columns.push_back(absl::StrCat("\u0394 ", title));
    table.columns.push_back(absl::StrCat(Percent(confidence), " interval"));
  }
  for (size_t g = 0; g < set.groups.size(); ++g) {
    if (g == baseline) {
      continue;
    }
    std::vector<Table::Value> row = {set.groups[g].name};
    int64_t pairs = 0;
    std::vector<Table::Value> cells;
    for (const std::string& name : series) {
      const common::TTest test = common::PairedTTest(
          FinalValues(set.groups[g], name), MatchSeeds(set.groups[g], base, name), confidence);
      pairs = std::max(pairs, test.n);
      cells.emplace_back(test.mean);
      const bool known = std::isfinite(test.interval.low) && std::isfinite(test.interval.high);
      const MeasuredText text =
          FormatMeasured(test.mean, Interval{test.interval.low, test.interval.high});
      cells.emplace_back(known ? absl::StrCat(text.low, " to ", text.high) : "");
    }
    row.emplace_back(static_cast<double>(pairs));
    row.insert(row.end(), cells.begin(), cells.end());
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::vector<std::string> Distinct(const RunSet& set, size_t axis) {
  std::vector<std::string> values;
  for (const RunGroup& group : set.groups) {
    const std::string& value = group.levels[axis];
    if (std::find(values.begin(), values.end(), value) == values.end()) {
      values.push_back(value);
    }
  }
  return values;
}

// Means and single seeds of one series; by axes where an experiment has two.
Chart DotsOf(const RunSet& set, const std::string& series, double confidence) {
  DotChart body;
  const bool by_axes = set.axes.size() == 2;
  body.x = {.title = by_axes ? set.axes[0] : set.axes.size() == 1 ? set.axes[0] : ""};
  body.y = {.title = absl::StrCat("final ", Lower(SeriesTitle(series)))};
  for (const RunGroup& group : set.groups) {
    DotChart::Dot dot{.category = by_axes || set.axes.size() == 1 ? group.levels[0] : group.name,
                      .group = by_axes ? group.levels[1] : ""};
    if (dot.category.empty()) {
      dot.category = group.name;
    }
    for (const double value : FinalValues(group, series)) {
      if (!std::isnan(value)) {
        dot.seeds.push_back(value);
      }
    }
    const common::SampleStatistics sample = common::DescribeSample(dot.seeds);
    const common::Interval interval = common::MeanInterval(sample, confidence);
    dot.value = sample.mean;
    if (std::isfinite(interval.low)) {
      dot.interval = Interval{interval.low, interval.high};
    }
    if (dot.seeds.size() == 1) {
      dot.seeds.clear();  // it is the mean
    }
    body.dots.push_back(std::move(dot));
  }
  return {.id = absl::StrCat("final-", absl::StrReplaceAll(series, {{"/", "-"}})),
          .title = absl::StrCat("Final ", Lower(SeriesTitle(series))),
          .caption = absl::StrCat("Means over the seeds that succeeded with ", Percent(confidence),
                                  " intervals (Student's t); small dots are single seeds."),
          .body = std::move(body)};
}

Chart MapOf(const RunSet& set, const std::string& series) {
  HeatMap body;
  body.x = {.title = set.axes[1]};
  body.y = {.title = set.axes[0]};
  body.columns = Distinct(set, 1);
  body.rows = Distinct(set, 0);
  body.value_title = Lower(SeriesTitle(series));
  body.values.assign(body.rows.size() * body.columns.size(), kNaN);
  for (const RunGroup& group : set.groups) {
    const auto row =
        std::find(body.rows.begin(), body.rows.end(), group.levels[0]) - body.rows.begin();
    const auto column =
        std::find(body.columns.begin(), body.columns.end(), group.levels[1]) - body.columns.begin();
    body.values[static_cast<size_t>(row) * body.columns.size() + static_cast<size_t>(column)] =
        common::DescribeSample(FinalValues(group, series)).mean;
  }
  return {.id = absl::StrCat("map-", absl::StrReplaceAll(series, {{"/", "-"}})),
          .title = absl::StrCat("Final ", Lower(SeriesTitle(series)), " by ", set.axes[0], " and ",
                                set.axes[1]),
          .caption = "Means over the seeds that succeeded; grey: none did.",
          .body = std::move(body)};
}

}  // namespace

std::vector<std::string> MainSeries(const RunSet& set, const RunReportOptions& options) {
  std::vector<std::string> wanted = {"test/accuracy", "test/loss", "train/accuracy", "train/loss"};
  if (!options.series.empty()) {
    wanted.clear();
    for (const std::string& series : AllSeries(set)) {
      if (IsWanted(series, options)) {
        wanted.push_back(series);
      }
    }
  }
  wanted.erase(
      std::remove_if(
          wanted.begin(), wanted.end(),
          [&](const std::string& series) {
            return std::none_of(set.groups.begin(), set.groups.end(), [&](const RunGroup& group) {
              return std::any_of(group.runs.begin(), group.runs.end(), [&](const RunData& run) {
                return run.succeeded() && !std::isnan(run.Final(series));
              });
            });
          }),
      wanted.end());
  return wanted;
}

Section FinalSection(const RunSet& set, const RunReportOptions& options) {
  Section section{.title = "Final values"};
  const std::vector<std::string> series = MainSeries(set, options);
  if (series.empty()) {
    const bool succeeded =
        std::any_of(set.groups.begin(), set.groups.end(), [](const RunGroup& group) {
          return std::any_of(group.runs.begin(), group.runs.end(),
                             [](const RunData& run) { return run.succeeded(); });
        });
    section.text = succeeded ? "No job that succeeded has a last value of the series asked for."
                             : "No job has succeeded so far: there are no final values.";
    return section;
  }
  const bool several = set.groups.size() > 1 || set.groups[0].runs.size() > 1;
  if (several && set.axes.size() == 2 &&
      Distinct(set, 0).size() * Distinct(set, 1).size() >= kLeastMap &&
      Distinct(set, 0).size() > 1 && Distinct(set, 1).size() > 1) {
    section.charts.push_back(MapOf(set, series[0]));
  }
  if (several) {
    section.charts.push_back(DotsOf(set, series[0], options.confidence));
  }
  section.tables.push_back(FinalTable(set, series, options.confidence));
  if (options.baseline.has_value() && *options.baseline < set.groups.size() &&
      set.groups.size() > 1) {
    section.tables.push_back(DifferenceTable(set, series, *options.baseline, options.confidence));
  }
  return section;
}

Table JobTable(const RunSet& set) {
  Table table{.id = "jobs"};
  table.columns = {"run", "seed", "job", "state", "updates", "seconds"};
  for (const RunGroup& group : set.groups) {
    for (const RunData& run : group.runs) {
      const Job& job = run.job;
      const bool has_result = job.has_result();
      table.rows.push_back(
          {group.name, static_cast<double>(job.spec().seed()), job.name(), StateText(job),
           static_cast<double>(has_result ? job.result().steps() : job.progress().step()),
           has_result ? job.result().training_seconds() : kNaN});
    }
  }
  return table;
}

}  // namespace normlab::client::report
