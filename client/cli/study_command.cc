// normlab study list | describe | run | report
#include <memory>
#include <string>
#include <vector>

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/study_run.h"
#include "client/cli/study_view.h"
#include "client/studies/study.h"

#include "CLI/Validators.hpp"

namespace normlab::client {
namespace {

// Plans of all presets, for what they would cost; one that cannot be made ends the command.
absl::StatusOr<std::vector<studies::Plan>> PlansOf(const studies::StudyText& text) {
  std::vector<studies::Plan> plans;
  for (const studies::Preset& preset : text.presets) {
    absl::StatusOr<studies::Plan> plan = studies::MakePlan(text.name, {.preset = preset.name});
    if (!plan.ok()) {
      return plan.status();
    }
    plans.push_back(*std::move(plan));
  }
  return plans;
}

int List(CommandContext& context) {
  if (!context.json()) {
    context.out().Write(StudyTable(context.out()));
    return kExitSucceeded;
  }
  std::string separator = "{\"studies\":[\n";
  for (const std::string& name : studies::StudyNames()) {
    const auto text = studies::DescribeStudy(name);
    if (!text.ok()) {
      return context.Fail(text.status());
    }
    const auto plans = PlansOf(*text);
    if (!plans.ok()) {
      return context.Fail(plans.status());
    }
    context.out().Write(separator);
    context.out().Write(DescribeStudyJson(*text, *plans));
    separator = ",";
  }
  context.out().Write("]}\n");
  return kExitSucceeded;
}

int Describe(const std::string& name, const std::string& preset, CommandContext& context) {
  const auto text = studies::DescribeStudy(name);
  if (!text.ok()) {
    return context.Fail(text.status());
  }
  const auto plans = PlansOf(*text);
  if (!plans.ok()) {
    return context.Fail(plans.status());
  }
  if (const auto plan = studies::MakePlan(name, {.preset = preset}); !plan.ok()) {
    return context.Fail(plan.status());
  }
  context.out().Write(context.json() ? DescribeStudyJson(*text, *plans)
                                     : DescribeStudyText(context.out(), *text, *plans, preset));
  return kExitSucceeded;
}

void AddListAndDescribe(CLI::App& study, Command& selected) {
  CLI::App& list = *study.add_subcommand("list", "All studies, with what their quick preset costs");
  list.callback([&selected] { selected = List; });
  const auto name = std::make_shared<std::string>();
  const auto preset = std::make_shared<std::string>("quick");
  CLI::App& describe = *study.add_subcommand(
      "describe", "The question, the definition, what the literature found, presets and cost");
  describe.add_option("NAME", *name, "A study")->required()->type_name("");
  describe.add_option("--preset", *preset, "Whose parts to list")
      ->type_name("NAME")
      ->capture_default_str();
  describe.footer(R"(
Needs no server. With --output json it prints every preset with its base specs, axes and seeds.

Example:
  normlab study describe landscape --preset paper)");
  describe.callback([name, preset, &selected] {
    selected = [name, preset](CommandContext& context) {
      return Describe(*name, *preset, context);
    };
  });
}

void AddRun(CLI::App& study, Command& selected) {
  const auto options = std::make_shared<StudyRunOptions>();
  CLI::App& run =
      *study.add_subcommand("run", "Run a study, judge its claims and write its report");
  run.add_option("NAME", options->studies, "One or more studies")->type_name("");
  run.add_flag("--all", options->all, "All studies, with one report of them all");
  run.add_option("--preset", options->plan.preset, "smoke, quick or paper")
      ->type_name("NAME")
      ->capture_default_str();
  run.add_option("--set", options->plan.set,
                 "FIELD=VALUE for every part that leaves the field open, or PART:FIELD=VALUE")
      ->type_name("FIELD=VALUE")
      ->allow_extra_args(false);
  run.add_option("--seeds", options->plan.seeds,
                 "Seeds of every cell instead of the preset's; verdicts need 5")
      ->type_name("N")
      ->check(CLI::Range(1, 1000));
  run.add_flag("--no-wait", options->no_wait,
               "Start it and leave; read it later with: normlab study report NAME");
  run.add_flag("--again", options->again, "Run it anew though it is there already");
  run.add_flag("--validate-only", options->validate_only,
               "Check everything with the server, and start nothing");
  run.add_option("-o,--output-file", options->file,
                 "Where the report goes, in the format that its ending says (html, md, csv); "
                 "default normlab-NAME-PRESET.html")
      ->type_name("FILE");
  run.footer(R"(
A study is some experiments: the same command after an interruption, or after the study was finished, goes on
with them or finds them, and starts nothing twice (--again does). Ctrl-C leaves the jobs running.

The exit code is 0 when all jobs ended with a result, whatever the verdicts; 1 when some failed.

Examples:
  normlab study run explosion
  normlab study run landscape --set data=cifar10 --set vgg:steps=600
  normlab study run --all --preset quick -o report.html)");
  run.callback([options, &selected] {
    selected = [options](CommandContext& context) { return RunStudies(*options, context); };
  });
}

void AddReport(CLI::App& study, Command& selected) {
  const auto options = std::make_shared<StudyReportOptions>();
  CLI::App& report =
      *study.add_subcommand("report", "Judge what a run measured and write its report");
  report
      .add_option("NAME", options->what,
                  "A study (its newest finished run), or experiments/ID of one of its parts")
      ->required()
      ->type_name("");
  report.add_option("--preset", options->preset, "Only runs of this preset")->type_name("NAME");
  report
      .add_option("-o,--output-file", options->file,
                  "Where the report goes; without it only the claims are printed")
      ->type_name("FILE");
  report
      .add_option("--format", options->format,
                  "html, md, csv, svg or png; default: as FILE ends, else html")
      ->type_name("FORMAT");
  report.footer(R"(
Works while jobs still run and when some failed: what rests on them is inconclusive, and the report says so.

Examples:
  normlab study report landscape -o landscape.html
  normlab study report experiments/ID --format md -o -)");
  report.callback([options, &selected] {
    selected = [options](CommandContext& context) { return ReportStudy(*options, context); };
  });
}

}  // namespace

void AddStudyCommand(CLI::App& app, Command& selected) {
  CLI::App& study = *app.add_subcommand("study", "Re-run claims of the literature and judge them");
  study.require_subcommand(1);
  AddListAndDescribe(study, selected);
  AddRun(study, selected);
  AddReport(study, selected);
  study.footer(R"(
Examples:
  normlab study list
  normlab study describe explosion
  normlab study run explosion -o explosion.html)");
}

}  // namespace normlab::client
