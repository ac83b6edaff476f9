// What probes cost: a training run with every probe, and of each its median run in forward and backward passes of the same
// run. Passes and probes take turns in one thread and are timed by that thread's CPU clock, so that other programs hardly
// matter. Nets and data are those of the studies (the package dataset-fashion-mnist).
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/status_macros.h"
#include "engine/train/trainer.h"
#include "tests/bench/training_input.h"

#include "CLI/CLI.hpp"

namespace normlab::engine {
namespace {

namespace fs = std::filesystem;

// The promise: a landscape of k step sizes costs at most so many passes a step size.
constexpr double kLandscapeLimit = 1.15;
// For ctest: did not run.
constexpr int kSkipped = 77;
constexpr int kStepSizes = 4;
constexpr int kNoiseBatches = 16;

struct Net {
  const char* name;
  const char* spec;
  bool
      held_to_the_limit;  // small nets are not: a step of theirs is mostly waking threads and copying
};

constexpr Net kNets[] = {
    {"vgg11", "model { vgg { depth: 11 width_multiplier: 0.25 } } batch_size: 64 ", true},
    {"mlp3x100", "model { mlp { hidden: [100, 100, 100] activation: SIGMOID } } batch_size: 60 ",
     false},
};

class SilentSink : public MetricSink {
 public:
  void OnStep(const StepRecord&) override {}
  void OnCheckpoint(const CheckpointRecord&) override {}
  void OnLog(v1::LogLine::Severity, absl::string_view) override {}
  int64_t CommittedCheckpointStep() const override { return -1; }
};

struct Settings {
  int threads = 1;
  int steps = 40;
  bool landscape_only = false;
};

absl::StatusOr<v1::JobSpec> SpecOf(const Net& net, const Settings& settings) {
  std::string text =
      absl::StrCat(net.spec, "normalization { batch {} } convolution_algorithm: DIRECT threads: ",
                   settings.threads, " steps: ", settings.steps,
                   " optimizer { sgd { learning_rate: 0.05 } } evaluation { batch_size: 64 } "
                   "data { fashion_mnist {} train_limit: 2000 test_limit: 64 } "
                   "probes { every: 2 landscape { learning_rate_multiples: [0.5, 1, 2, 4] } } ");
  if (!settings.landscape_only) {
    absl::StrAppend(&text,
                    "probes { every: 2 activation_statistics {} } "
                    "probes { every: 2 gradient_norms {} } "
                    "probes { every: 2 covariate_shift {} } "
                    "probes { every: 2 gradient_noise { batches: ",
                    kNoiseBatches,
                    " } } "
                    "probes { every: 2 sharpness { examples: 256 } } "
                    "probes { every: 2 scale_invariance {} } "
                    "probes { every: 2 normalizer_parameters {} } ");
  }
  return ResolvedSpec(text);
}

// Prints a line a probe. False: the landscape is over its limit.
absl::StatusOr<bool> Measure(const Net& net, const Settings& settings, const fs::path& folder) {
  NORMLAB_ASSIGN_OR_RETURN(const v1::JobSpec spec, SpecOf(net, settings));
  NORMLAB_ASSIGN_OR_RETURN(const MappedDataset data, OpenData(spec, folder));
  NORMLAB_ASSIGN_OR_RETURN(
      const std::unique_ptr<Trainer> trainer,
      Trainer::Plan(spec, data, TrainerOptions{.attempt_folder = folder.string()}));
  SilentSink sink;
  const v1::Outcome outcome = trainer->Run(sink, {});
  if (outcome.state() != v1::Job::SUCCEEDED) {
    return absl::InternalError(absl::StrCat(net.name, " ended with ", outcome.ShortDebugString()));
  }
  bool ok = true;
  for (const v1::ProbeCost& cost : outcome.result().probe_costs()) {
    std::string note;
    if (cost.probe() == "landscape") {
      const double each = cost.passes_per_run() / kStepSizes;
      const bool over = net.held_to_the_limit && each > kLandscapeLimit;
      note = absl::StrFormat("%d step sizes: %.2f each%s", kStepSizes, each,
                             !net.held_to_the_limit ? ""
                             : over ? absl::StrFormat(", over %.2f", kLandscapeLimit)
                                    : absl::StrFormat(", at most %.2f", kLandscapeLimit));
      ok = ok && !over;
    } else if (cost.probe() == "gradient_noise") {
      note = absl::StrFormat("%d batches: %.2f each", kNoiseBatches,
                             cost.passes_per_run() / kNoiseBatches);
    }
    absl::PrintF("%-10s %d threads  %-22s %5d runs %8.2f passes a run  %s\n", net.name,
                 settings.threads, cost.probe(), cost.runs(), cost.passes_per_run(), note);
  }
  return ok;
}

}  // namespace
}  // namespace normlab::engine

int main(int argc, char** argv) {
  using normlab::engine::kNets;
  CLI::App app("Measures what each probe costs, in forward and backward passes of training");
  normlab::engine::Settings settings;
  std::vector<std::string> nets;
  app.add_option("--nets", nets, "vgg11, mlp3x100; default: both")->delimiter(',');
  app.add_option("--threads", settings.threads, "OpenMP threads")->check(CLI::Range(1, 64));
  app.add_option("--steps", settings.steps, "of the run; every other one is probed; default: 40")
      ->check(CLI::Range(2, 100000));
  app.add_flag("--landscape", settings.landscape_only, "this probe only");
  CLI11_PARSE(app, argc, argv);
  if (!std::filesystem::exists(absl::StrCat(normlab::engine::kDataRoot, "/fashion-mnist"))) {
    std::puts("did not run: install the package dataset-fashion-mnist");
    return normlab::engine::kSkipped;
  }
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / absl::StrCat("normlab-probe-bench.", getpid());
  std::filesystem::create_directories(folder);
  bool ok = true;
  for (const normlab::engine::Net& net : kNets) {
    if (!nets.empty() && std::find(nets.begin(), nets.end(), net.name) == nets.end()) {
      continue;
    }
    const absl::StatusOr<bool> measured = normlab::engine::Measure(net, settings, folder);
    if (!measured.ok()) {
      std::fprintf(stderr, "%s: %s\n", net.name, measured.status().ToString().c_str());
      ok = false;
      break;
    }
    ok = ok && *measured;
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  return ok ? 0 : 1;
}
