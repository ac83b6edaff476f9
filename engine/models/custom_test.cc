#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/models/build_graph.h"
#include "engine/models/testing.h"

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kImages;
using testing::Names;
using testing::ParameterNames;
using ::testing::SizeIs;
using testing::Spec;

// conv1, norm1, act1, conv2, norm2, add (with act1), act2, avgpool, fc.
constexpr char kResidual[] = R"(
  layers { convolution { channels: 8 } }
  layers { normalizer {} }
  layers { activation {} }
  layers { convolution { channels: 8 groups: 2 } }
  layers { normalizer {} }
  layers { name: "sum" inputs: ["norm2", "act1"] add {} }
  layers { activation { kind: GELU } }
  layers { global_average_pooling {} }
  layers { linear { outputs: 5 } })";

BuiltGraph Build(const std::string& layers, const std::string& rest = "") {
  return BuildGraph(Spec("model { custom { " + layers + " } } " + rest), kImages);
}

Violation Refusal(const std::string& layers, const std::string& rest = "") {
  const BuiltGraph built = Build(layers, rest);
  EXPECT_FALSE(built.graph.has_value());
  EXPECT_THAT(built.violations, SizeIs(1));
  return built.violations.empty() ? Violation() : built.violations[0];
}

TEST(CustomModelTest, ResidualEdges) {
  const BuiltGraph built = Build(kResidual, "normalization { group { groups: 4 } }");
  ASSERT_TRUE(built.graph.has_value());
  EXPECT_THAT(Names(*built.graph), ElementsAre("conv1", "norm1", "act1", "conv2", "norm2", "sum",
                                               "act2", "avgpool1", "fc1", "loss"));
  EXPECT_THAT(ParameterNames(*built.graph),
              ElementsAre("conv1.weight", "norm1.weight", "norm1.bias", "conv2.weight",
                          "norm2.weight", "norm2.bias", "fc1.weight", "fc1.bias"));
  EXPECT_THAT(built.graph->Find("sum")->inputs, ElementsAre(4, 2));
  EXPECT_THAT(built.graph->parameters()[3].dims, ElementsAre(8, 4, 3, 3)) << "two groups";
}

TEST(CustomModelTest, NormalizersWithoutANodeStandForTheirInput) {
  const BuiltGraph none = Build(kResidual);
  ASSERT_TRUE(none.graph.has_value());
  EXPECT_THAT(Names(*none.graph),
              ElementsAre("conv1", "act1", "conv2", "sum", "act2", "avgpool1", "fc1", "loss"));
  EXPECT_THAT(none.graph->Find("sum")->inputs, ElementsAre(2, 1));
  EXPECT_EQ(none.graph->parameters()[1].name, "conv1.bias");
  const BuiltGraph weight = Build(kResidual, "normalization { weight {} }");
  ASSERT_TRUE(weight.graph.has_value());
  EXPECT_THAT(ParameterNames(*weight.graph),
              ElementsAre("conv1.weight_v", "conv1.weight_g", "conv1.bias", "conv2.weight_v",
                          "conv2.weight_g", "conv2.bias", "fc1.weight", "fc1.bias"));
}

TEST(CustomModelTest, FilterResponseTakesThePlaceOfTheActivationThatReadsIt) {
  const BuiltGraph built = Build(kResidual, "normalization { filter_response {} }");
  ASSERT_TRUE(built.graph.has_value());
  EXPECT_THAT(Names(*built.graph), ElementsAre("conv1", "norm1", "conv2", "norm2", "sum", "act2",
                                               "avgpool1", "fc1", "loss"));
  EXPECT_THAT(built.graph->Find("sum")->inputs, ElementsAre(3, 1)) << "act1 is norm1";
}

TEST(CustomModelTest, OverridesAndBiases) {
  // norm1 comes after the activation: the layer keeps its bias. fc2's is asked for.
  const BuiltGraph built = Build(R"(
      layers { flatten {} }
      layers { name: "first" linear { outputs: 12 } }
      layers { activation {} }
      layers { normalizer {} }
      layers { linear { outputs: 7 bias: true } }
      layers { normalizer {} }
      layers { linear { outputs: 6 } }
      layers { normalizer {} }
      layers { linear { outputs: 5 bias: false } })",
                                 R"(normalization { batch {} }
      normalization_overrides { layers: "fc3" normalization { rms {} } })");
  ASSERT_TRUE(built.graph.has_value());
  EXPECT_THAT(ParameterNames(*built.graph),
              ElementsAre("first.weight", "first.bias", "norm1.weight", "norm1.bias", "fc2.weight",
                          "fc2.bias", "norm2.weight", "norm2.bias", "fc3.weight", "fc3.bias",
                          "norm3.weight", "fc4.weight"));
  EXPECT_EQ(built.normalizers.at("norm3").field, "normalization_overrides[0].normalization");
  // Only layers with a normalizer can be overridden.
  EXPECT_THAT(
      Refusal(kResidual, "normalization_overrides { layers: \"fc1\" normalization { batch {} } }")
          .description,
      HasSubstr("conv1, conv2"));
}

TEST(CustomModelTest, ALayerThatOthersReadTooKeepsItsBias) {
  const BuiltGraph built = Build(R"(
      layers { flatten {} }
      layers { linear { outputs: 5 } }
      layers { normalizer {} }
      layers { inputs: ["fc1", "norm1"] add {} })",
                                 "normalization { batch {} }");
  ASSERT_TRUE(built.graph.has_value());
  EXPECT_EQ(built.graph->parameters()[1].name, "fc1.bias");
}

TEST(CustomModelTest, ImpossibleNetworksNameLayerAndShapes) {
  Violation violation =
      Refusal("layers { convolution { channels: 3 } } layers { linear { outputs: 5 } }");
  EXPECT_EQ(violation.field, "model.custom.layers[1]");
  EXPECT_THAT(violation.description, AllOf(HasSubstr("fc1"), HasSubstr("3x9x7")));
  violation = Refusal(R"(layers { convolution { channels: 3 } }
                         layers { convolution { channels: 3 stride: 2 } }
                         layers { inputs: ["conv2", "conv1"] add {} })");
  EXPECT_EQ(violation.field, "model.custom.layers[2]");
  EXPECT_THAT(violation.description,
              AllOf(HasSubstr("add1"), HasSubstr("3x5x4"), HasSubstr("3x9x7")));
  violation = Refusal("layers { convolution { channels: 3 groups: 2 kernel: 1 } }");
  EXPECT_THAT(violation.description, AllOf(HasSubstr("2 groups"), HasSubstr("conv1")));
  violation = Refusal("layers { pooling { window: 8 } }");
  EXPECT_THAT(violation.description, AllOf(HasSubstr("pool1"), HasSubstr("2x9x7")));
  violation = Refusal("layers { flatten {} } layers { linear { outputs: 4 } }");
  EXPECT_EQ(violation.field, "model.custom.layers[1]");
  EXPECT_THAT(violation.description, AllOf(HasSubstr("puts out 4"), HasSubstr("5 classes")));
  violation = Refusal(R"(layers { flatten {} } layers { linear { outputs: 5 } }
                         layers { inputs: "flatten1" linear { outputs: 5 } })");
  EXPECT_EQ(violation.field, "model.custom.layers");
  EXPECT_THAT(violation.description, HasSubstr("fc1: its output is used by no layer"));
}

}  // namespace
}  // namespace normlab::engine
