#include "engine/graph/graph.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(GraphTest, InfersShapesOfAConvolutionalNet) {
  Graph graph({3, 11, 7});
  ASSERT_TRUE(
      graph
          .Add("conv1",
               ConvNode{.out_channels = 5, .kernel = 3, .stride = 2, .padding = 1, .bias = false})
          .ok());
  ASSERT_TRUE(graph.Add("bn1", BatchNormNode{}).ok());
  ASSERT_TRUE(graph.Add("act1", ActivationNode{ActivationKind::kRelu}).ok());
  ASSERT_TRUE(graph.Add("pool1", PoolNode{PoolKind::kMax, 2, 3}).ok());
  ASSERT_TRUE(graph.Add("flatten", FlattenNode{}).ok());
  ASSERT_TRUE(graph.Add("head", LinearNode{4, true}).ok());
  ASSERT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());

  const auto& nodes = graph.nodes();
  EXPECT_THAT(nodes[0].out, ElementsAre(5, 6, 4));
  EXPECT_THAT(nodes[3].out, ElementsAre(5, 2, 1));
  EXPECT_THAT(nodes[4].out, ElementsAre(10));
  EXPECT_THAT(nodes[5].in, ElementsAre(10));
  EXPECT_TRUE(nodes[6].out.empty());
  EXPECT_EQ(graph.parameter_count(), 5 * 3 * 9 + 5 + 5 + 4 * 10 + 4);
  EXPECT_EQ(graph.multiply_adds(), 5 * 6 * 4 * 3 * 9 + 10 * 4);
}

TEST(GraphTest, ParametersHavePyTorchNamesFansAndAlignedOffsets) {
  Graph graph({2, 6, 5});
  ASSERT_TRUE(
      graph
          .Add("conv1",
               ConvNode{.out_channels = 3, .kernel = 5, .stride = 1, .padding = 2, .bias = true})
          .ok());
  ASSERT_TRUE(graph.Add("bn1", BatchNormNode{}).ok());
  ASSERT_TRUE(graph.Add("flatten", FlattenNode{}).ok());
  ASSERT_TRUE(graph.Add("fc1", LinearNode{7, true}).ok());

  const auto& parameters = graph.parameters();
  ASSERT_EQ(parameters.size(), 6u);
  EXPECT_EQ(parameters[0].name, "conv1.weight");
  EXPECT_THAT(parameters[0].dims, ElementsAre(3, 2, 5, 5));
  EXPECT_EQ(parameters[0].fan_in, 2 * 25);
  EXPECT_EQ(parameters[0].fan_out, 3 * 25);
  EXPECT_EQ(parameters[1].name, "conv1.bias");
  EXPECT_EQ(parameters[1].fan_in, 2 * 25);
  EXPECT_EQ(parameters[2].name, "bn1.weight");
  EXPECT_EQ(parameters[2].role, ParameterRole::kGamma);
  EXPECT_EQ(parameters[2].fan_in, 0);
  EXPECT_EQ(parameters[3].name, "bn1.bias");
  EXPECT_EQ(parameters[3].role, ParameterRole::kBeta);
  EXPECT_EQ(parameters[4].name, "fc1.weight");
  EXPECT_THAT(parameters[4].dims, ElementsAre(7, 90));
  EXPECT_EQ(parameters[4].fan_in, 90);
  EXPECT_EQ(parameters[4].fan_out, 7);
  int64_t end = 0;
  for (const ParameterSpec& spec : parameters) {
    EXPECT_EQ(spec.offset % 16, 0) << spec.name;
    EXPECT_GE(spec.offset, end) << spec.name;
    EXPECT_LT(spec.offset - end, 16) << spec.name;
    end = spec.offset + spec.count;
  }
  EXPECT_GE(graph.parameter_floats(), end);
  ASSERT_EQ(graph.state().size(), 2u);
  EXPECT_EQ(graph.state()[0].name, "bn1.running_mean");
  EXPECT_EQ(graph.state()[1].name, "bn1.running_var");
  EXPECT_EQ(graph.state_floats(), 32);
}

TEST(GraphTest, BatchNormWithoutAffineHasStateOnly) {
  Graph graph({9});
  ASSERT_TRUE(graph.Add("bn", BatchNormNode{.affine = false}).ok());
  EXPECT_TRUE(graph.parameters().empty());
  EXPECT_EQ(graph.state().size(), 2u);
}

struct Refusal {
  Dims input;
  NodeKind kind;
  const char* expected;
};

TEST(GraphTest, RefusesWhatDoesNotFitNamingTheLayer) {
  const Refusal refusals[] = {
      {{3, 8, 8}, LinearNode{4, true}, "needs a flat input, but gets 3x8x8"},
      {{12}, ConvNode{.out_channels = 2}, "needs an image"},
      {{1, 4, 9},
       ConvNode{.out_channels = 2, .kernel = 7, .stride = 1, .padding = 1},
       "7x7 is larger"},
      {{1, 4, 9}, ConvNode{.out_channels = 0}, "at least 1"},
      {{1, 4, 9}, ConvNode{.out_channels = 2, .kernel = 3, .stride = 0}, "stride 0"},
      {{1, 4, 9},
       ConvNode{.out_channels = 2, .kernel = 3, .stride = 1, .padding = -1},
       "padding -1"},
      {{4, 1, 9}, PoolNode{PoolKind::kMax, 2, 2}, "does not fit into 4x1x9"},
      {{12}, PoolNode{}, "needs an image"},
      {{1, 4, 9}, SoftmaxCrossEntropyNode{}, "one number per class or target"},
      {{4}, LinearNode{0, true}, "0 outputs"},
      {{4}, BatchNormNode{.epsilon = -1}, "epsilon -1"},
      {{4}, BatchNormNode{.epsilon = std::numeric_limits<double>::quiet_NaN()}, "epsilon nan"},
      {{0, 3}, FlattenNode{}, "shape 0x3"},
      {{int64_t{1} << 30}, LinearNode{int64_t{1} << 30, true}, "too large"},
      {{int64_t{1} << 39}, LinearNode{int64_t{1} << 39, true}, "too large"},
  };
  for (const Refusal& refusal : refusals) {
    Graph graph(refusal.input);
    const absl::Status status = graph.Add("odd1", refusal.kind);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << refusal.expected;
    EXPECT_THAT(std::string(status.message()), HasSubstr("layer odd1: "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(refusal.expected));
    EXPECT_TRUE(graph.nodes().empty());
    EXPECT_EQ(graph.parameter_floats(), 0);
  }
}

TEST(GraphTest, EdgesNameTheNodesTheyComeFrom) {
  Graph graph({4, 6, 6});
  ASSERT_TRUE(graph.Add("conv1", ConvNode{.out_channels = 4}).ok());
  ASSERT_TRUE(graph.Add("conv2", ConvNode{.out_channels = 4}).ok());
  ASSERT_TRUE(graph.Add("add", AddNode{}, {"conv2", "input", "conv1"}).ok());
  ASSERT_TRUE(graph.Add("pool", GlobalAveragePoolNode{}).ok());
  EXPECT_THAT(graph.Find("add")->inputs, ElementsAre(1, kGraphInput, 0));
  EXPECT_THAT(graph.Find("pool")->out, ElementsAre(4));
  EXPECT_THAT(graph.UseCounts(), ElementsAre(2, 1, 1, 0));
  EXPECT_EQ(graph.Find("input"), nullptr);
}

TEST(GraphTest, SumsNeedEqualShapesAndKnownNames) {
  const auto refusal = [](std::vector<std::string> inputs) {
    Graph graph({4, 6, 6});
    EXPECT_TRUE(
        graph.Add("conv1", ConvNode{.out_channels = 5, .kernel = 3, .stride = 2, .padding = 1})
            .ok());
    return std::string(graph.Add("add", AddNode{}, inputs).message());
  };
  EXPECT_THAT(refusal({"conv1", "input"}),
              ::testing::AllOf(HasSubstr("layer add"), HasSubstr("4x6x6"), HasSubstr("5x3x3")));
  EXPECT_THAT(refusal({"conv1", "conv7"}), HasSubstr("conv7"));
  EXPECT_THAT(refusal({"conv1"}), HasSubstr("at least two inputs"));
  EXPECT_EQ(refusal({"conv1", "conv1"}), "");
}

TEST(GraphTest, AnOutputThatNobodyReadsIsRefusedAtTheLoss) {
  Graph graph({4});
  ASSERT_TRUE(graph.Add("fc1", LinearNode{.out = 3}).ok());
  ASSERT_TRUE(graph.Add("fc2", LinearNode{.out = 3}, {"input"}).ok());
  EXPECT_THAT(std::string(graph.Add("loss", SoftmaxCrossEntropyNode{}).message()),
              ::testing::AllOf(HasSubstr("fc1"), HasSubstr("used by no layer")));
}

TEST(GraphTest, WeightNormHasADirectionAndAGainAndGroupsSplitTheInput) {
  Graph graph({6, 5, 5});
  ASSERT_TRUE(graph
                  .Add("conv", ConvNode{.out_channels = 4,
                                        .groups = 2,
                                        .weights = {.transform = WeightTransform::kWeightNorm,
                                                    .data_dependent_init = true}})
                  .ok());
  const auto& parameters = graph.parameters();
  ASSERT_EQ(parameters.size(), 3u);
  EXPECT_EQ(parameters[0].name, "conv.weight_v");
  EXPECT_THAT(parameters[0].dims, ElementsAre(4, 3, 3, 3));
  EXPECT_EQ(parameters[0].fan_in, 27);
  EXPECT_EQ(parameters[0].std, 0.05);
  EXPECT_EQ(parameters[1].name, "conv.weight_g");
  EXPECT_THAT(parameters[1].dims, ElementsAre(4, 1, 1, 1));
  EXPECT_EQ(parameters[2].constant, 0.0F);
  EXPECT_EQ(graph.multiply_adds(), 4 * 25 * 27);
  EXPECT_THAT(std::string(graph.Add("odd", ConvNode{.out_channels = 5, .groups = 2}).message()),
              HasSubstr("2 groups"));
  EXPECT_THAT(std::string(graph.Add("gn", GroupNormNode{.groups = 3}).message()),
              ::testing::AllOf(HasSubstr("layer gn"), HasSubstr("3 groups")));
}

TEST(GraphTest, NamesAreUniqueAndTheLossIsLast) {
  Graph graph({6});
  ASSERT_TRUE(graph.Add("fc1", LinearNode{3, true}).ok());
  EXPECT_FALSE(graph.Add("fc1", LinearNode{3, true}).ok());
  EXPECT_FALSE(graph.Add("", LinearNode{3, true}).ok());
  ASSERT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());
  EXPECT_FALSE(graph.Add("fc2", LinearNode{3, true}).ok());
}

}  // namespace
}  // namespace normlab::engine
