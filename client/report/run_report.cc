#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "client/report/escape.h"
#include "client/report/run_curves.h"
#include "client/report/runs.h"
#include "client/report/spec_yaml.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::client::report {
namespace {

using normlab::v1::FailureReason;
using normlab::v1::Job;

// More of the same kind are counted.
constexpr size_t kNamedInAWarning = 4;

// What follows from a state for the report; empty: nothing.
std::string Consequence(Job::State state) {
  switch (state) {
    case Job::SUCCEEDED:
      return "";
    case Job::DIVERGED:
      return "a result of its own kind: it has a curve of its own and is in no mean";
    case Job::FAILED:
    case Job::CANCELLED:
      return "its curve ends there and it is in no mean";
    default:
      return "its curve ends there and it is in no mean; repeat the report when it is over";
  }
}

std::string Describe(const RunGroup& group, const RunData& run) {
  std::string text = absl::StrCat(run.job.name(), " (", group.name, ", seed ",
                                  run.job.spec().seed(), ") ", StateText(run.job));
  if (run.job.state() == Job::FAILED) {
    // The rest, with the end of the worker's log, is in the job itself.
    constexpr size_t kLongest = 160;
    const std::string& message = run.job.failure().message();
    absl::StrAppend(&text, ": ", FailureReason::Kind_Name(run.job.failure().reason()), ", ",
                    message.substr(0, kLongest),
                    message.size() > kLongest ? "\u2026 (normlab get has all of it)" : "");
  } else if (!run.job.queue_reason().empty()) {
    absl::StrAppend(&text, ": ", run.job.queue_reason());
  }
  return text;
}

// Starting and running are one thing to a reader.
Job::State Kind(Job::State state) {
  return state == Job::STARTING ? Job::RUNNING : state;
}

std::string Subtitle(const RunSet& set) {
  size_t jobs = 0;
  for (const RunGroup& group : set.groups) {
    jobs += group.runs.size();
  }
  const auto count = [](size_t n, absl::string_view thing) {
    return absl::StrCat(n, " ", thing, n == 1 ? "" : "s");
  };
  if (set.experiment.has_value()) {
    return absl::StrCat("Experiment ", set.experiment->name(), ": ",
                        count(set.groups.size(), "cell"), ", ", count(jobs, "job"));
  }
  return jobs == set.groups.size()
             ? count(jobs, "job")
             : absl::StrCat(count(jobs, "job"), " of ", count(set.groups.size(), "spec"));
}

std::string Title(const RunSet& set) {
  if (set.experiment.has_value()) {
    return set.experiment->display_name().empty() ? set.experiment->name()
                                                  : set.experiment->display_name();
  }
  if (set.groups.size() == 1) {
    return set.groups[0].name;
  }
  if (set.groups.size() == 2) {
    return absl::StrCat(set.groups[0].name, " and ", set.groups[1].name);
  }
  return absl::StrCat("Comparison of ", set.groups.size(), " runs");
}

std::vector<std::string> SweepCommands(const normlab::v1::Experiment& experiment) {
  const normlab::v1::Design& design = experiment.design();
  if (design.axes_size() == 0 || design.has_random() || design.cells_size() > 0) {
    return {"# each cell: save its spec from above as spec.yaml, then",
            "normlab submit spec.yaml --wait"};
  }
  std::string command = "normlab sweep base.yaml";
  for (const normlab::v1::Axis& axis : design.axes()) {
    absl::StrAppend(&command, " --axis ",
                    ShellWord(absl::StrCat(axis.field(), "=", absl::StrJoin(axis.values(), ","))));
  }
  if (design.seeds_size() > 0) {
    // A list of one would be taken for a number of seeds.
    absl::StrAppend(&command, " --seeds ", absl::StrJoin(design.seeds(), ","),
                    design.seeds_size() == 1 ? "," : "");
  }
  return {"# save the spec \"base\" from above as base.yaml, then", command + " --wait"};
}

std::vector<std::string> Repeat(const RunSet& set, const RunReportOptions& options) {
  std::vector<std::string> lines;
  if (set.experiment.has_value()) {
    lines = SweepCommands(*set.experiment);
  } else {
    lines.emplace_back(
        "# save a spec from above as spec.yaml; the same seed gives the same numbers, to the last "
        "digit, on the same kind of CPU");
    lines.emplace_back("normlab submit spec.yaml --wait");
  }
  if (!options.command.empty()) {
    lines.emplace_back("# this report");
    lines.push_back(options.command);
  }
  return lines;
}

std::vector<Report::Spec> Specs(const RunSet& set) {
  std::vector<Report::Spec> specs;
  if (set.experiment.has_value()) {
    specs.push_back({"base", SpecYaml(set.experiment->base())});
  }
  for (const RunGroup& group : set.groups) {
    if (group.runs.empty()) {
      continue;
    }
    const Job& job = group.runs.front().job;
    std::vector<std::string> seeds;
    for (const RunData& run : group.runs) {
      seeds.push_back(absl::StrCat(run.job.spec().seed()));
    }
    const std::string which = seeds.size() == 1
                                  ? absl::StrCat("seed ", seeds[0])
                                  : absl::StrCat("seeds ", absl::StrJoin(seeds, ", "));
    specs.push_back({absl::StrCat(group.name, " (", which, ")"),
                     SpecYaml(job.has_resolved_spec() ? job.resolved_spec() : job.spec())});
  }
  return specs;
}

}  // namespace

std::vector<std::string> RunWarnings(const RunSet& set) {
  std::map<Job::State, std::vector<std::string>> by_state;
  for (const RunGroup& group : set.groups) {
    for (const RunData& run : group.runs) {
      if (!run.succeeded()) {
        by_state[Kind(run.job.state())].push_back(Describe(group, run));
      }
    }
  }
  std::vector<std::string> warnings;
  for (const auto& [state, jobs] : by_state) {
    for (size_t i = 0; i < jobs.size() && i < kNamedInAWarning; ++i) {
      warnings.push_back(absl::StrCat(jobs[i], "; ", Consequence(state), "."));
    }
    if (jobs.size() > kNamedInAWarning) {
      warnings.push_back(absl::StrCat("The same holds for ", jobs.size() - kNamedInAWarning,
                                      " more jobs: see the table of jobs."));
    }
  }
  return warnings;
}

Report MakeRunReport(const RunSet& set, const RunReportOptions& options) {
  Report report;
  report.title = Title(set);
  report.subtitle = Subtitle(set);
  report.warnings = RunWarnings(set);
  Section final_values = FinalSection(set, options);
  Section jobs{.title = "Jobs", .tables = {JobTable(set)}};
  Section curves = CurveSection(set, options);
  Section layers = LayerSection(set, options);
  if (curves.charts.empty() && layers.charts.empty()) {
    report.warnings.emplace_back(
        options.series.empty()
            ? "No job has written a metric so far: there is nothing to draw."
            : "No job has a series that --series names: there is nothing to draw.");
  }
  for (Section* section : {&final_values, &curves, &layers, &jobs}) {
    if (!section->charts.empty() || !section->tables.empty() || !section->text.empty()) {
      report.sections.push_back(std::move(*section));
    }
  }
  report.specs = Specs(set);
  report.repeat = Repeat(set, options);
  report.provenance = set.server;
  report.time = options.time;
  return report;
}

}  // namespace normlab::client::report
