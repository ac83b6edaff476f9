#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/experiment_view.h"
#include "client/cli/experiment_watch.h"
#include "client/cli/interrupt.h"
#include "client/cli/spec_options.h"
#include "client/cli/sweep_errors.h"
#include "client/cli/watch_session.h"
#include "client/lib/design_text.h"
#include "client/lib/rpc_error.h"

#include "CLI/Validators.hpp"

namespace normlab::client {
namespace {

using normlab::v1::Experiment;

constexpr int kCellsShown = 20;

struct SweepOptions {
  SpecOptions spec;
  std::vector<std::string> axes;
  std::string seeds;
  int random = 0;
  uint32_t random_seed = 0;
  std::string cells;
  std::string request_id;
  bool wait = false;
  bool validate_only = false;
  bool quiet = false;
};

// The experiment that the options describe; what is wrong with them is a matter of usage.
absl::StatusOr<Experiment> MakeExperiment(const SweepOptions& options,
                                          const normlab::v1::JobSpec& base,
                                          CommandContext& context) {
  Experiment experiment;
  *experiment.mutable_base() = base;
  experiment.set_display_name(base.display_name());
  *experiment.mutable_labels() = base.labels();
  normlab::v1::Design& design = *experiment.mutable_design();
  for (const std::string& text : options.axes) {
    absl::StatusOr<normlab::v1::Axis> axis = ParseAxis(text);
    if (!axis.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--axis ", axis.status().message()));
    }
    *design.add_axes() = *std::move(axis);
  }
  if (!options.cells.empty()) {
    if (options.cells == "-" && options.spec.file == "-") {
      return absl::InvalidArgumentError(
          "standard input cannot be both the spec and the cells; put one into a file");
    }
    absl::StatusOr<std::vector<normlab::v1::Assignments>> cells =
        ReadCells(options.cells, context.in());
    if (!cells.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--cells: ", cells.status().message()));
    }
    design.mutable_cells()->Add(cells->begin(), cells->end());
  }
  if (!options.seeds.empty()) {
    absl::StatusOr<std::vector<uint32_t>> seeds = ParseSeeds(options.seeds);
    if (!seeds.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--seeds ", seeds.status().message()));
    }
    design.mutable_seeds()->Add(seeds->begin(), seeds->end());
  }
  if (options.random > 0) {
    design.mutable_random()->set_cells(options.random);
    design.mutable_random()->set_seed(options.random_seed);
  }
  return experiment;
}

void Print(const Experiment& experiment, const SweepOptions& options, CommandContext& context) {
  Output& out = context.out();
  if (context.json()) {
    context.PrintJson(experiment);
  } else if (options.quiet) {
    out.Write(absl::StrCat(experiment.name(), "\n"));
  } else {
    out.Write(DescribeExperiment(out, experiment, kCellsShown));
  }
}

int Sweep(const SweepOptions& options, CommandContext& context) {
  int exit_code = kExitSucceeded;
  const std::optional<SpecDocument> document = LoadSpec(options.spec, context, &exit_code);
  if (!document.has_value()) {
    return exit_code;
  }
  const absl::StatusOr<Experiment> wanted = MakeExperiment(options, document->spec, context);
  if (!wanted.ok()) {
    return context.FailUsage(std::string(wanted.status().message()));
  }
  std::optional<InterruptScope> interrupt;
  if (options.wait) {
    interrupt.emplace();
  }
  Client client(
      context.MakeClientOptions(interrupt.has_value() ? interrupt->token() : std::stop_token()));
  const std::string request_id = options.request_id.empty() ? NewRequestId() : options.request_id;
  const absl::StatusOr<Experiment> experiment = client.CreateExperiment(
      *wanted, {.request_id = request_id, .validate_only = options.validate_only});
  if (!experiment.ok()) {
    // Programs get the names of the API.
    exit_code = context.Fail(
        context.json()
            ? experiment.status()
            : absl::Status(experiment.status().code(),
                           InTermsOfOptions(DescribeError(experiment.status()), *wanted)));
    const bool may_be_stored =
        absl::IsDeadlineExceeded(experiment.status()) || absl::IsCancelled(experiment.status());
    if (may_be_stored && !options.validate_only && !context.json()) {
      context.err().Write(absl::StrCat(
          "The experiment may have been stored all the same. To submit it once and only once, "
          "repeat the command with --request-id ",
          request_id, "\n"));
    }
    return interrupt.has_value() && interrupt->signal() != 0
               ? ReportInterruption(context, interrupt->signal(), "Stopped.")
               : exit_code;
  }
  if (options.validate_only) {
    if (context.json()) {
      context.PrintJson(*experiment);
    } else {
      const auto seeds = static_cast<int64_t>(
          experiment->design().seeds().empty() ? 1 : experiment->design().seeds_size());
      context.out().Write(absl::StrCat("the sweep is valid: ", experiment->cells_size(),
                                       experiment->cells_size() == 1 ? " cell, " : " cells, ",
                                       experiment->cells_size() * seeds, " jobs\n"));
    }
    return kExitSucceeded;
  }
  if (!options.wait) {
    Print(*experiment, options, context);
    if (!context.json() && !options.quiet) {
      context.out().Write(
          absl::StrCat("Watch it with: normlab experiment watch ", experiment->name(), "\n"));
    }
    return kExitSucceeded;
  }
  if (!context.json()) {
    context.out().Write(absl::StrCat(experiment->name(), "\n"));
    context.out().Flush();
  }
  return WatchExperimentToEnd(context, client, *interrupt, experiment->name(),
                              options.quiet || context.json());
}

}  // namespace

void AddSweepCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<SweepOptions>();
  CLI::App& command = *app.add_subcommand(
      "sweep", "Submit an experiment: many jobs, one for every cell of a design and every seed");
  options->spec.AddTo(command);
  command
      .add_option(
          "--axis", options->axes,
          "A field and its values; the cells are all combinations of the axes' values, the "
          "last axis changing fastest. A kind's name selects it with its defaults, anything "
          "else is JSON. With --random also a range: FIELD=0.01..1, FIELD=log:0.01..1, "
          "FIELD=int:2..64")
      ->type_name("FIELD=VALUE,...")
      ->allow_extra_args(false);
  command
      .add_option(
          "--seeds", options->seeds,
          "How many seeds to run every cell with (5: 1 to 5), or which (1,4,7); without it, "
          "the spec's")
      ->type_name("N|LIST");
  command
      .add_option("--random", options->random,
                  "Draw so many cells from the axes instead of taking all combinations")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--random-seed", options->random_seed,
                  "Of the draw: the same seed draws the same cells")
      ->type_name("S");
  command
      .add_option("--cells", options->cells,
                  "Cells one by one instead of axes: a YAML or JSON file with a list of maps from "
                  "field to value; - reads standard input")
      ->type_name("FILE");
  command.add_option("--request-id", options->request_id,
                     "Submitting again with the same id answers with the same experiment");
  command.add_flag("--wait", options->wait, "Watch the experiment to the end of its last job");
  command.add_flag("--validate-only", options->validate_only,
                   "Check the design and every cell's spec, and store nothing");
  command.add_flag("-q,--quiet", options->quiet, "Print only the experiment's name");
  command.footer(R"(
Experiment and jobs are stored together, at most 10,000 jobs at a time: all of them or none. With
--output json it prints the Experiment; with --wait too, once it is over. With --wait the exit code
is 0 when every job gave a result (a divergence is one), 1 when some failed, 5 when some were
cancelled; 130 after Ctrl-C, which leaves the experiment running.

Examples:
  normlab sweep spec.json --axis normalization=none,batch --axis optimizer.sgd.learning_rate=0.01,0.1,1 --seeds 5
  normlab sweep spec.json --axis 'normalization=batch,{"group": {"groups": 4}}' --seeds 1,2,3 --wait
  normlab sweep spec.json --axis optimizer.sgd.learning_rate=log:0.001..1 --random 20 --seeds 3
  normlab sweep spec.json --cells cells.yaml --validate-only)");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Sweep(*options, context); };
  });
}

}  // namespace normlab::client
