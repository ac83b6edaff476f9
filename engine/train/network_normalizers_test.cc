// Every normalizer inside whole networks: plans that share memory and fuse activations compute what
// plain ones do, and the nets learn.
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/random.h"
#include "engine/train/network.h"

namespace normlab::engine {
namespace {

constexpr int64_t kBatch = 12;
constexpr int64_t kClasses = 3;

struct Case {
  std::string name;
  NodeKind node;
  WeightOptions weights;
};

std::vector<Case> Cases() {
  return {
      {"batch", BatchNormNode{}, {}},
      {"noisy batch", NoisyBatchNormNode{}, {}},
      {"noise alone", NoisyBatchNormNode{.normalize = false}, {}},
      {"layer", GroupNormNode{}, {}},
      {"group", GroupNormNode{.groups = 4}, {}},
      {"rms", RmsNormNode{}, {}},
      {"batch renorm", BatchRenormNode{}, {}},
      {"ghost batch", GhostBatchNormNode{.size = 4}, {}},
      {"l1 batch", LpBatchNormNode{LpBatchNormNode::Power::kOne}, {}},
      {"l2 batch", LpBatchNormNode{LpBatchNormNode::Power::kTwo}, {}},
      {"linf batch", LpBatchNormNode{LpBatchNormNode::Power::kInfinity}, {}},
      {"filter response", FilterResponseNode{}, {}},
      {"dynamic tanh", DynamicTanhNode{}, {}},
      {"mean-only batch", MeanOnlyBatchNormNode{}, {}},
      {"frozen batch", FrozenBatchNormNode{}, {}},
      {"weight",
       MeanOnlyBatchNormNode{},
       {.transform = WeightTransform::kWeightNorm, .data_dependent_init = true}},
      {"weight standardization",
       GroupNormNode{.groups = 4},
       {.transform = WeightTransform::kStandardization}},
  };
}

// Two convolutions and a dense layer, each with the normalizer; a residual edge, so that a
// normalizer's output has two readers. Channels fill no block.
Graph Net(const Case& c) {
  Graph graph({3, 9, 7});
  const ConvNode conv = {.out_channels = 20, .bias = false, .weights = c.weights};
  EXPECT_TRUE(graph.Add("conv1", conv).ok());
  EXPECT_TRUE(graph.Add("norm1", c.node).ok());
  EXPECT_TRUE(graph.Add("conv2", conv).ok());
  EXPECT_TRUE(graph.Add("norm2", c.node).ok());
  EXPECT_TRUE(graph.Add("act2", ActivationNode{ActivationKind::kRelu}).ok());
  EXPECT_TRUE(graph.Add("sum", AddNode{}, {"act2", "norm1"}).ok());
  EXPECT_TRUE(graph.Add("pool", PoolNode{PoolKind::kAverage, 2, 2}).ok());
  EXPECT_TRUE(graph.Add("flatten", FlattenNode{}).ok());
  EXPECT_TRUE(graph.Add("fc3", LinearNode{.out = 36, .bias = false, .weights = c.weights}).ok());
  EXPECT_TRUE(graph.Add("norm3", c.node).ok());
  EXPECT_TRUE(graph.Add("act3", ActivationNode{ActivationKind::kRelu}).ok());
  EXPECT_TRUE(graph.Add("head", LinearNode{.out = kClasses}).ok());
  EXPECT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());
  return graph;
}

// What a run leaves.
struct Outcome {
  std::vector<double> losses;
  std::vector<float> first_gradient, state;
};

void Initialize(const Graph& graph, ModelState& model) {
  const common::RandomStream stream(1, "weights");
  for (const ParameterSpec& spec : graph.parameters()) {
    const double size =
        spec.role == ParameterRole::kWeight ? std::sqrt(2.0 / static_cast<double>(spec.fan_in)) : 0;
    for (int64_t i = spec.offset; i < spec.offset + spec.count; ++i) {
      model.parameters.data()[i] =
          spec.role == ParameterRole::kWeight
              ? static_cast<float>(size * stream.Normal(0, static_cast<uint64_t>(i)))
              : spec.constant.value_or(0.0F);
    }
  }
}

// The same batch at every step: the label says which third of the input is raised.
void FillBatch(Network& network) {
  const common::RandomStream stream(1, "inputs");
  const size_t features = network.input().size() / kBatch;
  for (size_t n = 0; n < kBatch; ++n) {
    network.labels()[n] = static_cast<int32_t>(n % kClasses);
    for (size_t i = 0; i < features; ++i) {
      const bool raised = i * kClasses / features == n % kClasses;
      network.input()[n * features + i] =
          static_cast<float>(stream.Normal(0, n * features + i) + (raised ? 1.0 : 0.0));
    }
  }
}

Outcome Train(const Case& c, int steps, NetworkOptions options) {
  Outcome run;
  const Graph graph = Net(c);
  ModelState model(graph);
  Initialize(graph, model);
  options.batch_size = kBatch;
  options.threads = 2;
  options.seed = 5;
  auto network = Network::Plan(graph, model, options);
  EXPECT_TRUE(network.ok()) << network.status();
  if (!network.ok()) {
    return run;
  }
  FillBatch(**network);
  for (int step = 0; step < steps; ++step) {
    (*network)->SetStep(step);
    const BatchResult result =
        step == 0 ? (*network)->ForwardInitializing({}) : (*network)->Forward();
    run.losses.push_back(result.loss);
    (*network)->Backward();
    const auto count = static_cast<size_t>(graph.parameter_floats());
    if (step == 0) {
      run.first_gradient.assign(model.gradients.data(), model.gradients.data() + count);
    }
    for (size_t i = 0; i < count; ++i) {
      model.parameters.data()[i] -= 0.05F * model.gradients.data()[i];
    }
    (*network)->ParametersChanged();
  }
  run.state.assign(model.state.data(), model.state.data() + graph.state_floats());
  return run;
}

TEST(NetworkNormalizersTest, SharedMemoryChangesNoBit) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const Outcome shared = Train(c, 3, {});
    const Outcome apart = Train(c, 3, {.share_memory = false});
    EXPECT_EQ(shared.losses, apart.losses);
    EXPECT_EQ(shared.first_gradient, apart.first_gradient);
    EXPECT_EQ(shared.state, apart.state);
  }
}

TEST(NetworkNormalizersTest, FusedEqualsUnfused) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const Outcome fused = Train(c, 1, {});
    const Outcome unfused = Train(c, 1, {.unfused = true});
    // Float sums in another order, through three normalizers.
    EXPECT_NEAR(fused.losses[0], unfused.losses[0], 1e-5 * unfused.losses[0]);
    double difference = 0, size = 0;
    for (size_t i = 0; i < fused.first_gradient.size(); ++i) {
      const double a = fused.first_gradient[i], b = unfused.first_gradient[i];
      difference += (a - b) * (a - b);
      size += b * b;
    }
    EXPECT_LT(std::sqrt(difference), 1e-4 * std::sqrt(size));
    EXPECT_GT(size, 0);
  }
}

TEST(NetworkNormalizersTest, EveryNormalizerLearns) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const Outcome run = Train(c, 15, {});
    for (const double loss : run.losses) {
      ASSERT_TRUE(std::isfinite(loss));
    }
    // Filter response norm of the dense layer leaves little more than signs, and learns slowest.
    EXPECT_LT(run.losses.back(), 0.85 * run.losses.front());
  }
}

}  // namespace
}  // namespace normlab::engine
