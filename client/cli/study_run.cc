#include "client/cli/study_run.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "client/cli/exit_code.h"
#include "client/cli/interrupt.h"
#include "client/cli/study_calls.h"
#include "client/cli/study_view.h"
#include "client/cli/watch_session.h"
#include "client/report/writers.h"
#include "client/studies/analysis.h"
#include "client/studies/collect.h"
#include "client/studies/runner.h"
#include "common/status_macros.h"

#include "nlohmann/json.hpp"

namespace normlab::client {
namespace {

// Between two lines of progress that nobody redraws.
constexpr absl::Duration kPlainInterval = absl::Seconds(10);

// A study under way.
struct Active {
  studies::Plan plan;
  studies::StartedRun started;
};

// Shows how a run gets on: one line that is redrawn on a terminal, a line now and then elsewhere.
class ProgressView {
 public:
  ProgressView(CommandContext& context, std::string study, double predicted_seconds)
      : context_(context),
        study_(std::move(study)),
        predicted_seconds_(predicted_seconds),
        start_(absl::Now()) {}

  void Show(const std::vector<v1::Experiment>& experiments) {
    if (context_.json()) {
      return;
    }
    Output& out = context_.out();
    const v1::JobCounts counts = studies::SumOfCounts(experiments);
    const std::string line = RunLine(out, study_, counts, absl::Now() - start_, predicted_seconds_);
    if (out.style().terminal) {
      out.Write(absl::StrCat("\r", Shorten(line, out.Width() - 1), "\x1b[K"));
      out.Flush();
      shown_ = true;
    } else if (absl::Now() - last_ >= kPlainInterval) {
      out.Write(absl::StrCat(line, "\n"));
      out.Flush();
      last_ = absl::Now();
    }
  }

  void End() {
    if (shown_) {
      context_.out().Write("\r\x1b[K");
    }
  }
  absl::Duration elapsed() const { return absl::Now() - start_; }

 private:
  CommandContext& context_;
  std::string study_;
  double predicted_seconds_;
  absl::Time start_;
  absl::Time last_ = absl::InfinitePast();
  bool shown_ = false;
};

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    absl::StrAppend(&text, text.empty() ? "" : " ", word);
  }
  return text;
}

// The command that goes on with, or finds, what this one started.
std::string RepeatCommand(const StudyRunOptions& options, const std::vector<Active>& active) {
  std::string command = "normlab study run";
  if (options.all) {
    absl::StrAppend(&command, " --all");
  } else {
    for (const Active& study : active) {
      absl::StrAppend(&command, " ", study.plan.study);
    }
  }
  absl::StrAppend(&command, " --preset ", options.plan.preset);
  if (!active.empty() && !active.front().plan.changes.empty()) {
    absl::StrAppend(&command, " ", Join(active.front().plan.changes));
  }
  return command;
}

// Without --set what all studies leave open, a change is for those studies that it fits; one at least.
absl::StatusOr<std::vector<studies::Plan>> MakePlans(const StudyRunOptions& options) {
  const std::vector<std::string>& names = options.all ? studies::StudyNames() : options.studies;
  if (names.empty()) {
    return absl::InvalidArgumentError(
        "name a study, or give --all; see them with: normlab study list");
  }
  std::vector<studies::Plan> plans;
  for (const std::string& name : names) {
    NORMLAB_ASSIGN_OR_RETURN(studies::Plan plan, studies::MakePlan(name, options.plan));
    plans.push_back(std::move(plan));
  }
  return plans;
}

void Announce(const Active& study, int cores, CommandContext& context) {
  if (context.json()) {
    return;
  }
  Output& out = context.out();
  const bool over =
      std::all_of(study.started.experiments.begin(), study.started.experiments.end(),
                  [](const v1::Experiment& experiment) { return experiment.has_end_time(); });
  out.Write(absl::StrCat(out.Paint(Color::kBold, study.plan.study), ", preset ", study.plan.preset,
                         ": ", Prediction(study.plan, cores), "\n"));
  for (const v1::Experiment& experiment : study.started.experiments) {
    out.Write(
        absl::StrCat("  ", experiment.name(), "  ", Printable(experiment.display_name()), "\n"));
  }
  if (over) {
    out.Write("  It was finished before; --again runs it anew.\n");
  } else if (study.started.found) {
    out.Write("  It was started before; going on.\n");
  }
  out.Flush();
}

void PrintClaims(const report::Report& report, const std::string& study, CommandContext& context) {
  Output& out = context.out();
  out.Write(absl::StrCat(
      "\n", out.Paint(Color::kBold, absl::StrCat(study, ": ", VerdictCounts(report.claims))), "\n",
      ClaimsText(out, report.claims)));
  for (const std::string& warning : report.warnings) {
    out.Write(absl::StrCat(out.Paint(Color::kYellow, "warning"), ": ", Printable(warning), "\n"));
  }
  out.Flush();
}

bool HasFailedJobs(const std::vector<v1::Experiment>& experiments) {
  const v1::JobCounts counts = studies::SumOfCounts(experiments);
  return counts.failed() + counts.cancelled() > 0;
}

// {"studies": [{"study": ..., "preset": ..., "experiments": [...], "claims": [...], "warnings": [...]}], "report": FILE}.
std::string ResultJson(const std::vector<JudgedStudy>& judged, const std::string& file) {
  nlohmann::json document = {{"studies", nlohmann::json::array()}};
  for (const auto& [run, report] : judged) {
    nlohmann::json experiments = nlohmann::json::array();
    for (const studies::PartRun& part : run.parts) {
      experiments.push_back(part.experiment);
    }
    document["studies"].push_back({{"study", run.plan.study},
                                   {"preset", run.plan.preset},
                                   {"experiments", experiments},
                                   {"jobs", run.plan.jobs()},
                                   {"claims", nlohmann::json::parse(ClaimsJson(report.claims))},
                                   {"warnings", report.warnings}});
  }
  if (!file.empty()) {
    document["report"] = file;
  }
  return document.dump(1) + "\n";
}

std::string DefaultFile(const StudyRunOptions& options, const std::vector<studies::Plan>& plans) {
  return absl::StrCat("normlab-", plans.size() == 1 ? plans.front().study : std::string("studies"),
                      "-", options.plan.preset, ".html");
}

// Where and how the report of a run is to be written, checked before anything is run.
struct Target {
  report::Format format = report::Format::kHtml;
  std::string file;
};

absl::StatusOr<Target> MakeTarget(const StudyRunOptions& options,
                                  const std::vector<studies::Plan>& plans) {
  Target target;
  target.file = options.file.empty() ? DefaultFile(options, plans) : options.file;
  if (target.file == "-") {
    return absl::InvalidArgumentError(
        "-o - : standard output has the claims; name a file, or afterwards: normlab study report "
        "NAME --format md -o -");
  }
  NORMLAB_ASSIGN_OR_RETURN(target.format, report::ChooseFormat("", target.file));
  NORMLAB_RETURN_IF_ERROR(report::CheckPlace(target.format, target.file));
  return target;
}

}  // namespace

int RunStudies(const StudyRunOptions& options, CommandContext& context) {
  const auto plans = MakePlans(options);
  if (!plans.ok()) {
    return context.Fail(plans.status());
  }
  const bool writes = !options.no_wait && !options.validate_only;
  const absl::StatusOr<Target> target =
      writes ? MakeTarget(options, *plans) : absl::StatusOr<Target>(Target{});
  if (!target.ok()) {
    return absl::IsInvalidArgument(target.status())
               ? context.FailUsage(std::string(target.status().message()))
               : context.Fail(target.status());
  }
  InterruptScope interrupt;
  Client client(context.MakeClientOptions(interrupt.token()));
  StudyCalls calls(client);
  const auto info = client.GetServerInfo();
  if (!info.ok()) {
    return context.Fail(info.status());
  }
  const std::string again = options.again ? NewRequestId() : "";
  std::vector<Active> active;
  for (const studies::Plan& plan : *plans) {
    if (const absl::Status status = studies::CheckRun(calls, plan, info->version()); !status.ok()) {
      return context.Fail(status);
    }
  }
  if (options.validate_only) {
    for (const studies::Plan& plan : *plans) {
      context.out().Write(absl::StrCat(plan.study, ", preset ", plan.preset, ": ",
                                       Prediction(plan, info->cores()), "; valid\n"));
    }
    return kExitSucceeded;
  }
  double predicted = 0;
  for (const studies::Plan& plan : *plans) {
    auto started = studies::StartRun(calls, plan, info->version(), again);
    if (!started.ok()) {
      return context.Fail(started.status());
    }
    active.push_back({.plan = plan, .started = *std::move(started)});
    Announce(active.back(), info->cores(), context);
    predicted += plan.Seconds(info->cores());
  }
  if (options.no_wait) {
    if (!context.json()) {
      context.out().Write(
          absl::StrCat("Judge and report it with: ", RepeatCommand(options, active), "\n"));
    }
    return kExitSucceeded;
  }
  std::vector<JudgedStudy> judged;
  bool failed = false;
  const absl::Time start = absl::Now();
  for (Active& study : active) {
    ProgressView view(context, study.plan.study, study.plan.Seconds(info->cores()));
    const absl::Status status =
        studies::WaitForRun(calls, study.started.experiments,
                            [&view](const auto& experiments) { view.Show(experiments); });
    view.End();
    if (interrupt.signal() != 0) {
      return ReportInterruption(context, interrupt.signal(),
                                absl::StrCat("The jobs run on. Come back to them with: ",
                                             RepeatCommand(options, active)));
    }
    if (!status.ok()) {
      return context.Fail(status);
    }
    failed = failed || HasFailedJobs(study.started.experiments);
    auto run = studies::Collect(client, study.plan, study.started.experiments);
    if (!run.ok()) {
      return context.Fail(run.status());
    }
    JudgedStudy one = {.run = *std::move(run), .report = {}};
    one.report = studies::MakeReport(one.run);
    if (!context.json()) {
      PrintClaims(one.report, study.plan.study, context);
    }
    judged.push_back(std::move(one));
  }
  std::vector<const studies::Run*> runs;
  for (const JudgedStudy& one : judged) {
    runs.push_back(&one.run);
  }
  const auto written =
      report::WriteReport(judged.size() == 1 ? judged.front().report : studies::MakeOverview(runs),
                          target->format, target->file);
  if (!written.ok()) {
    return context.Fail(written.status());
  }
  if (context.json()) {
    context.out().Write(ResultJson(judged, target->file));
  } else {
    context.out().Write(absl::StrCat("\nReport: ", Printable(target->file), "  (took ",
                                     RoughTime(absl::ToDoubleSeconds(absl::Now() - start)),
                                     ", predicted ", RoughTime(predicted), ")\n"));
  }
  return failed ? kExitJobFailed : kExitSucceeded;
}

absl::StatusOr<JudgedStudy> LoadStudy(Client& client,
                                      const std::string& what,
                                      const std::string& preset) {
  StudyCalls calls(client);
  std::string note;
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<v1::Experiment> experiments,
                           studies::FindRun(calls, what, preset, &note));
  NORMLAB_ASSIGN_OR_RETURN(const studies::Plan plan, studies::PlanOfExperiments(experiments));
  NORMLAB_ASSIGN_OR_RETURN(studies::Run run, studies::Collect(client, plan, experiments));
  report::Report report = studies::MakeReport(run);
  if (!note.empty()) {
    report.warnings.insert(report.warnings.begin(), note);
  }
  return JudgedStudy{.run = std::move(run), .report = std::move(report)};
}

int ReportStudy(const StudyReportOptions& options, CommandContext& context) {
  const auto format = report::ChooseFormat(options.format, options.file);
  if (!format.ok()) {
    return context.FailUsage(std::string(format.status().message()));
  }
  if (!options.file.empty()) {
    if (const absl::Status place = report::CheckPlace(*format, options.file); !place.ok()) {
      return context.Fail(place);
    }
  }
  Client client = context.MakeClient();
  const auto judged = LoadStudy(client, options.what, options.preset);
  if (!judged.ok()) {
    return context.Fail(judged.status());
  }
  if (!options.file.empty()) {
    const auto written = report::WriteReport(judged->report, *format, options.file);
    if (!written.ok()) {
      return context.Fail(written.status());
    }
    if (!written->to_stdout.empty()) {
      context.out().Write(written->to_stdout);
      return kExitSucceeded;
    }
  }
  if (context.json()) {
    context.out().Write(ResultJson({*judged}, options.file));
    return kExitSucceeded;
  }
  PrintClaims(judged->report, judged->run.plan.study, context);
  if (!options.file.empty()) {
    context.out().Write(absl::StrCat("\nReport: ", Printable(options.file), "\n"));
  }
  return kExitSucceeded;
}

}  // namespace normlab::client
