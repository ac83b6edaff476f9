#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/experiment_jobs.h"
#include "client/cli/experiment_view.h"
#include "client/cli/experiment_watch.h"
#include "client/cli/interrupt.h"
#include "client/cli/name_argument.h"
#include "client/lib/number_format.h"
#include "client/report/runs.h"

#include "CLI/Validators.hpp"

namespace normlab::client {
namespace {

using normlab::v1::Experiment;

constexpr int kCellsShown = 50;
constexpr int kLargestPage = 1000;
constexpr double kDefaultConfidence = 0.95;

int Print(const absl::StatusOr<Experiment>& experiment, CommandContext& context) {
  if (!experiment.ok()) {
    return context.Fail(experiment.status());
  }
  if (context.json()) {
    context.PrintJson(*experiment);
  } else {
    context.out().Write(DescribeExperiment(context.out(), *experiment, kCellsShown));
  }
  return kExitSucceeded;
}

struct ListOptions {
  int page_size = 0;
  std::string page_token;
  bool all = false;
};

int List(const ListOptions& options, CommandContext& context) {
  Client client = context.MakeClient();
  Output& out = context.out();
  normlab::v1::ListExperimentsRequest request;
  request.set_page_size(options.page_size);
  request.set_page_token(options.page_token);
  int64_t pages = 0;
  int64_t experiments = 0;
  std::string next;
  do {
    const absl::StatusOr<normlab::v1::ListExperimentsResponse> page =
        client.ListExperiments(request);
    if (!page.ok()) {
      return context.Fail(page.status());
    }
    if (!context.json()) {
      out.Write(ExperimentTable(out, {page->experiments().begin(), page->experiments().end()},
                                pages == 0));
    } else if (pages == 0) {
      out.Write("{\"experiments\":[");
    }
    for (int i = 0; context.json() && i < page->experiments_size(); ++i) {
      out.Write(
          absl::StrCat(experiments++ == 0 ? "\n" : ",\n", ToJson(page->experiments(i), false)));
    }
    ++pages;
    next = page->next_page_token();
    request.set_page_token(next);
    if (!out.status().ok()) {
      return kExitBrokenPipe;
    }
  } while (options.all && !next.empty());
  if (context.json()) {
    out.Write(next.empty() ? "\n]}\n"
                           : absl::StrCat("\n],\"nextPageToken\":", FormatJsonString(next), "}\n"));
  } else if (!next.empty()) {
    out.Flush();
    context.err().Write(
        absl::StrCat("There are more: --all, or --page-token ", Printable(next), "\n"));
  }
  return kExitSucceeded;
}

struct DeleteOptions {
  std::vector<std::string> names;
  bool force = false;
  bool allow_missing = false;
};

int Delete(const DeleteOptions& options, CommandContext& context) {
  Client client = context.MakeClient();
  return ActOnEach(context, options.names, [&](const std::string& name) {
    const absl::Status deleted =
        client.DeleteExperiment(name, options.force, options.allow_missing);
    if (deleted.ok()) {
      context.out().Write(
          context.json()
              ? absl::StrCat("{\"name\":", FormatJsonString(ExperimentName(name)), "}\n")
              : absl::StrCat("deleted ", Printable(ExperimentName(name)), " with its jobs\n"));
    }
    return deleted;
  });
}

struct SummaryOptions {
  std::string name;
  std::string series;
  std::string baseline;
  std::optional<double> confidence;
};

int Summarize(const SummaryOptions& options, CommandContext& context) {
  Client client = context.MakeClient();
  normlab::v1::SummarizeExperimentRequest request;
  request.set_name(options.name);
  for (const absl::string_view series : absl::StrSplit(options.series, ',', absl::SkipEmpty())) {
    request.add_series(std::string(series));
  }
  if (options.confidence.has_value()) {
    request.set_confidence(*options.confidence);
  }
  const absl::StatusOr<Experiment> experiment = client.GetExperiment(options.name);
  if (!experiment.ok()) {
    return context.Fail(experiment.status());
  }
  if (!options.baseline.empty()) {
    std::vector<std::string> axes;
    const absl::StatusOr<size_t> cell =
        report::FindGroup(report::GroupCells(*experiment, &axes), options.baseline);
    if (!cell.ok()) {
      return context.FailUsage(
          absl::StrCat("--baseline: ", Printable(std::string(cell.status().message()))));
    }
    request.set_baseline(static_cast<int32_t>(*cell));
  }
  const absl::StatusOr<normlab::v1::ExperimentSummary> summary =
      client.SummarizeExperiment(request);
  if (!summary.ok()) {
    return context.Fail(summary.status());
  }
  if (context.json()) {
    context.PrintJson(*summary);
    return kExitSucceeded;
  }
  context.out().Write(SummaryTables(context.out(), *experiment, *summary,
                                    options.confidence.value_or(kDefaultConfidence)));
  return kExitSucceeded;
}

CLI::App& AddNamed(CLI::App& group,
                   const std::string& verb,
                   const std::string& description,
                   const std::shared_ptr<std::string>& name) {
  CLI::App& command = *group.add_subcommand(verb, description);
  AddExperimentArgument(command, *name);
  return command;
}

void AddGet(CLI::App& group, Command& selected) {
  const auto name = std::make_shared<std::string>();
  AddNamed(group, "get", "Show an experiment with its cells", name).callback([name, &selected] {
    selected = [name](CommandContext& context) {
      Client client = context.MakeClient();
      const absl::StatusOr<Experiment> experiment = client.GetExperiment(*name);
      const int exit_code = Print(experiment, context);
      if (experiment.ok() && !context.json()) {
        context.out().Write(JobRemarks(client, *experiment));
      }
      return exit_code;
    };
  });
}

void AddList(CLI::App& group, Command& selected) {
  const auto options = std::make_shared<ListOptions>();
  CLI::App& command = *group.add_subcommand("list", "List experiments, the newest first");
  command
      .add_option("--page-size", options->page_size,
                  "Experiments at a time; the server's default is 50")
      ->type_name("N")
      ->check(CLI::Range(1, kLargestPage));
  command.add_option("--page-token", options->page_token, "Go on where an earlier list stopped");
  command.add_flag("--all", options->all, "All pages");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return List(*options, context); };
  });
}

void AddCancel(CLI::App& group, Command& selected) {
  const auto name = std::make_shared<std::string>();
  AddNamed(group, "cancel", "Ask for the end of every job that has not ended", name)
      .callback([name, &selected] {
        selected = [name](CommandContext& context) {
          return Print(context.MakeClient().CancelExperiment(*name), context);
        };
      });
}

void AddPause(CLI::App& group, Command& selected) {
  const auto name = std::make_shared<std::string>();
  CLI::App& command = AddNamed(group, "pause", "Let all jobs rest that wait or run", name);
  command.footer(R"(
Running ones pause with a checkpoint after their current step, and all hold no cores then. It says how
many were asked; once more does no harm. With --output json it prints the Experiment.)");
  command.callback([name, &selected] {
    selected = [name](CommandContext& context) { return PauseExperiment(context, *name); };
  });
}

void AddResume(CLI::App& group, Command& selected) {
  const auto name = std::make_shared<std::string>();
  AddNamed(group, "resume", "Put all its paused jobs back into the queue", name)
      .callback([name, &selected] {
        selected = [name](CommandContext& context) { return ResumeExperiment(context, *name); };
      });
}

void AddDelete(CLI::App& group, Command& selected) {
  const auto options = std::make_shared<DeleteOptions>();
  CLI::App& command = *group.add_subcommand(
      "delete", "Remove experiments that have ended, with all their jobs, records and files");
  AddExperimentArgument(command, options->names);
  command.add_flag("--force", options->force, "Cancel first what waits or runs");
  command.add_flag("--allow-missing", options->allow_missing,
                   "No error for an experiment that is not there");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Delete(*options, context); };
  });
}

void AddWatch(CLI::App& group, Command& selected) {
  const auto name = std::make_shared<std::string>();
  CLI::App& command =
      AddNamed(group, "watch", "Follow an experiment to the end of its last job", name);
  command.footer(R"(
On a terminal: a table of the cells, drawn anew. In a pipe: a line for every change, at most one a
second. With --output json: the Experiment, one line each time. Ctrl-C leaves the experiment running.

The exit code: 0 when every job gave a result (a divergence is one), 1 when some failed, 5 when some
were cancelled; 130 after Ctrl-C.)");
  command.callback([name, &selected] {
    selected = [name](CommandContext& context) {
      const InterruptScope interrupt;
      Client client(context.MakeClientOptions(interrupt.token()));
      return WatchExperimentToEnd(context, client, interrupt, *name, /*final_only=*/false);
    };
  });
}

void AddSummary(CLI::App& group, Command& selected) {
  const auto options = std::make_shared<SummaryOptions>();
  CLI::App& command = *group.add_subcommand(
      "summary", "Means, confidence intervals and paired differences over the seeds of every cell");
  AddExperimentArgument(command, options->name);
  command
      .add_option("--series", options->series,
                  "Series separated by commas; default train/loss, train/accuracy, test/loss and "
                  "test/accuracy")
      ->type_name("LIST");
  command
      .add_option("--baseline", options->baseline,
                  "The cell that differences are taken to, seed by seed: its name (as in a report: "
                  "\"batch, learning rate 0.1\") or its number, from 0, as the tables have it")
      ->type_name("CELL");
  command.add_option("--confidence", options->confidence, "Of the intervals; default 0.95")
      ->type_name("P");
  command.footer(R"(
Last values of the jobs that succeeded; the others are counted, never dropped in silence. Intervals
are Student's t. With --output json it prints the ExperimentSummary, with the value of every seed.

Examples:
  normlab experiment summary experiments/ID --baseline 0
  normlab experiment summary experiments/ID --series test/accuracy --confidence 0.99)");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Summarize(*options, context); };
  });
}

}  // namespace

void AddExperimentCommand(CLI::App& app, Command& selected) {
  CLI::App& group = *app.add_subcommand(
      "experiment",
      "get, list, watch, pause, resume, cancel, delete or summary of experiments (see sweep)");
  group.require_subcommand(1);
  group.fallthrough();
  AddGet(group, selected);
  AddList(group, selected);
  AddPause(group, selected);
  AddResume(group, selected);
  AddCancel(group, selected);
  AddDelete(group, selected);
  AddWatch(group, selected);
  AddSummary(group, selected);
  group.footer(R"(
Examples:
  normlab experiment list
  normlab experiment watch experiments/ID
  normlab experiment pause experiments/ID
  normlab experiment summary experiments/ID --baseline 0
  normlab list --filter experiment=experiments/ID)");
}

}  // namespace normlab::client
