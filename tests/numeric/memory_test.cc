// The estimate by which jobs are admitted, against the memory of the plans that they make: for every
// model with every normalizer.
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "engine/dnnl/runtime.h"
#include "engine/graph/plan_estimate.h"
#include "engine/models/build_graph.h"
#include "engine/models/testing.h"
#include "engine/train/network.h"

namespace normlab::engine {
namespace {

constexpr DatasetShape kGrey = {.channels = 1,
                                .height = 28,
                                .width = 28,
                                .classes = 10,
                                .train_examples = 200,
                                .test_examples = 100};

struct SizedModel {
  std::string model;
  DatasetShape shape;
  std::vector<int64_t> batches;
};

std::vector<SizedModel> Models() {
  using testing::kCifar;
  return {{"mlp {}", kGrey, {4, 60}},
          {"mlp { depth: 6 width: 256 skip_connections: true }", kGrey, {3, 100}},
          {"deep_linear {}", testing::kRegression, {100}},
          {"cnn { hidden: 30 }", kGrey, {3, 64}},
          {"vgg { depth: 11 width_multiplier: 0.25 }", kCifar, {3, 32}},
          {"vgg { depth: 13 width_multiplier: 0.2 activation: GELU }", kCifar, {7}},
          {"resnet {}", kCifar, {3, 24}},
          {"resnet { shortcut: ZERO_PAD width_multiplier: 0.7 activation: SELU }", kCifar, {9}},
          {"resnet { skip_connections: false }", kCifar, {9}}};
}

// Plans, and compares.
void Compare(const Graph& graph,
             ModelState& model,
             const DatasetShape& shape,
             NetworkOptions options,
             WinogradUse winograd) {
  options.classes = shape.targets == 0;
  const auto network = Network::Plan(graph, model, options);
  ASSERT_TRUE(network.ok()) << network.status();
  const PlanEstimate estimate = EstimatePlan(graph, {.batch = options.batch_size,
                                                     .training = options.mode == Mode::kTraining,
                                                     .bf16 = options.type == DataType::kBf16,
                                                     .winograd = winograd,
                                                     .threads = options.threads});
  const int64_t planned = (*network)->planned_bytes();
  EXPECT_LE(planned, estimate.activations + estimate.weights);
  // An estimate that is far too high would keep jobs from running. Without Winograd's kernels less
  // is needed than may be, and for a few examples and many threads oneDNN does without them.
  constexpr int64_t kFewExamples = 3;
  if (HasWinograd() && options.type == DataType::kF32 && options.batch_size > kFewExamples) {
    // Some copies in other orders, which one of the algorithms may want of every image.
    constexpr int64_t kForSmallNets = int64_t{3} << 20;
    EXPECT_LE(estimate.activations + estimate.weights, 2 * planned + kForSmallNets);
  }
}

void CompareAll(const NetworkOptions& variant, WinogradUse winograd, bool few_normalizers) {
  int compared = 0;
  for (const SizedModel& sized : Models()) {
    for (const std::string& kind : testing::NormalizerKinds()) {
      const bool residual = kind == "fixup" || kind == "skip_init";
      if (residual && sized.model != "resnet {}") {
        continue;
      }
      if (few_normalizers && kind != "none" && kind != "batch" && kind != "group") {
        continue;
      }
      for (const int64_t batch : sized.batches) {
        const std::string text = absl::StrCat("model { ", sized.model, " } normalization { ", kind,
                                              " {} } batch_size: ", batch);
        SCOPED_TRACE(text);
        if (kind == "ghost_batch" && batch > 32) {
          continue;  // does not divide it
        }
        const BuiltGraph built = BuildGraph(testing::Spec(text), sized.shape);
        ASSERT_TRUE(built.graph.has_value());
        const bool images = sized.shape.channels == 3 || sized.model.starts_with("cnn");
        if (kind == "instance" && (!images || sized.model.starts_with("cnn"))) {
          continue;  // refused: sets of one value
        }
        const auto model = ModelState::Create(*built.graph);
        ASSERT_TRUE(model.ok()) << model.status();
        for (const Mode mode : {Mode::kTraining, Mode::kEvaluation}) {
          SCOPED_TRACE(mode == Mode::kTraining ? "training" : "evaluation");
          NetworkOptions options = variant;
          options.batch_size = batch;
          options.mode = mode;
          Compare(*built.graph, **model, sized.shape, options, winograd);
          ++compared;
        }
      }
    }
  }
  EXPECT_GT(compared, few_normalizers ? 60 : 400);
}

TEST(MemoryTest, EveryModelWithEveryNormalizerFitsItsEstimate) {
  CompareAll({.threads = 2}, WinogradUse::kWide, /*few_normalizers=*/false);
}

TEST(MemoryTest, WithOneThreadAndWithFour) {
  for (const int threads : {1, 4}) {
    CompareAll({.threads = threads}, WinogradUse::kWide, /*few_normalizers=*/true);
  }
}

TEST(MemoryTest, WithEveryAlgorithm) {
  CompareAll({.convolution = ConvolutionPolicy::kDirect, .threads = 2}, WinogradUse::kNever,
             /*few_normalizers=*/true);
  CompareAll({.convolution = ConvolutionPolicy::kWinograd, .threads = 2}, WinogradUse::kAlways,
             /*few_normalizers=*/true);
}

// The plans of probes that look at the outputs of all layers keep every one of them.
TEST(MemoryTest, UnfusedPlansOfProbes) {
  int compared = 0;
  for (const SizedModel& sized : Models()) {
    for (const char* kind : {"none", "batch", "group", "weight_standardization"}) {
      for (const int64_t batch : sized.batches) {
        const std::string text = absl::StrCat("model { ", sized.model, " } normalization { ", kind,
                                              " {} } batch_size: ", batch);
        SCOPED_TRACE(text);
        const BuiltGraph built = BuildGraph(testing::Spec(text), sized.shape);
        ASSERT_TRUE(built.graph.has_value());
        const auto model = ModelState::Create(*built.graph);
        ASSERT_TRUE(model.ok()) << model.status();
        NetworkOptions options = {.batch_size = batch, .mode = Mode::kTraining, .threads = 2};
        options.unfused = true;
        options.classes = sized.shape.targets == 0;
        const auto network = Network::Plan(*built.graph, **model, options);
        ASSERT_TRUE(network.ok()) << network.status();
        MemoryInputs inputs = {.batch_size = batch, .last_batch_size = 0, .threads = 2};
        const MemoryEstimate without = EstimateMemory(*built.graph, inputs);
        inputs.probe_unfused = true;
        const MemoryEstimate with = EstimateMemory(*built.graph, inputs);
        const int64_t added =
            with.activations + with.parameters - without.activations - without.parameters;
        EXPECT_LE((*network)->planned_bytes(), added);
        EXPECT_LE(added, 4 * (*network)->planned_bytes() + (int64_t{8} << 20));
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 40);
}

TEST(MemoryTest, InBf16) {
  if (!HasBf16Kernels()) {
    GTEST_SKIP() << "no bf16 kernels here";
  }
  CompareAll({.type = DataType::kBf16, .threads = 2}, WinogradUse::kWide,
             /*few_normalizers=*/false);
}

}  // namespace
}  // namespace normlab::engine
