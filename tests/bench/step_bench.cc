// Times full training steps (forward, loss, backward, SGD with momentum 0.9) of reference networks
// and prints one JSON line: network, settings, median milliseconds per step after warm-up, examples
// per second.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
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

absl::Status AddConvolution(Graph& graph,
                            const std::string& name,
                            const std::string& norm,
                            const ConvNode& conv,
                            const std::string& input) {
  NORMLAB_RETURN_IF_ERROR(graph.Add(name, conv, {input}));
  return graph.Add(norm, BatchNormNode{});
}

// VGG-16 as for CIFAR: 13 convolutions, each with batch norm and ReLU, and one linear layer.
absl::StatusOr<Workload> Vgg16() {
  Graph graph({3, 32, 32});
  std::string last = kGraphInputName;
  int number = 0;
  int pools = 0;
  for (const auto& [channels, layers] :
       {std::pair<int64_t, int>{64, 2}, {128, 2}, {256, 3}, {512, 3}, {512, 3}}) {
    for (int i = 0; i < layers; ++i) {
      ++number;
      NORMLAB_RETURN_IF_ERROR(
          AddConvolution(graph, absl::StrCat("conv", number), absl::StrCat("bn", number),
                         ConvNode{.out_channels = channels, .bias = false}, last));
      last = absl::StrCat("act", number);
      NORMLAB_RETURN_IF_ERROR(graph.Add(last, ActivationNode{ActivationKind::kRelu}));
    }
    last = absl::StrCat("pool", ++pools);
    NORMLAB_RETURN_IF_ERROR(graph.Add(last, PoolNode{PoolKind::kMax, 2, 2}));
  }
  NORMLAB_RETURN_IF_ERROR(graph.Add("flatten", FlattenNode{}));
  NORMLAB_RETURN_IF_ERROR(graph.Add("fc", LinearNode{10, true}));
  NORMLAB_RETURN_IF_ERROR(graph.Add("loss", SoftmaxCrossEntropyNode{}));
  return Workload{std::move(graph), 128, 8};
}

// ResNet-20 of He et al. 2016 for CIFAR, with projection shortcuts.
absl::StatusOr<Workload> ResNet20() {
  constexpr int kBlocks = 3;  // of each width
  Graph graph({3, 32, 32});
  NORMLAB_RETURN_IF_ERROR(AddConvolution(
      graph, "conv1", "bn1", ConvNode{.out_channels = 16, .bias = false}, kGraphInputName));
  NORMLAB_RETURN_IF_ERROR(graph.Add("act1", ActivationNode{ActivationKind::kRelu}));
  std::string last = "act1";
  for (const int64_t channels : {int64_t{16}, int64_t{32}, int64_t{64}}) {
    for (int i = 0; i < kBlocks; ++i) {
      const std::string block = absl::StrCat("block", channels, "_", i);
      const auto named = [&block](const char* part) { return absl::StrCat(block, ".", part); };
      const int64_t stride = i == 0 && channels > 16 ? 2 : 1;
      NORMLAB_RETURN_IF_ERROR(
          AddConvolution(graph, named("conv1"), named("bn1"),
                         {.out_channels = channels, .stride = stride, .bias = false}, last));
      NORMLAB_RETURN_IF_ERROR(graph.Add(named("act1"), ActivationNode{ActivationKind::kRelu}));
      NORMLAB_RETURN_IF_ERROR(AddConvolution(graph, named("conv2"), named("bn2"),
                                             {.out_channels = channels, .bias = false},
                                             named("act1")));
      std::string shortcut = last;
      if (stride != 1) {
        shortcut = named("shortcut_bn");
        NORMLAB_RETURN_IF_ERROR(AddConvolution(
            graph, named("shortcut"), shortcut,
            {.out_channels = channels, .kernel = 1, .stride = stride, .padding = 0, .bias = false},
            last));
      }
      NORMLAB_RETURN_IF_ERROR(graph.Add(named("sum"), AddNode{}, {named("bn2"), shortcut}));
      last = named("act2");
      NORMLAB_RETURN_IF_ERROR(
          graph.Add(last, ActivationNode{ActivationKind::kRelu}, {named("sum")}));
    }
  }
  NORMLAB_RETURN_IF_ERROR(graph.Add("pool", PoolNode{PoolKind::kAverage, 8, 8}));
  NORMLAB_RETURN_IF_ERROR(graph.Add("flatten", FlattenNode{}));
  NORMLAB_RETURN_IF_ERROR(graph.Add("fc", LinearNode{10, true}));
  NORMLAB_RETURN_IF_ERROR(graph.Add("loss", SoftmaxCrossEntropyNode{}));
  return Workload{std::move(graph), 128, 12};
}

absl::StatusOr<Workload> MakeWorkload(const std::string& net) {
  if (net == "mlp3x100bn") {
    return Mlp(3, 100, ActivationKind::kSigmoid, 60, 1000);
  }
  if (net == "mlp50x512bn") {
    return Mlp(50, 512, ActivationKind::kRelu, 128, 20);
  }
  if (net == "vgg16bn") {
    return Vgg16();
  }
  if (net == "resnet20") {
    return ResNet20();
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

struct Settings {
  std::string net = "mlp3x100bn";
  std::string precision = "f32";
  std::string convolution = "auto";
  int threads = 2;
  int64_t batch = 0;
  int steps = 0;
  bool list = false;
};

const std::map<std::string, ConvolutionPolicy> kPolicies = {
    {"auto", ConvolutionPolicy::kAuto},
    {"direct", ConvolutionPolicy::kDirect},
    {"winograd", ConvolutionPolicy::kWinograd},
    {"measure", ConvolutionPolicy::kMeasure}};

// The largest memory that the process ever had, in MiB.
double PeakMemory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

// One training step; reports the loss so that nobody measures a net that computes nothing.
double Step(Network& network, Sgd& sgd, ModelState& model) {
  network.ParametersChanged();
  const double loss = network.Forward().loss;
  network.Backward();
  sgd.Step(kLearningRate, model.gradients.span(), model.parameters.span());
  return loss;
}

absl::Status Run(const Settings& settings) {
  using Clock = std::chrono::steady_clock;
  NORMLAB_ASSIGN_OR_RETURN(const Workload workload, MakeWorkload(settings.net));
  const int64_t batch = settings.batch > 0 ? settings.batch : workload.batch;
  NORMLAB_ASSIGN_OR_RETURN(const auto model, ModelState::Create(workload.graph));
  NORMLAB_ASSIGN_OR_RETURN(
      const auto network,
      Network::Plan(workload.graph, *model,
                    {.batch_size = batch,
                     .type = settings.precision == "bf16" ? DataType::kBf16 : DataType::kF32,
                     .convolution = kPolicies.at(settings.convolution),
                     .threads = settings.threads}));
  NORMLAB_ASSIGN_OR_RETURN(
      const auto sgd,
      Sgd::Create({.momentum = kMomentum}, {.floats = workload.graph.parameter_floats()}));
  FillRandomly(workload.graph, *model, *network);
  if (settings.list) {
    for (const ImplementationChoice& choice : network->implementations()) {
      std::printf("%-16s %-18s %s\n", choice.layer.c_str(), choice.pass.c_str(),
                  choice.implementation.c_str());
    }
  }

  const int steps = settings.steps > 0 ? settings.steps : workload.default_steps;
  const int warm_up = std::max(2, steps / 10);
  std::vector<double> seconds;
  seconds.reserve(static_cast<size_t>(steps));
  double loss = 0;
  for (int step = 0; step < warm_up + steps; ++step) {
    if (settings.list) {
      std::printf("step %d\n", step);  // between the lines of ONEDNN_VERBOSE=1
      std::fflush(stdout);
    }
    const Clock::time_point start = Clock::now();
    loss = Step(*network, *sgd, *model);
    if (step >= warm_up) {
      seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const nlohmann::ordered_json line = {
      {"framework", absl::StrCat("normlab, oneDNN ", OneDnnVersion())},
      {"isa", CpuIsaName()},
      {"net", settings.net},
      {"precision", settings.precision},
      {"convolution", settings.convolution},
      {"threads", settings.threads},
      {"batch", batch},
      {"step_ms", median * 1e3},
      {"fastest_ms", seconds.front() * 1e3},
      {"examples_per_s", static_cast<double>(batch) / median},
      {"peak_mib", PeakMemory()},
      {"last_loss", loss}};
  std::printf("%s\n", line.dump().c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace normlab::engine

int main(int argc, char** argv) {
  using normlab::engine::Settings;
  CLI::App app("Times one training step of a reference network");
  Settings settings;
  app.add_option("--net", settings.net,
                 "mlp3x100bn | mlp50x512bn | vgg16bn | resnet20 | cnn16x32bn")
      ->check(CLI::IsMember({"mlp3x100bn", "mlp50x512bn", "vgg16bn", "resnet20", "cnn16x32bn"}));
  app.add_option("--precision", settings.precision, "f32 | bf16")
      ->check(CLI::IsMember({"f32", "bf16"}));
  app.add_option("--convolution", settings.convolution, "auto | direct | winograd | measure")
      ->check(CLI::IsMember({"auto", "direct", "winograd", "measure"}));
  app.add_option("--threads", settings.threads, "OpenMP threads")->check(CLI::Range(1, 1024));
  app.add_option("--batch", settings.batch, "examples; 0: a default of the network")
      ->check(CLI::Range(0, 65536));
  app.add_option("--steps", settings.steps, "timed steps; 0: a default of the network");
  app.add_flag("--list", settings.list,
               "also print the implementation of every layer, and where steps begin");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = normlab::engine::Run(settings);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}
