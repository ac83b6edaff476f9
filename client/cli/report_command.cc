#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/interrupt.h"
#include "client/cli/study_run.h"
#include "client/cli/watch_session.h"
#include "client/lib/number_format.h"
#include "client/report/collect_runs.h"
#include "client/report/escape.h"
#include "client/report/runs.h"
#include "client/report/writers.h"
#include "client/studies/analysis.h"
#include "client/studies/requests.h"
#include "client/studies/study.h"
#include "common/name_hint.h"
#include "common/status_macros.h"

#include "CLI/Validators.hpp"

namespace normlab::client {
namespace {

struct ReportOptions {
  std::vector<std::string> names;
  std::string file;
  std::string format;
  std::vector<std::string> series;
  std::string baseline;
  std::string preset;
  std::string title;
};

std::string DefaultFile(report::Format format) {
  switch (format) {
    case report::Format::kHtml:
      return "report.html";
    case report::Format::kMarkdown:
      return "report.md";
    case report::Format::kCsv:
      return "report-csv";
    case report::Format::kSvg:
    case report::Format::kPng:
      break;
  }
  return "report-charts";
}

// The command as it can be typed again.
std::string CommandText(const ReportOptions& options) {
  std::string text = "normlab report";
  for (const std::string& name : options.names) {
    absl::StrAppend(&text, " ", report::ShellWord(name));
  }
  if (!options.series.empty()) {
    absl::StrAppend(&text, " --series ", report::ShellWord(absl::StrJoin(options.series, ",")));
  }
  if (!options.baseline.empty()) {
    absl::StrAppend(&text, " --baseline ", report::ShellWord(options.baseline));
  }
  return absl::StrCat(text, " -o report.html");
}

absl::StatusOr<report::RunSet> CollectJobs(const ReportOptions& options, Client& client) {
  report::RunSet set;
  std::vector<std::string> names;
  for (const std::string& name : options.names) {
    const std::string full = JobName(name);
    if (std::find(names.begin(), names.end(), full) == names.end()) {
      names.push_back(full);
    }
  }
  NORMLAB_ASSIGN_OR_RETURN(std::vector<report::RunData> runs,
                           report::CollectRuns(client, names, &set.sampled));
  set.groups = report::GroupJobs(std::move(runs));
  return set;
}

// The experiment that the names stand for: experiments/ID, or an ID that no job has. Nothing: they are jobs.
absl::StatusOr<std::optional<normlab::v1::Experiment>> FindExperiment(const ReportOptions& options,
                                                                      Client& client,
                                                                      std::string& usage) {
  const std::string& name = options.names.front();
  const bool named =
      std::any_of(options.names.begin(), options.names.end(),
                  [](const std::string& one) { return absl::StartsWith(one, "experiments/"); });
  if (named && options.names.size() > 1) {
    usage = "a report is of jobs, or of one experiment: give its name alone";
    return absl::InvalidArgumentError(usage);
  }
  if (!named) {
    const bool bare = options.names.size() == 1 && !absl::StrContains(name, '/');
    if (!bare) {
      return std::nullopt;
    }
    const absl::Status job = client.GetJob(name).status();
    if (!absl::IsNotFound(job)) {  // no server, or no permission: then there is nobody to ask again
      return job.ok() ? absl::StatusOr<std::optional<normlab::v1::Experiment>>(std::nullopt) : job;
    }
  }
  absl::StatusOr<normlab::v1::Experiment> experiment = client.GetExperiment(name);
  if (absl::IsNotFound(experiment.status()) && !named) {
    return std::nullopt;  // the error will speak of a job, as most names are of jobs
  }
  NORMLAB_RETURN_IF_ERROR(experiment.status());
  return *std::move(experiment);
}

// Whether an experiment is part of a study and nothing asks for another look at it.
bool IsStudy(const normlab::v1::Experiment& experiment, const ReportOptions& options) {
  return experiment.labels().contains(studies::kStudyLabel) && options.series.empty() &&
         options.baseline.empty();
}

absl::StatusOr<report::Report> MakeStudyReport(Client& client,
                                               const std::string& what,
                                               const std::string& preset) {
  NORMLAB_ASSIGN_OR_RETURN(JudgedStudy judged, LoadStudy(client, what, preset));
  return std::move(judged.report);
}

// `usage`: set to what is wrong with the command line, if that is it.
absl::StatusOr<report::Report> MakeReport(const ReportOptions& options,
                                          Client& client,
                                          std::string& usage) {
  const std::string& name = options.names.front();
  if (options.names.size() == 1 && studies::DescribeStudy(name).ok()) {
    if (!options.series.empty() || !options.baseline.empty()) {
      usage =
          "--series and --baseline are for jobs and experiments; a study's report has its own "
          "charts: name one of its experiments to look at it otherwise";
      return absl::InvalidArgumentError(usage);
    }
    return MakeStudyReport(client, name, options.preset);
  }
  if (!options.preset.empty()) {
    usage = absl::StrCat("--preset says which run of a study, but ", name, " is no study; ",
                         common::NameHint(name, studies::StudyNames()));
    return absl::InvalidArgumentError(usage);
  }
  NORMLAB_ASSIGN_OR_RETURN(const std::optional<normlab::v1::Experiment> experiment,
                           FindExperiment(options, client, usage));
  if (experiment.has_value() && IsStudy(*experiment, options)) {
    return MakeStudyReport(client, experiment->name(), "");
  }
  NORMLAB_ASSIGN_OR_RETURN(report::RunSet set, experiment.has_value()
                                                   ? report::CollectExperiment(client, *experiment)
                                                   : CollectJobs(options, client));
  NORMLAB_ASSIGN_OR_RETURN(set.server, report::DescribeServer(client));
  report::RunReportOptions how;
  how.series = options.series;
  how.command = CommandText(options);
  how.time = absl::Now();
  if (const absl::Status known = report::CheckSeries(set, options.series); !known.ok()) {
    usage = absl::StrCat("--series: ", known.message());
    return known;
  }
  if (!options.baseline.empty()) {
    const absl::StatusOr<size_t> baseline = report::FindGroup(set.groups, options.baseline);
    if (!baseline.ok()) {
      usage = absl::StrCat("--baseline: ", baseline.status().message());
      return baseline.status();
    }
    how.baseline = *baseline;
  }
  return report::MakeRunReport(set, how);
}

void PrintWritten(const report::Written& written,
                  const report::Report& made,
                  CommandContext& context) {
  if (context.json()) {
    std::vector<std::string> files;
    for (const std::string& file : written.files) {
      files.push_back(FormatJsonString(file));
    }
    context.out().Write(absl::StrCat("{\"files\": [", absl::StrJoin(files, ", "), "]}\n"));
    return;
  }
  size_t charts = 0;
  for (const report::Section& section : made.sections) {
    charts += section.charts.size();
  }
  for (const std::string& file : written.files) {
    context.out().Write(absl::StrCat(Printable(file), "\n"));
  }
  if (!made.claims.empty() || charts > 0) {
    context.err().Write(absl::StrCat(
        made.claims.empty() ? "" : absl::StrCat(made.claims.size(), " claims, "), charts,
        charts == 1 ? " chart" : " charts",
        made.warnings.empty() ? ""
                              : absl::StrCat("; mind ", made.warnings.size(), " warnings in it"),
        "\n"));
  }
}

int MakeAndWrite(const ReportOptions& options, CommandContext& context) {
  const absl::StatusOr<report::Format> format = report::ChooseFormat(options.format, options.file);
  if (!format.ok()) {
    return context.FailUsage(std::string(format.status().message()));
  }
  const std::string file = options.file.empty() ? DefaultFile(*format) : options.file;
  const bool pictures = *format == report::Format::kSvg || *format == report::Format::kPng;
  if (file == "-" && (pictures || context.json())) {
    return context.FailUsage(
        "-o - writes html, md or csv to standard output, and nothing else: name a file");
  }
  if (const absl::Status place = report::CheckPlace(*format, file); !place.ok()) {
    return context.Fail(place);
  }
  const InterruptScope interrupt;
  Client client(context.MakeClientOptions(interrupt.token()));
  std::string usage;
  absl::StatusOr<report::Report> made = MakeReport(options, client, usage);
  if (interrupt.signal() != 0) {
    return ReportInterruption(context, interrupt.signal(), "Stopped; nothing was written.");
  }
  if (!usage.empty()) {
    return context.FailUsage(Printable(usage));
  }
  if (!made.ok()) {
    return context.Fail(made.status());
  }
  if (!options.title.empty()) {
    made->title = options.title;
  }
  const absl::StatusOr<report::Written> written = report::WriteReport(*made, *format, file);
  if (!written.ok()) {
    return context.Fail(written.status());
  }
  if (file == "-") {
    context.out().Write(written->to_stdout);
  } else {
    PrintWritten(*written, *made, context);
  }
  return kExitSucceeded;
}

}  // namespace

void AddReportCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<ReportOptions>();
  CLI::App& command =
      *app.add_subcommand("report", "Make a page of what jobs, an experiment or a study measured");
  command
      .add_option(
          "NAME", options->names,
          "jobs/ID, one or more; experiments/ID; or a study, of which the newest finished run is "
          "taken")
      ->required()
      ->type_name("");
  command
      .add_option("-o", options->file,
                  "Where to; - for standard output. Default: report.html and the like")
      ->type_name("FILE");
  command
      .add_option(
          "--format", options->format,
          "html, md, csv (a folder, or one file when FILE ends in .csv), svg or png (a folder "
          "of charts); default: as FILE ends, else html")
      ->type_name("")
      ->check(CLI::IsMember({"html", "md", "csv", "svg", "png"}));
  command
      .add_option(
          "--series", options->series,
          "What to draw, separated by commas, also with '*'; default: all but single layers' "
          "of unusual kinds")
      ->type_name("NAMES")
      ->delimiter(',')
      ->allow_extra_args(false);
  command
      .add_option("--baseline", options->baseline,
                  "The run that the others are compared with, seed by seed: its name, one of its "
                  "jobs, or its number, counted from 0 as the cells of an experiment")
      ->type_name("RUN");
  command.add_option("--preset", options->preset, "Of a study: only runs of this preset")
      ->type_name("NAME");
  command.add_option("--title", options->title, "Title of the report")->type_name("TEXT");
  command.footer(R"(
Jobs that differ only in the seed are one run, with a band. Jobs that failed, diverged or still run
are part of it, with a warning. The page is one file that any browser opens, without a network.

Examples:
  normlab report jobs/A jobs/B -o report.html
  normlab report jobs/A jobs/B --baseline jobs/A --series 'train/*,landscape/*'
  normlab report jobs/A --format csv -o numbers
  normlab report experiments/ID --baseline none -o experiment.html
  normlab report landscape --preset quick -o landscape.html
  normlab report jobs/A jobs/B --format md -o -)");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return MakeAndWrite(*options, context); };
  });
}

}  // namespace normlab::client
