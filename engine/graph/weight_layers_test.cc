#include "engine/graph/weight_layers.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

// conv1 - bn1 - act1 - conv2 - bn2 -+- sum - act2 - flatten - fc - loss
//          act1 --------------------+
Graph ResidualGraph() {
  Graph graph({3, 6, 6});
  const auto add = [&graph](const std::string& name, NodeKind kind,
                            const std::vector<std::string>& inputs = {}) {
    EXPECT_TRUE(graph.Add(name, std::move(kind), inputs).ok()) << name;
  };
  add("conv1", ConvNode{.out_channels = 4, .bias = false});
  add("bn1", BatchNormNode{});
  add("act1", ActivationNode{});
  add("conv2", ConvNode{.out_channels = 4, .bias = false});
  add("bn2", BatchNormNode{});
  add("sum", AddNode{}, {"bn2", "act1"});
  add("act2", ActivationNode{});
  add("flatten", FlattenNode{});
  add("fc", LinearNode{.out = 5});
  add("loss", SoftmaxCrossEntropyNode{});
  return graph;
}

TEST(WeightLayersTest, FollowsALayerToItsNormalizerAndItsActivation) {
  const std::vector<WeightLayer> layers = FindWeightLayers(ResidualGraph());
  ASSERT_THAT(layers, SizeIs(3));
  EXPECT_EQ(layers[0].name, "conv1");
  EXPECT_EQ(layers[0].normalizer, "bn1");
  EXPECT_EQ(layers[0].activation, "act1");
  EXPECT_EQ(layers[0].activation_input, "bn1");
  EXPECT_TRUE(layers[0].scale_invariant);
  EXPECT_EQ(layers[0].weight.count, 4 * 3 * 9);
  EXPECT_THAT(layers[0].parameters, SizeIs(3));  // weight, gamma, beta
  // Through the sum only an activation is looked for.
  EXPECT_EQ(layers[1].normalizer, "bn2");
  EXPECT_EQ(layers[1].activation, "act2");
  EXPECT_EQ(layers[1].activation_input, "sum");
  EXPECT_EQ(layers[2].name, "fc");
  EXPECT_EQ(layers[2].normalizer, "");
  EXPECT_EQ(layers[2].activation, "");
  EXPECT_FALSE(layers[2].scale_invariant);
  EXPECT_THAT(layers[2].parameters, SizeIs(2));  // weight, bias
}

TEST(WeightLayersTest, ANormalizerAfterTheActivationIsFoundAndABiasEndsScaleInvariance) {
  Graph graph({7});
  ASSERT_TRUE(graph.Add("fc1", LinearNode{.out = 6}).ok());
  ASSERT_TRUE(graph.Add("act1", ActivationNode{}).ok());
  ASSERT_TRUE(graph.Add("bn1", BatchNormNode{}).ok());
  ASSERT_TRUE(graph.Add("fc2", LinearNode{.out = 6}).ok());
  ASSERT_TRUE(graph.Add("bn2", BatchNormNode{}).ok());
  ASSERT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());
  const std::vector<WeightLayer> layers = FindWeightLayers(graph);
  EXPECT_EQ(layers[0].normalizer, "bn1");
  EXPECT_EQ(layers[0].activation_input, "fc1");
  EXPECT_FALSE(layers[0].normalized_before_activation);
  EXPECT_FALSE(layers[0].scale_invariant);
  EXPECT_TRUE(layers[1].normalized_before_activation);
  EXPECT_FALSE(layers[1].scale_invariant);
}

TEST(WeightLayersTest, FindsGammasBetasAndWeights) {
  const Graph graph = ResidualGraph();
  const std::vector<AffineNormalizer> normalizers = FindAffineNormalizers(graph);
  ASSERT_THAT(normalizers, SizeIs(2));
  EXPECT_EQ(normalizers[1].name, "bn2");
  EXPECT_EQ(normalizers[1].gamma.count, 4);
  EXPECT_EQ(normalizers[1].beta.count, 4);
  EXPECT_THAT(WeightRanges(graph), SizeIs(3));
}

}  // namespace
}  // namespace normlab::engine
