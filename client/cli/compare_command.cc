#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "client/cli/commands.h"
#include "client/cli/comparison.h"
#include "client/cli/exit_code.h"
#include "client/cli/experiment_view.h"
#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

using normlab::v1::Experiment;
using normlab::v1::Job;

constexpr int kWidestChart = 100;
constexpr int kChartHeight = 14;
constexpr int kWidestValue = 28;
constexpr size_t kMaxJobs = 100;
// Of the charts; more cannot be told apart.
constexpr size_t kMaxCurves = 12;

struct CompareOptions {
  std::vector<std::string> names;
  std::string series = "train/loss";
  bool chart = true;
};

// One curve to be drawn, of one job.
struct Drawn {
  std::string name;
  std::string job;
};

absl::StatusOr<std::string> Chart(const CompareOptions& options,
                                  const std::vector<Drawn>& drawn,
                                  CommandContext& context,
                                  Client& client) {
  const int width = std::min(context.out().Width(), kWidestChart);
  std::vector<Curve> curves;
  for (const Drawn& one : drawn) {
    if (curves.size() == kMaxCurves) {
      break;
    }
    normlab::v1::ReadMetricsRequest request;
    request.set_name(one.job);
    request.add_series(options.series);
    request.set_max_points(2 * width);
    Curve curve = {.name = one.name};
    const absl::Status status =
        client.ReadMetrics(request, [&](const normlab::v1::ReadMetricsResponse& part) {
          curve.steps.insert(curve.steps.end(), part.steps().begin(), part.steps().end());
          curve.values.insert(curve.values.end(), part.values().begin(), part.values().end());
          return absl::OkStatus();
        });
    if (!status.ok() && !absl::IsNotFound(status)) {
      return status;
    }
    curves.push_back(std::move(curve));
  }
  std::string text =
      RenderCurves(absl::StrCat("\n", Printable(options.series)), curves, width, kChartHeight);
  if (drawn.size() > curves.size()) {
    absl::StrAppend(&text, "  and ", drawn.size() - curves.size(), " more, which are not drawn\n");
  }
  return text;
}

const google::protobuf::Map<std::string, double>& Metrics(const Job& job) {
  return job.has_result() ? job.result().final_metrics() : job.progress().latest_metrics();
}

std::string JobsTable(const Output& out, const std::vector<Job>& jobs) {
  std::set<std::string> series;
  for (const Job& job : jobs) {
    for (const auto& [name, value] : Metrics(job)) {
      series.insert(name);
    }
  }
  std::vector<normlab::v1::JobSpec> specs;
  for (const Job& job : jobs) {
    specs.push_back(job.resolved_spec());
  }
  std::vector<std::vector<std::string>> rows(1, {"", "JOB", "STATE"});
  std::vector<bool> right = {false, false, false};
  const std::vector<SpecDifference> differences = CompareSpecs(specs);
  for (const SpecDifference& difference : differences) {
    rows[0].push_back(difference.field);
    right.push_back(false);
  }
  // The usual ones; a job with probes has dozens more, which normlab get shows.
  std::vector<std::string> shown;
  for (const std::string& name : series) {
    if (absl::StartsWith(name, "train/") || absl::StartsWith(name, "test/")) {
      shown.push_back(name);
      rows[0].push_back(name);
      right.push_back(true);
    }
  }
  for (size_t i = 0; i < jobs.size(); ++i) {
    std::vector<std::string> row = {
        i < kMaxCurves ? std::string(1, static_cast<char>('a' + i)) : "", jobs[i].name(),
        Job::State_Name(jobs[i].state())};
    for (const SpecDifference& difference : differences) {
      row.push_back(Shorten(Printable(difference.values[i]), kWidestValue));
    }
    for (const std::string& name : shown) {
      const auto found = Metrics(jobs[i]).find(name);
      row.push_back(found == Metrics(jobs[i]).end() ? "-" : FormatRounded(found->second));
    }
    rows.push_back(std::move(row));
  }
  return Table(out, rows, right);
}

int CompareJobs(const CompareOptions& options, CommandContext& context, Client& client) {
  std::vector<Job> jobs;
  std::vector<Drawn> drawn;
  for (const std::string& name : options.names) {
    absl::StatusOr<Job> job = client.GetJob(name);
    if (!job.ok()) {
      return context.Fail(job.status());
    }
    drawn.push_back(
        {absl::StrCat(job->name(), job->display_name().empty() ? "" : "  ", job->display_name()),
         job->name()});
    jobs.push_back(*std::move(job));
  }
  if (context.json()) {
    context.out().Write("{\"jobs\":[");
    for (size_t i = 0; i < jobs.size(); ++i) {
      context.out().Write(absl::StrCat(i == 0 ? "\n" : ",\n", ToJson(jobs[i], false)));
    }
    context.out().Write("\n]}\n");
    return kExitSucceeded;
  }
  context.out().Write(JobsTable(context.out(), jobs));
  if (options.chart) {
    const absl::StatusOr<std::string> chart = Chart(options, drawn, context, client);
    if (!chart.ok()) {
      return context.Fail(chart.status());
    }
    context.out().Write(*chart);
  }
  return kExitSucceeded;
}

int CompareCells(const CompareOptions& options, CommandContext& context, Client& client) {
  normlab::v1::SummarizeExperimentRequest request;
  request.set_name(options.names[0]);
  const absl::StatusOr<normlab::v1::ExperimentSummary> summary =
      client.SummarizeExperiment(request);
  if (!summary.ok()) {
    return context.Fail(summary.status());
  }
  if (context.json()) {
    context.PrintJson(*summary);
    return kExitSucceeded;
  }
  const absl::StatusOr<Experiment> experiment = client.GetExperiment(options.names[0]);
  if (!experiment.ok()) {
    return context.Fail(experiment.status());
  }
  context.out().Write(DescribeExperiment(context.out(), *experiment, /*max_cells=*/0));
  context.out().Write(SummaryTables(context.out(), *experiment, *summary, 0.95));
  if (!options.chart) {
    return kExitSucceeded;
  }
  const DesignFields fields = FieldsOf(*experiment);
  std::vector<Drawn> drawn;
  for (const normlab::v1::Cell& cell : experiment->cells()) {
    if (cell.jobs().empty()) {
      continue;
    }
    std::vector<std::string> values = CellValues(fields, cell.values());
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = absl::StrCat(fields.headings[i], " ", values[i]);
    }
    drawn.push_back({absl::StrCat(absl::StrJoin(values, ", "), " (first seed)"), cell.jobs(0)});
  }
  const absl::StatusOr<std::string> chart = Chart(options, drawn, context, client);
  if (!chart.ok()) {
    return context.Fail(chart.status());
  }
  context.out().Write(*chart);
  return kExitSucceeded;
}

int Compare(const CompareOptions& options, CommandContext& context) {
  const auto is_experiment = [](const std::string& name) {
    return absl::StartsWith(name, "experiments/");
  };
  const auto experiments =
      static_cast<size_t>(std::count_if(options.names.begin(), options.names.end(), is_experiment));
  if (experiments > 0 && options.names.size() > 1) {
    return context.FailUsage("compare takes jobs, or one experiment");
  }
  if (options.names.size() > kMaxJobs) {
    return context.FailUsage(absl::StrCat("compare takes at most ", kMaxJobs, " jobs"));
  }
  Client client = context.MakeClient();
  return experiments > 0 ? CompareCells(options, context, client)
                         : CompareJobs(options, context, client);
}

}  // namespace

void AddCompareCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<CompareOptions>();
  CLI::App& command = *app.add_subcommand(
      "compare", "Compare jobs, or the cells of an experiment: what differs, results, curves");
  command
      .add_option("JOB", options->names, "jobs/ID or ID, several of them; or one experiments/ID")
      ->required()
      ->type_name("");
  command.add_option("--series", options->series, "The series that is drawn")
      ->type_name("NAME")
      ->capture_default_str();
  command.add_flag("!--no-chart", options->chart, "The table only");
  command.footer(R"(
For jobs: a line for each with the fields of the spec that differ (defaults included) and the last
metrics, then one chart with a letter for each. For an experiment: means with intervals over the
seeds, then the curve of every cell's first seed. With --output json it prints the jobs, or the
ExperimentSummary.

Examples:
  normlab compare jobs/ID jobs/OTHER
  normlab compare experiments/ID --series test/accuracy)");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Compare(*options, context); };
  });
}

}  // namespace normlab::client
