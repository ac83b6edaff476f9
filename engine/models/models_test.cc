#include <string>
#include <variant>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/models/build_graph.h"
#include "engine/models/job_check.h"
#include "engine/models/testing.h"
#include "engine/spec/resolve.h"
#include "engine/spec/validate.h"

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using testing::Names;
using testing::ParameterNames;
using testing::Spec;

constexpr DatasetShape kShape = testing::kImages;

TEST(BuildGraphTest, MlpWithBatchNormHasNoBiasButTheHeads) {
  const BuiltGraph built = BuildGraph(
      Spec("model { mlp { hidden: [11, 3] activation: SIGMOID } } normalization { batch {} }"),
      kShape);
  ASSERT_TRUE(built.graph.has_value());
  EXPECT_THAT(Names(*built.graph),
              ElementsAre("flatten", "fc1", "bn1", "act1", "fc2", "bn2", "act2", "head", "loss"));
  EXPECT_THAT(ParameterNames(*built.graph),
              ElementsAre("fc1.weight", "bn1.weight", "bn1.bias", "fc2.weight", "bn2.weight",
                          "bn2.bias", "head.weight", "head.bias"));
  EXPECT_EQ(built.graph->parameter_count(), 126 * 11 + 22 + 11 * 3 + 6 + 3 * 5 + 5);
}

TEST(BuildGraphTest, WithoutNormalizerEveryLayerHasABias) {
  const BuiltGraph built = BuildGraph(Spec("model { mlp { hidden: [4] } }"), kShape);
  ASSERT_TRUE(built.graph.has_value());
  EXPECT_THAT(ParameterNames(*built.graph),
              ElementsAre("fc1.weight", "fc1.bias", "head.weight", "head.bias"));
}

TEST(BuildGraphTest, BatchNormWithoutAffineLeavesNoBiasEither) {
  const BuiltGraph built = BuildGraph(
      Spec("model { mlp { hidden: [4] } } normalization { batch { affine: false } }"), kShape);
  ASSERT_TRUE(built.graph.has_value());
  EXPECT_THAT(ParameterNames(*built.graph), ElementsAre("fc1.weight", "head.weight", "head.bias"));
}

TEST(BuildGraphTest, CnnNumbersItsLayersAndIdentityAddsNone) {
  BuiltGraph built = BuildGraph(Spec(R"(
      model { cnn { blocks { channels: 3 pooling { kind: AVERAGE window: 3 stride: 2 } }
                    blocks { channels: 6 kernel: 2 stride: 2 padding: 0 } hidden: 8 } }
      normalization { batch { epsilon: 0.5 running_update_rate: 0.25 } })"),
                                kShape);
  ASSERT_TRUE(built.graph.has_value());
  EXPECT_THAT(Names(*built.graph),
              ElementsAre("conv1", "bn1", "act1", "pool1", "conv2", "bn2", "act2", "flatten", "fc1",
                          "bn3", "act3", "head", "loss"));
  const auto& bn = std::get<BatchNormNode>(built.graph->nodes()[1].kind);
  EXPECT_EQ(bn.epsilon, 0.5);
  EXPECT_EQ(bn.running_update_rate, 0.25);
  // 9x7 -> (3x3, padding 1) 9x7 -> (3, stride 2) 4x3 -> (2, stride 2) 2x1
  EXPECT_THAT(built.graph->nodes()[4].out, ElementsAre(6, 2, 1));

  built = BuildGraph(Spec("model { cnn { activation: IDENTITY blocks { channels: 3 } } }"), kShape);
  ASSERT_TRUE(built.graph.has_value());
  EXPECT_THAT(Names(*built.graph), ElementsAre("conv1", "flatten", "head", "loss"));
}

TEST(BuildGraphTest, KernelLargerThanTheImageNamesFieldLayerAndShapes) {
  const BuiltGraph built = BuildGraph(Spec(R"(
      model { cnn { blocks { channels: 3 stride: 4 } blocks { channels: 4 kernel: 9 padding: 1 } } })"),
                                      kShape);
  EXPECT_FALSE(built.graph.has_value());
  ASSERT_THAT(built.violations, SizeIs(1));
  EXPECT_EQ(built.violations[0].field, "model.cnn.blocks[1].kernel");
  EXPECT_THAT(built.violations[0].description,
              AllOf(HasSubstr("conv2"), HasSubstr("3x3x2"), HasSubstr("smaller kernel")));
}

TEST(BuildGraphTest, PoolingBelowOnePixelNamesTheWindow) {
  const BuiltGraph built =
      BuildGraph(Spec("model { cnn { blocks { channels: 3 pooling { window: 8 } } } }"), kShape);
  ASSERT_THAT(built.violations, SizeIs(1));
  EXPECT_EQ(built.violations[0].field, "model.cnn.blocks[0].pooling.window");
  EXPECT_THAT(built.violations[0].description, HasSubstr("pool1"));
}

TEST(JobCheckTest, DefaultSpecsPass) {
  for (const char* model : {"model { mlp {} }", "model { cnn {} }"}) {
    for (const char* norm : {"", "normalization { batch {} }"}) {
      const JobCheck check = CheckJob(Spec(std::string(model) + norm), kShape);
      EXPECT_THAT(check.violations, IsEmpty());
      EXPECT_THAT(check.warnings, IsEmpty());
      EXPECT_TRUE(check.graph.has_value());
      EXPECT_GT(check.memory.total(), 0);
    }
  }
}

TEST(JobCheckTest, KeptLastBatchOfOneUnderDenseBatchNormIsRefusedWithNumbers) {
  const std::string text =
      "model { mlp {} } normalization { batch {} } data { last_batch: KEEP } batch_size: 10";
  JobCheck check = CheckJob(Spec(text), kShape);  // 101 = 10*10 + 1
  ASSERT_THAT(check.violations, SizeIs(1));
  EXPECT_EQ(check.violations[0].field, "data.last_batch");
  EXPECT_THAT(check.violations[0].description,
              AllOf(HasSubstr("101"), HasSubstr("bn1"), HasSubstr("DROP")));
  EXPECT_FALSE(check.graph.has_value());
  // Without the normalizer, or over images, one example is enough.
  EXPECT_THAT(CheckJob(Spec("model { mlp {} } data { last_batch: KEEP } batch_size: 10"), kShape)
                  .violations,
              IsEmpty());
  EXPECT_THAT(CheckJob(Spec("model { cnn {} } normalization { batch {} }"
                            "data { last_batch: KEEP } batch_size: 10"),
                       kShape)
                  .violations,
              IsEmpty());
}

TEST(JobCheckTest, SetsOfOneAreRefusedAndSetsOfTwoAreWarnedOf) {
  JobCheck check =
      CheckJob(Spec("model { mlp {} } normalization { batch {} } batch_size: 1"), kShape);
  ASSERT_THAT(check.violations, SizeIs(1));
  EXPECT_EQ(check.violations[0].field, "batch_size");
  check = CheckJob(Spec("model { mlp {} } normalization { batch {} } batch_size: 2"), kShape);
  EXPECT_THAT(check.violations, IsEmpty());
  EXPECT_THAT(check.warnings, ElementsAre(HasSubstr("bn1")));
  // A convolution down to 1x1 is as degenerate as a dense layer.
  check = CheckJob(Spec("model { cnn { blocks { channels: 3 kernel: 9 stride: 9 padding: 1 } } }"
                        "normalization { batch {} } batch_size: 1"),
                   kShape);
  EXPECT_THAT(check.violations, SizeIs(1));
}

TEST(JobCheckTest, DataAndNetworkViolationsComeTogether) {
  const JobCheck check =
      CheckJob(Spec("model { cnn { blocks { channels: 3 kernel: 20 padding: 0 } } } batch_size: 500"
                    " data { train_limit: 1000 }"),
               kShape);
  ASSERT_THAT(check.violations, SizeIs(3));
  EXPECT_EQ(check.violations[0].field, "data.train_limit");
  EXPECT_EQ(check.violations[1].field, "batch_size");
  EXPECT_EQ(check.violations[2].field, "model.cnn.blocks[0].kernel");
}

// 101 training and 23 test examples.
TEST(EstimateJobMemoryTest, CountsThePlansThatThereWillBeAndNoOthers) {
  const auto activations = [](const std::string& text) {
    const v1::JobSpec spec = Spec("model { mlp { hidden: [64] } } " + text);
    return EstimateJobMemory(spec, *BuildGraph(spec, kShape).graph, kShape).activations;
  };
  const std::string keep = "data { last_batch: KEEP } ";
  // A smaller last batch only when it is kept, and as large as it is.
  EXPECT_GT(activations(keep + "batch_size: 40"), activations("batch_size: 40"));
  EXPECT_LT(activations(keep + "batch_size: 40"), 2 * activations("batch_size: 40"));
  EXPECT_EQ(activations(keep + "batch_size: 101"), activations("batch_size: 101"));
  // A batch that is never full is not planned for.
  EXPECT_EQ(activations(keep + "batch_size: 5000"), activations("batch_size: 101"));
  // 23 = 2 * 11 + 1
  EXPECT_GT(activations("evaluation { batch_size: 11 }"),
            activations("evaluation { batch_size: 11 } data { test_limit: 22 }"));
}

TEST(EstimateJobMemoryTest, KnowsPrecisionAndAlgorithmOfTheJob) {
  const auto activations = [](const std::string& text) {
    const v1::JobSpec spec =
        Spec("model { resnet { width_multiplier: 2 } } batch_size: 100 " + text);
    return EstimateJobMemory(spec, *BuildGraph(spec, kShape).graph, kShape).activations;
  };
  EXPECT_LT(activations("convolution_algorithm: DIRECT"), activations(""));
  EXPECT_GT(activations("convolution_algorithm: WINOGRAD"), activations(""));
  EXPECT_EQ(activations("convolution_algorithm: MEASURE"),
            activations("convolution_algorithm: WINOGRAD"));
  EXPECT_LT(activations("precision: BF16 convolution_algorithm: DIRECT"),
            activations("convolution_algorithm: DIRECT"));
}

TEST(EstimateJobMemoryTest, GrowsWithBatchMomentumAndDataAndStaysPositiveAtTheLimits) {
  const auto estimate = [](const std::string& text, const DatasetShape& shape = kShape) {
    const v1::JobSpec spec = Spec("model { mlp { hidden: [64] } } " + text);
    return EstimateJobMemory(spec, *BuildGraph(spec, shape).graph, shape);
  };
  const auto total = [&estimate](const std::string& text) { return estimate(text).total(); };
  EXPECT_GT(total("batch_size: 100"), total("batch_size: 10"));
  EXPECT_GT(total("optimizer { sgd { momentum: 0.9 } }"), total(""));
  DatasetShape larger = kShape;
  larger.train_examples += 1000000;
  // One byte a pixel, and four of the label.
  EXPECT_EQ(estimate("", larger).data - estimate("").data, 130 * 1000000);

  // Of the whole, too: a reservation without it would be too small.
  EXPECT_EQ(estimate("", larger).total() - estimate("").total(), 130 * 1000000);

  v1::JobSpec absurd =
      Spec("model { cnn {} } batch_size: 131072 evaluation { batch_size: 131072 }");
  v1::Cnn& cnn = *absurd.mutable_model()->mutable_cnn();
  cnn.clear_blocks();
  for (int i = 0; i < 20; ++i) {
    v1::ConvolutionBlock& block = *cnn.add_blocks();
    block.set_channels(4096);
    block.set_kernel(32);
    block.set_padding(31);
  }
  cnn.add_hidden(8);
  EXPECT_THAT(Validate(absurd), IsEmpty());
  absurd = Resolve(absurd);
  larger.test_examples += 1000000;
  const BuiltGraph built = BuildGraph(absurd, larger);
  ASSERT_TRUE(built.graph.has_value());
  EXPECT_GT(built.graph->multiply_adds(), int64_t{1} << 50);
  EXPECT_GT(EstimateJobMemory(absurd, *built.graph, larger).total(), int64_t{1} << 50);
}

}  // namespace
}  // namespace normlab::engine
