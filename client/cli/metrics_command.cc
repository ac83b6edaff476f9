#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/follow_metrics.h"
#include "client/cli/interrupt.h"
#include "client/cli/metric_table.h"
#include "client/cli/name_argument.h"
#include "client/cli/watch_session.h"

#include "CLI/Validators.hpp"

namespace normlab::client {
namespace {

using normlab::v1::Job;

struct MetricsOptions {
  std::string name;
  std::vector<std::string> series;
  std::optional<int64_t> from_step;
  std::optional<int64_t> to_step;
  int max_points = 0;
  std::string format;
  bool follow = false;
  bool chart = false;
};

int Read(const MetricsOptions& options, const std::string& format, CommandContext& context) {
  constexpr int kChartPoints = 400;  // more than a chart of 100 columns shows
  Client client = context.MakeClient();
  normlab::v1::ReadMetricsRequest request;
  request.set_name(options.name);
  request.mutable_series()->Add(options.series.begin(), options.series.end());
  if (options.chart && options.series.empty()) {
    request.add_series("train/loss");
  }
  if (options.from_step.has_value()) {
    request.set_from_step(*options.from_step);
  }
  if (options.to_step.has_value()) {
    request.set_to_step(*options.to_step);
  }
  request.set_max_points(options.chart && options.max_points == 0 ? kChartPoints
                                                                  : options.max_points);
  MetricTable table({request.series().begin(), request.series().end()});
  const absl::Status status =
      client.ReadMetrics(request, [&](const normlab::v1::ReadMetricsResponse& part) {
        table.Add(part);
        return absl::OkStatus();
      });
  if (!status.ok()) {
    return context.Fail(status);
  }
  if (options.chart) {
    table.WriteCharts(context.out());
  } else if (format == "csv") {
    table.WriteCsv(context.out());
  } else if (format == "jsonl") {
    table.WriteJsonLines(context.out());
  } else {
    table.WriteJson(context.out());
  }
  return kExitSucceeded;
}

// Columns of a CSV that is begun before all points are there: those that the job has by now, in the
// order of `metrics` without --follow, then those that every job gets.
std::vector<std::string> ExpectedColumns(Client& client, const Job& job) {
  std::vector<std::string> columns;
  const auto add = [&](const std::string& series) {
    if (std::find(columns.begin(), columns.end(), series) == columns.end()) {
      columns.push_back(series);
    }
  };
  normlab::v1::ReadMetricsRequest request;
  request.set_name(job.name());
  request.set_max_points(5);  // only the names are wanted; fewer are refused
  // Without an answer the columns of every job have to do; the watch that follows reports errors.
  client
      .ReadMetrics(request,
                   [&](const normlab::v1::ReadMetricsResponse& part) {
                     add(part.series());
                     return absl::OkStatus();
                   })
      .IgnoreError();
  if (!IsTerminal(job.state())) {
    for (const char* series :
         {"train/loss", "train/accuracy", "train/learning_rate", "test/loss", "test/accuracy"}) {
      add(series);
    }
  }
  return columns;
}

int Follow(const MetricsOptions& options, const std::string& format, CommandContext& context) {
  const InterruptScope interrupt;
  Client client(context.MakeClientOptions(interrupt.token()));
  const absl::StatusOr<Job> job = client.GetJob(options.name);
  if (!job.ok()) {
    return context.Fail(job.status());
  }
  FollowOptions follow{.columns = options.series,
                       .chosen = !options.series.empty(),
                       .json = format == "jsonl",
                       .from_step = options.from_step,
                       .to_step = options.to_step};
  if (!follow.chosen && !follow.json) {
    follow.columns = ExpectedColumns(client, *job);
  }
  MetricFollower follower(follow, context.out(), context.err());
  const WatchResult result = client.WatchJob(options.name, 0, follower);
  follower.Finish();
  if (interrupt.signal() != 0) {
    return ReportInterruption(context, interrupt.signal(),
                              absl::StrCat("Stopped; ", JobName(options.name),
                                           " goes on. Read all of it with: ", "normlab metrics ",
                                           JobName(options.name), " --follow"));
  }
  return result.status.ok() ? kExitSucceeded : context.Fail(result.status);
}

int Metrics(const MetricsOptions& options, CommandContext& context) {
  std::string format = options.format;
  if (format.empty()) {
    format = !context.json() ? "csv" : options.follow ? "jsonl" : "json";
  }
  if (options.from_step.has_value() && options.to_step.has_value() &&
      *options.from_step > *options.to_step) {
    return context.FailUsage("--from is beyond --to; exchange the two");
  }
  if (options.chart && (context.json() || !options.format.empty())) {
    return context.FailUsage(
        "--chart draws for people, --format and --output json are for programs: leave one of them "
        "out");
  }
  if (!options.follow) {
    return Read(options, format, context);
  }
  if (options.chart || options.max_points > 0) {
    return context.FailUsage(
        "--follow prints every point as it comes: leave --chart and --max-points out, or "
        "--follow");
  }
  if (format == "json") {
    return context.FailUsage(
        "--follow cannot print one document before the job is over; use --format jsonl");
  }
  return Follow(options, format, context);
}

}  // namespace

void AddMetricsCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<MetricsOptions>();
  CLI::App& command = *app.add_subcommand("metrics", "Print a job's metrics as CSV, JSON or chart");
  AddJobArgument(command, options->name);
  command
      .add_option("--series", options->series,
                  "Series, separated by commas, in the order of columns; default: all")
      ->type_name("NAMES")
      ->delimiter(',')
      ->allow_extra_args(false);
  command.add_option("--from", options->from_step, "First step")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--to", options->to_step, "Last step")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--max-points", options->max_points,
                  "At most so many points a series, its smallest and largest among them; default: "
                  "every point")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  command.add_option("--format", options->format, "csv (default), jsonl or json")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"csv", "jsonl", "json"}));
  command.add_flag("-f,--follow", options->follow,
                   "Print points as they come until the job is over; every point exactly once");
  command.add_flag("--chart", options->chart, "Draw each series (default train/loss) instead");
  command.footer(R"(
Numbers have full precision: they read back as exactly the value that was measured.
  csv    a header step,SERIES,... and a line for each step; empty where a series has no point
  jsonl  {"step":"9","values":{"train/loss":0.25}} a line
  json   {"series":[{"name":"train/loss","steps":["0","1"],"values":[2.3,2.2]}]}

Examples:
  normlab metrics jobs/ID > metrics.csv
  normlab metrics jobs/ID --series train/loss,test/accuracy --max-points 500
  normlab metrics jobs/ID --follow --format jsonl
  normlab metrics jobs/ID --chart --series train/loss)");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Metrics(*options, context); };
  });
}

}  // namespace normlab::client
