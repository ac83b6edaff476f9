// Whole networks in float against the double reference, central differences, and identities.
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "gtest/gtest.h"

#include "engine/layers/testing.h"
#include "engine/train/network.h"
#include "tests/numeric/reference_network.h"
#include "tests/numeric/test_networks.h"

namespace normlab::engine {
namespace {

using reference::Tensor;
using testing::RelativeError;

// Errors of single layers (1e-5) multiply through at most five weight layers and as many
// normalizers.
constexpr double kNetworkTolerance = 1e-4;

int64_t Classes(const Graph& graph) {
  return graph.nodes().back().in[0];
}

struct Trained {
  BatchResult result;
  Tensor logits;
  Tensor gradients;
  Tensor state;
};

std::unique_ptr<Network> PlanOrDie(const Graph& graph,
                                   ModelState& model,
                                   const NetworkOptions& options) {
  auto network = Network::Plan(graph, model, options);
  EXPECT_TRUE(network.ok()) << network.status();
  return network.ok() ? *std::move(network) : nullptr;
}

Trained TrainOnce(const TestNetwork& test, const NetworkOptions& options) {
  ModelState model(test.graph);
  Initialize(test.graph, model);
  const auto network = PlanOrDie(test.graph, model, options);
  FillBatch(0, Classes(test.graph), *network);
  Trained trained;
  trained.result = network->Forward();
  trained.logits = ToTensor(network->outputs());
  network->Backward();
  trained.gradients = ToTensor(model.gradients.span());
  trained.state = ToTensor(model.state.span());
  return trained;
}

TEST(NetworkNumericTest, TrainingMatchesReference) {
  for (const TestNetwork& test : TestNetworks()) {
    ModelState model(test.graph);
    Initialize(test.graph, model);
    const auto source = PlanOrDie(test.graph, model, {.batch_size = test.batch});
    FillBatch(0, Classes(test.graph), *source);
    const std::vector<int32_t> labels(source->labels().begin(), source->labels().end());
    const ReferenceResult expected =
        RunReference(test.graph, ToTensor(model.parameters.span()), ToTensor(model.state.span()),
                     ToTensor(source->input()), labels,
                     /*training=*/true);
    for (const bool unfused : {false, true}) {
      for (const int threads : {1, 2, 3}) {
        SCOPED_TRACE(::testing::Message()
                     << test.name << " unfused " << unfused << " threads " << threads);
        const Trained trained =
            TrainOnce(test, {.batch_size = test.batch, .unfused = unfused, .threads = threads});
        EXPECT_NEAR(trained.result.loss, expected.loss, kNetworkTolerance);
        EXPECT_EQ(trained.result.correct, expected.correct);
        EXPECT_LT(RelativeError(trained.logits, expected.logits), kNetworkTolerance);
        EXPECT_LT(RelativeError(trained.state, expected.state), kNetworkTolerance);
        for (const ParameterSpec& spec : test.graph.parameters()) {
          const auto slice = [&spec](const Tensor& arena) {
            return Tensor(arena.begin() + spec.offset, arena.begin() + spec.offset + spec.count);
          };
          // Against the whole gradient's largest element as well: gradients that cancel almost
          // wholly have no relative accuracy (tanh after a batch of 2 is such a case).
          const double largest =
              RelativeError(Tensor(expected.gradients.size(), 0.0), expected.gradients);
          ASSERT_EQ(largest, 1) << "the largest element of the reference, relative to itself";
          Tensor here = slice(trained.gradients);
          Tensor there = slice(expected.gradients);
          double peak = 0;
          for (const double v : expected.gradients) {
            peak = std::max(peak, std::abs(v));
          }
          here.push_back(0.1 * peak);
          there.push_back(0.1 * peak);
          EXPECT_LT(RelativeError(here, there), kNetworkTolerance) << spec.name;
        }
      }
    }
  }
}

TEST(NetworkNumericTest, EveryOutputOfAnUnfusedPlanMatchesReference) {
  for (const TestNetwork& test : TestNetworks()) {
    for (const Mode mode : {Mode::kTraining, Mode::kEvaluation}) {
      ModelState model(test.graph);
      Initialize(test.graph, model);
      const Tensor state = ToTensor(model.state.span());
      const auto network =
          PlanOrDie(test.graph, model,
                    {.batch_size = test.batch, .mode = mode, .unfused = true, .threads = 2});
      FillBatch(1, Classes(test.graph), *network);
      const BatchResult result = network->Forward();
      const std::vector<int32_t> labels(network->labels().begin(), network->labels().end());
      const ReferenceResult expected =
          RunReference(test.graph, ToTensor(model.parameters.span()), state,
                       ToTensor(network->input()), labels, mode == Mode::kTraining);
      EXPECT_NEAR(result.loss, expected.loss, kNetworkTolerance) << test.name;
      EXPECT_EQ(result.correct, expected.correct) << test.name;
      EXPECT_LT(RelativeError(ToTensor(model.state.span()), expected.state), kNetworkTolerance)
          << test.name;
      for (const auto& [name, values] : expected.outputs) {
        const auto output = network->ReadOutput(name);
        ASSERT_TRUE(output.ok()) << output.status();
        EXPECT_LT(RelativeError(ToTensor(*output), values), kNetworkTolerance)
            << test.name << " " << name;
      }
    }
  }
}

TEST(NetworkNumericTest, EvaluationLeavesStateAloneAndIsFusedLikeUnfused) {
  for (const TestNetwork& test : TestNetworks()) {
    ModelState model(test.graph);
    Initialize(test.graph, model);
    const Tensor state = ToTensor(model.state.span());
    Tensor logits[2];
    for (const bool unfused : {false, true}) {
      const auto network =
          PlanOrDie(test.graph, model,
                    {.batch_size = test.batch, .mode = Mode::kEvaluation, .unfused = unfused});
      FillBatch(2, Classes(test.graph), *network);
      network->Forward();
      logits[unfused ? 1 : 0] = ToTensor(network->outputs());
    }
    EXPECT_EQ(ToTensor(model.state.span()), state) << test.name;
    EXPECT_LT(RelativeError(logits[0], logits[1]), testing::kFloatTolerance) << test.name;
  }
}

TEST(NetworkNumericTest, GradientIsTheCentralDifferenceOfTheFloatNetwork) {
  // Rounding of the loss (1e-6, through some layers) over the step, and the third derivative times
  // the step squared.
  constexpr double kStep = 3e-3;
  constexpr double kTolerance = 1e-2;
  for (const TestNetwork& test : TestNetworks()) {
    bool has_kinks = !test.gradient_is_derivative;
    for (const Node& node : test.graph.nodes()) {
      const auto* activation = std::get_if<ActivationNode>(&node.kind);
      const auto* pool = std::get_if<PoolNode>(&node.kind);
      has_kinks |= activation != nullptr && activation->kind == ActivationKind::kRelu;
      has_kinks |= pool != nullptr && pool->kind == PoolKind::kMax;
      has_kinks |= std::holds_alternative<LpBatchNormNode>(node.kind) ||
                   std::holds_alternative<FilterResponseNode>(node.kind);
    }
    if (has_kinks || test.batch == 2) {
      continue;  // there the difference is no derivative; these networks are checked against the
                 // reference above
    }
    ModelState model(test.graph);
    Initialize(test.graph, model);
    const auto network = PlanOrDie(test.graph, model, {.batch_size = test.batch, .threads = 1});
    FillBatch(0, Classes(test.graph), *network);
    network->Forward();
    network->Backward();
    const Tensor gradient = ToTensor(model.gradients.span());
    const Tensor start = ToTensor(model.parameters.span());
    double norm = 0;
    for (const double g : gradient) {
      norm += g * g;
    }
    norm = std::sqrt(norm);
    // Along the gradient the directional derivative is its norm.
    double losses[2];
    for (const int side : {0, 1}) {
      for (size_t i = 0; i < start.size(); ++i) {
        const double moved = start[i] + (side == 0 ? -1 : 1) * kStep * gradient[i] / norm;
        model.parameters.data()[i] = static_cast<float>(moved);
      }
      network->ParametersChanged();
      losses[side] = network->Forward().loss;
    }
    EXPECT_NEAR((losses[1] - losses[0]) / (2 * kStep) / norm, 1, kTolerance) << test.name;
  }
}

TEST(NetworkNumericTest, ReferenceGradientIsItsCentralDifference) {
  constexpr double kStep = 1e-5;
  constexpr double kTolerance = 1e-6;
  for (const TestNetwork& test : TestNetworks()) {
    if (!test.gradient_is_derivative) {
      continue;
    }
    ModelState model(test.graph);
    Initialize(test.graph, model);
    const auto network = PlanOrDie(test.graph, model, {.batch_size = test.batch});
    FillBatch(0, Classes(test.graph), *network);
    const std::vector<int32_t> labels(network->labels().begin(), network->labels().end());
    const Tensor input = ToTensor(network->input());
    const Tensor state = ToTensor(model.state.span());
    const Tensor start = ToTensor(model.parameters.span());
    const Tensor gradient = RunReference(test.graph, start, state, input, labels, true).gradients;
    const Tensor direction = testing::Random("direction", static_cast<int64_t>(start.size()));
    double expected = 0;
    Tensor up = start;
    Tensor down = start;
    for (const ParameterSpec& spec : test.graph.parameters()) {
      for (int64_t i = spec.offset; i < spec.offset + spec.count; ++i) {
        const auto at = static_cast<size_t>(i);
        expected += gradient[at] * direction[at];
        up[at] += kStep * direction[at] * 0.1;
        down[at] -= kStep * direction[at] * 0.1;
      }
    }
    const double difference = RunReference(test.graph, up, state, input, labels, true).loss -
                              RunReference(test.graph, down, state, input, labels, true).loss;
    EXPECT_NEAR(difference / (2 * kStep * 0.1), expected,
                kTolerance * std::max(1.0, std::abs(expected)))
        << test.name;
  }
}

TEST(NetworkNumericTest, SameThreadsSameBits) {
  for (const TestNetwork& test : TestNetworks()) {
    for (const int threads : {1, 2}) {
      const NetworkOptions options = {.batch_size = test.batch, .threads = threads};
      const Trained first = TrainOnce(test, options);
      for (int repeat = 0; repeat < 3; ++repeat) {
        const Trained again = TrainOnce(test, options);
        EXPECT_EQ(std::memcmp(&again.result.loss, &first.result.loss, sizeof(double)), 0)
            << test.name;
        EXPECT_EQ(again.logits, first.logits) << test.name;
        EXPECT_EQ(again.gradients, first.gradients) << test.name;
        EXPECT_EQ(again.state, first.state) << test.name;
      }
    }
  }
}

TEST(NetworkNumericTest, SharingMemoryChangesNoBit) {
  for (const TestNetwork& test : TestNetworks()) {
    for (const int threads : {1, 2}) {
      const NetworkOptions shared = {.batch_size = test.batch, .threads = threads};
      NetworkOptions apart = shared;
      apart.share_memory = false;
      const Trained a = TrainOnce(test, shared);
      const Trained b = TrainOnce(test, apart);
      EXPECT_EQ(std::memcmp(&a.result.loss, &b.result.loss, sizeof(double)), 0) << test.name;
      EXPECT_EQ(a.logits, b.logits) << test.name;
      EXPECT_EQ(a.gradients, b.gradients) << test.name;
      EXPECT_EQ(a.state, b.state) << test.name;
      ModelState model(test.graph);
      EXPECT_LE(PlanOrDie(test.graph, model, shared)->planned_bytes(),
                PlanOrDie(test.graph, model, apart)->planned_bytes())
          << test.name;
    }
  }
}

TEST(NetworkNumericTest, RealValuedTargets) {
  for (const bool mean : {true, false}) {
    Graph graph({7});
    ASSERT_TRUE(graph.Add("fc1", LinearNode{9, false}).ok());
    ASSERT_TRUE(graph.Add("bn1", BatchNormNode{}).ok());
    ASSERT_TRUE(graph.Add("head", LinearNode{3, true}).ok());
    ASSERT_TRUE(graph.Add("loss", SquaredErrorNode{.mean = mean}).ok());
    ModelState model(graph);
    Initialize(graph, model);
    const auto network = PlanOrDie(graph, model, {.batch_size = 5, .classes = false});
    ASSERT_EQ(network->targets().size(), 15u);
    EXPECT_TRUE(network->labels().empty());
    FillBatch(0, 3, *network);
    const Tensor targets = testing::Random("targets", 15);
    std::copy(targets.begin(), targets.end(), network->targets().begin());
    const ReferenceResult expected =
        RunReference(graph, ToTensor(model.parameters.span()), ToTensor(model.state.span()),
                     ToTensor(network->input()), {}, /*training=*/true, targets);
    const BatchResult result = network->Forward();
    EXPECT_NEAR(result.loss, expected.loss, kNetworkTolerance * expected.loss);
    EXPECT_EQ(result.correct, 0);
    network->Backward();
    EXPECT_LT(RelativeError(ToTensor(model.gradients.span()), expected.gradients),
              kNetworkTolerance);
  }
}

TEST(NetworkNumericTest, WeightsBeforeANormalizerAreOrthogonalToTheirGradient) {
  // Scale invariance (van Laarhoven 2017), up to epsilon and rounding.
  constexpr double kTolerance = 1e-3;
  for (const TestNetwork& test : TestNetworks()) {
    ModelState model(test.graph);
    Initialize(test.graph, model);
    const auto network = PlanOrDie(test.graph, model, {.batch_size = test.batch});
    FillBatch(0, Classes(test.graph), *network);
    network->Forward();
    network->Backward();
    if (test.batch == 2) {
      continue;  // the gradient itself vanishes
    }
    for (size_t n = 0; n + 1 < test.graph.nodes().size(); ++n) {
      const Node& next = test.graph.nodes()[n + 1];
      if (!std::holds_alternative<BatchNormNode>(next.kind) ||
          next.inputs[0] != static_cast<int>(n) || test.graph.UseCounts()[n] != 1) {
        continue;  // whoever else reads the layer sees its scale
      }
      for (const ParameterSpec& spec : test.graph.parameters()) {
        if (spec.name != test.graph.nodes()[n].name + ".weight" ||
            spec.role != ParameterRole::kWeight) {
          continue;
        }
        double dot = 0, ww = 0, gg = 0;
        for (int64_t i = spec.offset; i < spec.offset + spec.count; ++i) {
          const double w = model.parameters.data()[i];
          const double g = model.gradients.data()[i];
          dot += w * g;
          ww += w * w;
          gg += g * g;
        }
        EXPECT_LT(std::abs(dot) / std::sqrt(ww * gg), kTolerance) << test.name << " " << spec.name;
        EXPECT_GT(gg, 0) << test.name << " " << spec.name;
      }
    }
  }
}

// conv/linear + batch norm in evaluation equals one layer with w' = w gamma/s and b' = beta - mean
// gamma/s.
void ExpectFoldingChangesRoundingOnly(const Dims& input,
                                      const NodeKind& plain,
                                      const NodeKind& with_bias) {
  const auto build = [&input](const NodeKind& kind, bool norm) {
    Graph graph(input);
    EXPECT_TRUE(graph.Add("layer", kind).ok());
    if (norm) {
      EXPECT_TRUE(graph.Add("bn", BatchNormNode{.epsilon = 1e-3}).ok());
    }
    EXPECT_TRUE(graph.Add("flatten", FlattenNode{}).ok());
    EXPECT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());
    return graph;
  };
  const Graph separate = build(plain, true);
  const Graph folded = build(with_bias, false);
  ModelState separate_model(separate);
  ModelState folded_model(folded);
  Initialize(separate, separate_model);
  const float* p = separate_model.parameters.data();
  const float* s = separate_model.state.data();
  const auto& specs = separate.parameters();  // weight, gamma, beta
  const int64_t channels = specs[1].count;
  const int64_t filter = specs[0].count / channels;
  for (int64_t c = 0; c < channels; ++c) {
    const double scale = p[specs[1].offset + c] /
                         std::sqrt(static_cast<double>(s[separate.state()[1].offset + c]) + 1e-3);
    for (int64_t i = c * filter; i < (c + 1) * filter; ++i) {
      folded_model.parameters.data()[folded.parameters()[0].offset + i] =
          static_cast<float>(p[specs[0].offset + i] * scale);
    }
    folded_model.parameters.data()[folded.parameters()[1].offset + c] =
        static_cast<float>(p[specs[2].offset + c] - s[separate.state()[0].offset + c] * scale);
  }
  const NetworkOptions options = {.batch_size = 5, .mode = Mode::kEvaluation};
  const auto network = PlanOrDie(separate, separate_model, options);
  const auto folded_network = PlanOrDie(folded, folded_model, options);
  FillBatch(0, 2, *network);
  FillBatch(0, 2, *folded_network);
  network->Forward();
  folded_network->Forward();
  EXPECT_LT(RelativeError(ToTensor(folded_network->outputs()), ToTensor(network->outputs())),
            testing::kFloatTolerance);
}

TEST(NetworkNumericTest, FoldingBatchNormChangesInferenceByRoundingOnly) {
  ExpectFoldingChangesRoundingOnly({13}, LinearNode{19, false}, LinearNode{19, true});
  ExpectFoldingChangesRoundingOnly({40}, LinearNode{256, false}, LinearNode{256, true});
  ConvNode conv = {.out_channels = 16, .kernel = 3, .stride = 2, .padding = 1, .bias = false};
  ConvNode with_bias = conv;
  with_bias.bias = true;
  ExpectFoldingChangesRoundingOnly({3, 7, 10}, conv, with_bias);
}

}  // namespace
}  // namespace normlab::engine
