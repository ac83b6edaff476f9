// Times training steps of a run that several processes share, and what adding up gradients costs: one rank of it. Started by
// mpirun as many times as there are ranks, or alone for one process; tests/bench/data_parallel does, and compares. Rank 0
// prints one JSON line: median milliseconds of a step as the trainer has it (loading, passes, sums, update), milliseconds a
// step that sums took within the backward pass and after it.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/parallel/mpi/mpi_ranks.h"
#include "engine/train/trainer.h"
#include "tests/bench/training_input.h"

#include "CLI/CLI.hpp"
#include "nlohmann/json.hpp"

namespace normlab::engine {
namespace {

namespace fs = std::filesystem;

struct Settings {
  int threads = 1;
  int steps = 12;
  int batch = 128;
  bool synchronized = false;
  bool overlap = true;
  std::string net = "vgg16";
};

class TimingSink : public MetricSink {
 public:
  void OnStep(const StepRecord& record) override {
    if (record.examples > 0) {
      seconds.push_back(record.step_seconds);
    }
  }
  void OnCheckpoint(const CheckpointRecord&) override {}
  void OnLog(v1::LogLine::Severity, absl::string_view) override {}
  int64_t CommittedCheckpointStep() const override { return -1; }

  std::vector<double> seconds;
};

absl::StatusOr<v1::JobSpec> SpecOf(const Settings& settings, int ranks) {
  const std::string model = settings.net == "vgg16"      ? "vgg { depth: 16 }"
                            : settings.net == "resnet20" ? "resnet { depth: 20 }"
                                                         : "mlp { hidden: [512, 512, 512] }";
  const std::string text =
      absl::StrCat("model { ", model, " } normalization { batch {} } threads: ", settings.threads,
                   " steps: ", settings.steps, " batch_size: ", settings.batch,
                   " optimizer { sgd { learning_rate: 0.01 momentum: 0.9 } } "
                   "evaluation { every_epochs: 0 batch_size: 16 } data { gaussian_classes { dims: "
                   "[3, 32, 32] classes: 10 "
                   "train_examples: 1024 test_examples: 16 } } data_parallel { ranks: ",
                   ranks, " statistics_group: ", settings.synchronized ? ranks : 1, " }");
  return ResolvedSpec(text);
}

absl::Status Measure(const Settings& settings, Communicator* communicator, const fs::path& folder) {
  const int ranks = communicator == nullptr ? 1 : communicator->size();
  NORMLAB_ASSIGN_OR_RETURN(const v1::JobSpec spec, SpecOf(settings, ranks));
  NORMLAB_ASSIGN_OR_RETURN(const MappedDataset data, OpenData(spec, folder));
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer,
                           Trainer::Plan(spec, data,
                                         {.attempt_folder = folder.string(),
                                          .communicator = communicator,
                                          .overlap = settings.overlap}));
  TimingSink sink;
  const v1::Outcome outcome = trainer->Run(sink, {});
  if (outcome.state() != v1::Job::SUCCEEDED) {
    return absl::InternalError(absl::StrCat("ended with ", outcome.ShortDebugString()));
  }
  if (communicator != nullptr && communicator->rank() > 0) {
    return absl::OkStatus();
  }
  // The first steps touch memory for the first time.
  sink.seconds.erase(sink.seconds.begin(),
                     sink.seconds.begin() + std::min<std::ptrdiff_t>(2, settings.steps - 1));
  std::sort(sink.seconds.begin(), sink.seconds.end());
  nlohmann::ordered_json line = {{"net", settings.net},
                                 {"ranks", ranks},
                                 {"threads", settings.threads},
                                 {"batch", settings.batch},
                                 {"synchronized", settings.synchronized},
                                 {"overlap", settings.overlap},
                                 {"step_ms", 1e3 * sink.seconds[sink.seconds.size() / 2]},
                                 {"fastest_ms", 1e3 * sink.seconds.front()}};
  if (const GradientReducer* reducer = trainer->reducer(); reducer != nullptr) {
    line["sums_within_ms"] = 1e3 * reducer->overlapped_seconds() / settings.steps;
    line["sums_after_ms"] = 1e3 * reducer->exposed_seconds() / settings.steps;
  }
  std::printf("%s\n", line.dump().c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace normlab::engine

int main(int argc, char** argv) {
  CLI::App app("Times training steps that several processes share (one rank of them)");
  normlab::engine::Settings settings;
  app.add_option("--net", settings.net, "vgg16 | resnet20 | mlp")
      ->check(CLI::IsMember({"vgg16", "resnet20", "mlp"}));
  app.add_option("--threads", settings.threads, "of each rank")->check(CLI::Range(1, 64));
  app.add_option("--steps", settings.steps)->check(CLI::Range(3, 100000));
  app.add_option("--batch", settings.batch, "of all ranks")->check(CLI::Range(2, 65536));
  app.add_flag("--synchronized", settings.synchronized, "statistics over all ranks");
  app.add_flag("!--no-overlap", settings.overlap, "add up after the backward pass");
  CLI11_PARSE(app, argc, argv);
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / absl::StrCat("normlab-ranks-bench.", getpid());
  std::filesystem::create_directories(folder);
  absl::Status status;
  {
    std::unique_ptr<normlab::engine::MpiRanks> ranks;
    std::unique_ptr<normlab::engine::Communicator> world;
    if (getenv("OMPI_COMM_WORLD_SIZE") != nullptr || getenv("PMIX_RANK") != nullptr) {
      auto started = normlab::engine::MpiRanks::Start();
      status = started.status();
      if (started.ok()) {
        ranks = *std::move(started);
        world = ranks->World();
      }
    }
    if (status.ok()) {
      status = normlab::engine::Measure(settings, world.get(), folder);
    }
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}
