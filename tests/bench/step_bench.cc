// Times full training steps (forward, loss, backward, SGD with momentum 0.9) of reference networks
// and prints one JSON line: network, settings, median milliseconds per step after warm-up, examples
// per second.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "common/random.h"
#include "common/status_macros.h"
#include "engine/dnnl/runtime.h"
#include "engine/graph/graph.h"
#include "engine/optim/sgd.h"
#include "engine/train/network.h"

#include "CLI/CLI.hpp"
#include "nlohmann/json.hpp"

namespace normlab::engine {
namespace {

constexpr double kLearningRate = 0.01;
constexpr double kMomentum = 0.9;

struct Workload {
  Graph graph;
  int64_t batch;
  int default_steps;
};

absl::StatusOr<Workload> Mlp(
    int depth, int64_t width, ActivationKind activation, int64_t batch, int default_steps) {
  Graph graph({1, 28, 28});
  NORMLAB_RETURN_IF_ERROR(graph.Add("flatten", FlattenNode{}));
  for (int i = 1; i <= depth; ++i) {
    NORMLAB_RETURN_IF_ERROR(graph.Add(absl::StrCat("fc", i), LinearNode{width, false}));
    NORMLAB_RETURN_IF_ERROR(graph.Add(absl::StrCat("bn", i), BatchNormNode{}));
    NORMLAB_RETURN_IF_ERROR(graph.Add(absl::StrCat("act", i), ActivationNode{activation}));
  }
  NORMLAB_RETURN_IF_ERROR(graph.Add("head", LinearNode{10, true}));
  NORMLAB_RETURN_IF_ERROR(graph.Add("loss", SoftmaxCrossEntropyNode{}));
  return Workload{std::move(graph), batch, default_steps};
}

absl::StatusOr<Workload> SmallCnn() {
  Graph graph({1, 28, 28});
  int i = 0;
  for (const int64_t channels : {int64_t{16}, int64_t{32}}) {
    ++i;
    NORMLAB_RETURN_IF_ERROR(graph.Add(
        absl::StrCat("conv", i),
        ConvNode{.out_channels = channels, .kernel = 3, .stride = 1, .padding = 1, .bias = false}));
    NORMLAB_RETURN_IF_ERROR(graph.Add(absl::StrCat("bn", i), BatchNormNode{}));
    NORMLAB_RETURN_IF_ERROR(
        graph.Add(absl::StrCat("act", i), ActivationNode{ActivationKind::kRelu}));
    NORMLAB_RETURN_IF_ERROR(graph.Add(absl::StrCat("pool", i), PoolNode{PoolKind::kMax, 2, 2}));
  }
  NORMLAB_RETURN_IF_ERROR(graph.Add("flatten", FlattenNode{}));
  NORMLAB_RETURN_IF_ERROR(graph.Add("head", LinearNode{10, true}));
  NORMLAB_RETURN_IF_ERROR(graph.Add("loss", SoftmaxCrossEntropyNode{}));
  return Workload{std::move(graph), 64, 200};
}

absl::StatusOr<Workload> MakeWorkload(const std::string& net) {
  if (net == "mlp3x100bn") {
    return Mlp(3, 100, ActivationKind::kSigmoid, 60, 1000);
  }
  if (net == "mlp50x512bn") {
    return Mlp(50, 512, ActivationKind::kRelu, 128, 20);
  }
  return SmallCnn();
}

void FillRandomly(const Graph& graph, ModelState& model, Network& network) {
  for (const ParameterSpec& spec : graph.parameters()) {
    const common::RandomStream stream(1, spec.name);
    for (int64_t i = 0; i < spec.count; ++i) {
      const auto index = static_cast<uint64_t>(i);
      float& value = model.parameters.data()[spec.offset + i];
      if (spec.role == ParameterRole::kGamma) {
        value = 1;
      } else if (spec.role == ParameterRole::kWeight) {
        value = static_cast<float>((2 * stream.Uniform(0, index) - 1) /
                                   std::sqrt(static_cast<double>(spec.fan_in)));
      }
    }
  }
  const common::RandomStream inputs(1, "inputs");
  const common::RandomStream labels(1, "labels");
  for (size_t i = 0; i < network.input().size(); ++i) {
    network.input()[i] = static_cast<float>(inputs.Normal(0, i));
  }
  for (size_t i = 0; i < network.labels().size(); ++i) {
    network.labels()[i] = static_cast<int32_t>(labels.Below(10, 0, i));
  }
  network.ParametersChanged();
}

absl::Status Run(const std::string& net, int threads, int steps, bool list) {
  using Clock = std::chrono::steady_clock;
  NORMLAB_ASSIGN_OR_RETURN(const Workload workload, MakeWorkload(net));
  NORMLAB_ASSIGN_OR_RETURN(const auto model, ModelState::Create(workload.graph));
  NORMLAB_ASSIGN_OR_RETURN(
      const auto network,
      Network::Plan(workload.graph, *model, {.batch_size = workload.batch, .threads = threads}));
  NORMLAB_ASSIGN_OR_RETURN(
      const auto sgd,
      Sgd::Create({.momentum = kMomentum}, {.floats = workload.graph.parameter_floats()}));
  FillRandomly(workload.graph, *model, *network);
  if (list) {
    for (const ImplementationChoice& choice : network->implementations()) {
      std::printf("%-10s %-18s %s\n", choice.layer.c_str(), choice.pass.c_str(),
                  choice.implementation.c_str());
    }
  }

  steps = steps > 0 ? steps : workload.default_steps;
  const int warm_up = std::max(2, steps / 10);
  std::vector<double> seconds;
  seconds.reserve(static_cast<size_t>(steps));
  for (int step = 0; step < warm_up + steps; ++step) {
    const Clock::time_point start = Clock::now();
    network->Forward();
    network->Backward();
    sgd->Step(kLearningRate, model->gradients.span(), model->parameters.span());
    network->ParametersChanged();
    if (step >= warm_up) {
      seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const nlohmann::ordered_json line = {
      {"framework", absl::StrCat("normlab, oneDNN ", OneDnnVersion())},
      {"net", net},
      {"threads", threads},
      {"batch", workload.batch},
      {"step_ms", median * 1e3},
      {"fastest_ms", seconds.front() * 1e3},
      {"examples_per_s", static_cast<double>(workload.batch) / median}};
  std::printf("%s\n", line.dump().c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace normlab::engine

int main(int argc, char** argv) {
  CLI::App app("Times one training step of a reference network");
  std::string net = "mlp3x100bn";
  int threads = 2;
  int steps = 0;
  bool list = false;
  app.add_option("--net", net, "mlp3x100bn | mlp50x512bn | cnn16x32bn")
      ->check(CLI::IsMember({"mlp3x100bn", "mlp50x512bn", "cnn16x32bn"}));
  app.add_option("--threads", threads, "OpenMP threads")->check(CLI::Range(1, 1024));
  app.add_option("--steps", steps, "timed steps; 0: a default of the network");
  app.add_flag("--list", list, "also print the implementation of every layer");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = normlab::engine::Run(net, threads, steps, list);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}
