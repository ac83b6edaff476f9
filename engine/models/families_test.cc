// The networks of every model family, with every normalizer.
#include <algorithm>
#include <cmath>
#include <string>
#include <variant>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/models/build_graph.h"
#include "engine/models/testing.h"

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kCifar;
using testing::kImages;
using testing::kRegression;
using testing::Names;
using ::testing::Not;
using testing::ParameterNames;
using ::testing::SizeIs;
using testing::Spec;

Graph Build(const std::string& text, const DatasetShape& shape = kCifar) {
  BuiltGraph built = BuildGraph(Spec(text), shape);
  for (const Violation& violation : built.violations) {
    ADD_FAILURE() << text << ": " << violation.field << " " << violation.description;
  }
  return built.graph.has_value() ? *std::move(built.graph) : Graph({1});
}

// The only violation.
Violation Refusal(const std::string& text, const DatasetShape& shape = kCifar) {
  const BuiltGraph built = BuildGraph(Spec(text), shape);
  EXPECT_FALSE(built.graph.has_value());
  EXPECT_THAT(built.violations, SizeIs(1)) << text;
  return built.violations.empty() ? Violation() : built.violations[0];
}

template <typename Kind>
const Kind& KindOf(const Graph& graph, const std::string& name) {
  const Node* node = graph.Find(name);
  if (node == nullptr || !std::holds_alternative<Kind>(node->kind)) {
    ADD_FAILURE() << "no such layer of this kind: " << name;
    static const Kind kNone;
    return kNone;
  }
  return std::get<Kind>(node->kind);
}

std::vector<std::string> Inputs(const Graph& graph, const std::string& name) {
  std::vector<std::string> inputs;
  for (const int input : graph.Find(name)->inputs) {
    inputs.push_back(input == kGraphInput ? kGraphInputName
                                          : graph.nodes()[static_cast<size_t>(input)].name);
  }
  return inputs;
}

// Published numbers of parameters, batch norm's gamma and beta included.
TEST(FamiliesTest, KnownNetworksHaveTheirNumberOfParameters) {
  const std::string batch = " normalization { batch {} }";
  // He et al. 2016, table 6: 0.27M and 1.7M; with option A exactly these (see
  // github.com/akamaster/pytorch_resnet_cifar10). A projection adds 16*32 + 32*64 weights and two
  // batch norms.
  EXPECT_EQ(Build("model { resnet { shortcut: ZERO_PAD } }" + batch).parameter_count(), 269722);
  EXPECT_EQ(Build("model { resnet {} }" + batch).parameter_count(), 272474);
  EXPECT_EQ(Build("model { resnet { depth: 110 shortcut: ZERO_PAD } }" + batch).parameter_count(),
            1727962);
  // torchvision's vgg16_bn features and a linear layer 512 -> 10 have 14,728,266; 4,224 of them are
  // biases of convolutions, which batch norm makes redundant and which we leave out.
  EXPECT_EQ(Build("model { vgg {} }" + batch).parameter_count(), 14728266 - 4224);
  // vgg16 without batch norm: with the biases, without gamma and beta.
  EXPECT_EQ(Build("model { vgg {} }").parameter_count(), 14728266 - 2 * 4224);
  // 24 times 10x10, and a head of 10x3.
  EXPECT_EQ(Build("model { deep_linear {} }", kRegression).parameter_count(),
            13 * 10 + 23 * 100 + 10 * 3);
}

TEST(FamiliesTest, VggIsNamedLikeASequentialOfItsLayers) {
  const Graph graph = Build("model { vgg { depth: 11 } } normalization { batch {} }");
  // As torchvision's vgg11_bn numbers them.
  const std::vector<std::string> names = Names(graph);
  EXPECT_EQ(graph.nodes().size(), 8u * 3 + 5 + 3);
  for (const int i : {0, 4, 8, 11, 15, 18, 22, 25}) {
    EXPECT_TRUE(std::holds_alternative<ConvNode>(graph.Find("features." + std::to_string(i))->kind))
        << i;
  }
  EXPECT_THAT(std::vector<std::string>(names.end() - 3, names.end()),
              ElementsAre("flatten", "classifier", "loss"));
  EXPECT_THAT(graph.Find("features.28")->out, ElementsAre(512, 1, 1));
  EXPECT_EQ(KindOf<ConvNode>(graph, "features.25").kernel, 3);
  // Without a normalizer, as vgg11.
  EXPECT_THAT(ParameterNames(Build("model { vgg { depth: 11 } }")),
              AllOf(Contains("features.3.bias"), Contains("features.18.weight")));
}

TEST(FamiliesTest, WidthMultipliersRoundAndNeverReachZero) {
  const Graph vgg = Build("model { vgg { width_multiplier: 0.07 } }");
  EXPECT_EQ(KindOf<ConvNode>(vgg, "features.0").out_channels, 4);    // 4.48
  EXPECT_EQ(KindOf<ConvNode>(vgg, "features.28").out_channels, 36);  // 35.84
  const Graph resnet = Build("model { resnet { width_multiplier: 0.001 } }");
  EXPECT_THAT(resnet.Find("layer3.2.conv2")->out, ElementsAre(1, 8, 8));
}

TEST(FamiliesTest, ImagesBelow32AreSurroundedByZeros) {
  for (const char* model : {"vgg {}", "resnet {}"}) {
    const Graph graph = Build(std::string("model { ") + model + " }", kImages);
    EXPECT_EQ(graph.nodes()[0].name, "pad");
    EXPECT_THAT(graph.nodes()[0].out, ElementsAre(2, 32, 32));
  }
  DatasetShape wide = kCifar;
  wide.height = 20;
  wide.width = 48;
  EXPECT_THAT(Build("model { resnet {} }", wide).nodes()[0].out, ElementsAre(3, 32, 48));
  EXPECT_EQ(Build("model { resnet {} }").nodes()[0].name, "conv1");
}

TEST(FamiliesTest, ResNetBlocks) {
  const Graph graph = Build("model { resnet {} } normalization { batch {} }");
  EXPECT_THAT(Names(graph),
              ::testing::IsSupersetOf({"conv1", "bn1", "act1", "layer1.0.conv1", "layer1.0.bn1",
                                       "layer1.0.act1", "layer1.0.conv2", "layer1.0.bn2",
                                       "layer1.0.add", "layer1.0.act2", "layer2.0.shortcut.0",
                                       "layer2.0.shortcut.1", "layer3.2.act2", "avgpool", "fc"}));
  EXPECT_EQ(graph.Find("layer1.0.shortcut.0"), nullptr);
  EXPECT_EQ(graph.Find("layer2.1.shortcut.0"), nullptr);
  EXPECT_THAT(Inputs(graph, "layer1.0.add"), ElementsAre("layer1.0.bn2", "act1"));
  EXPECT_THAT(Inputs(graph, "layer2.0.add"), ElementsAre("layer2.0.bn2", "layer2.0.shortcut.1"));
  EXPECT_THAT(Inputs(graph, "layer2.0.shortcut.0"), ElementsAre("layer1.2.act2"));
  EXPECT_THAT(graph.Find("layer3.0.shortcut.1")->out, ElementsAre(64, 8, 8));
  const auto& shortcut = KindOf<ConvNode>(graph, "layer3.0.shortcut.0");
  EXPECT_EQ(shortcut.kernel, 1);
  EXPECT_EQ(shortcut.stride, 2);
  EXPECT_EQ(shortcut.padding, 0);
  EXPECT_FALSE(shortcut.bias);
  EXPECT_EQ(KindOf<BatchNormNode>(graph, "layer1.0.bn2").initial_gamma, 1.0F);

  const Graph padded = Build(
      "model { resnet { shortcut: ZERO_PAD zero_init_last_gamma: true } }"
      "normalization { batch {} }");
  EXPECT_EQ(KindOf<SubsampleNode>(padded, "layer2.0.shortcut").out_channels, 32);
  EXPECT_THAT(Inputs(padded, "layer2.0.add"), ElementsAre("layer2.0.bn2", "layer2.0.shortcut"));
  EXPECT_EQ(KindOf<BatchNormNode>(padded, "layer1.0.bn1").initial_gamma, 1.0F);
  EXPECT_EQ(KindOf<BatchNormNode>(padded, "layer1.0.bn2").initial_gamma, 0.0F);

  const Graph plain =
      Build("model { resnet { skip_connections: false } } normalization { batch {} }");
  EXPECT_THAT(Names(plain), Not(Contains(HasSubstr("add"))));
  EXPECT_THAT(Names(plain), Not(Contains(HasSubstr("shortcut"))));
  EXPECT_EQ(plain.parameter_count(), 269722);
}

TEST(FamiliesTest, FixupStartsBranchesAtZeroWithScaledWeights) {
  const Graph graph = Build("model { resnet { depth: 56 } } normalization { fixup {} }");
  const auto weight = [&graph](const std::string& layer) -> const ParameterSpec& {
    const auto& all = graph.parameters();
    return *std::find_if(all.begin(), all.end(), [&layer](const ParameterSpec& parameter) {
      return parameter.name == layer + ".weight";
    });
  };
  // 27 branches of two convolutions.
  EXPECT_DOUBLE_EQ(weight("layer1.0.conv1").scale, std::pow(27.0, -0.5));
  EXPECT_DOUBLE_EQ(weight("layer3.8.conv1").scale, std::pow(27.0, -0.5));
  EXPECT_EQ(weight("conv1").scale, 1);
  EXPECT_EQ(weight("layer2.0.shortcut.0").scale, 1);
  EXPECT_EQ(weight("layer1.0.conv2").constant, 0.0F);
  EXPECT_EQ(weight("fc").constant, 0.0F);
  EXPECT_THAT(Inputs(graph, "layer1.0.conv1"), ElementsAre("layer1.0.bias1a"));
  EXPECT_THAT(Inputs(graph, "layer1.0.act1"), ElementsAre("layer1.0.bias1b"));
  EXPECT_THAT(Inputs(graph, "layer1.0.conv2"), ElementsAre("layer1.0.bias2a"));
  EXPECT_THAT(Inputs(graph, "layer1.0.scale"), ElementsAre("layer1.0.conv2"));
  EXPECT_THAT(Inputs(graph, "layer1.0.add"), ElementsAre("layer1.0.bias2b", "act1"));
  EXPECT_THAT(Inputs(graph, "layer2.0.shortcut.0"), ElementsAre("layer2.0.bias1a"));
  EXPECT_THAT(Inputs(graph, "fc"), ElementsAre("bias2"));
  EXPECT_EQ(KindOf<ScaleNode>(graph, "layer1.0.scale").initial, 1.0F);
  EXPECT_THAT(ParameterNames(graph), Not(Contains("layer1.0.conv1.bias")));

  const Graph skip =
      Build("model { resnet {} } normalization { skip_init { initial_scale: 0.25 } }");
  EXPECT_EQ(KindOf<ScaleNode>(skip, "layer1.0.scale").initial, 0.25F);
  EXPECT_THAT(Inputs(skip, "layer1.0.add"), ElementsAre("layer1.0.scale", "act1"));
  EXPECT_THAT(ParameterNames(skip), Contains("layer1.0.conv1.bias"));
  EXPECT_THAT(Names(skip), Not(Contains("bias1")));
}

TEST(FamiliesTest, MlpSkipsGoAroundEveryHiddenLayerButTheFirst) {
  const Graph graph = Build(
      "model { mlp { depth: 3 width: 6 skip_connections: true activation: TANH } }"
      "normalization { batch {} }",
      kRegression);
  EXPECT_THAT(Names(graph), ElementsAre("fc1", "bn1", "act1", "fc2", "add2", "bn2", "act2", "fc3",
                                        "add3", "bn3", "act3", "head", "loss"));
  EXPECT_THAT(Inputs(graph, "add2"), ElementsAre("fc2", "fc1"));
  EXPECT_THAT(Inputs(graph, "add3"), ElementsAre("fc3", "add2"));
  EXPECT_THAT(Inputs(graph, "bn2"), ElementsAre("add2"));
  EXPECT_THAT(graph.Find("head")->out, ElementsAre(3));
}

TEST(FamiliesTest, DeepLinearIsAProductOfMatrices) {
  const Graph graph = Build("model { deep_linear { depth: 4 width: 7 } }", kRegression);
  EXPECT_THAT(Names(graph), ElementsAre("fc1", "fc2", "fc3", "head", "loss"));
  EXPECT_THAT(ParameterNames(graph),
              ElementsAre("fc1.weight", "fc2.weight", "fc3.weight", "head.weight"));
  EXPECT_FALSE(KindOf<SquaredErrorNode>(graph, "loss").mean) << "summed, as in the paper";
  EXPECT_THAT(
      Names(Build("model { deep_linear { depth: 3 } } normalization { batch {} }", kRegression)),
      ElementsAre("fc1", "bn1", "fc2", "bn2", "head", "loss"));
  EXPECT_THAT(Names(Build("model { deep_linear { depth: 1 } }")),
              ElementsAre("flatten", "head", "loss"));
  // Weight norm sets biases on the first batch.
  EXPECT_THAT(ParameterNames(Build("model { deep_linear { depth: 2 } } normalization { weight {} }",
                                   kRegression)),
              ElementsAre("fc1.weight_v", "fc1.weight_g", "fc1.bias", "head.weight"));
}

TEST(FamiliesTest, LossFollowsSpecAndData) {
  const std::string mlp = "model { mlp {} } ";
  EXPECT_NE(Build(mlp).Find("loss"), nullptr);
  EXPECT_TRUE(std::holds_alternative<SoftmaxCrossEntropyNode>(Build(mlp).nodes().back().kind));
  EXPECT_TRUE(KindOf<SquaredErrorNode>(Build(mlp, kRegression), "loss").mean);
  EXPECT_TRUE(KindOf<SquaredErrorNode>(Build(mlp + "loss: MEAN_SQUARED_ERROR"), "loss").mean);
  EXPECT_FALSE(
      KindOf<SquaredErrorNode>(Build(mlp + "loss: SUM_SQUARED_ERROR", kRegression), "loss").mean);
  const Violation refusal = Refusal(mlp + "loss: SOFTMAX_CROSS_ENTROPY", kRegression);
  EXPECT_EQ(refusal.field, "loss");
  EXPECT_THAT(refusal.description, AllOf(HasSubstr("3 real-valued"), HasSubstr("MEAN_SQUARED")));
}

TEST(FamiliesTest, DenseDataAreRefusedByNetworksForImages) {
  for (const char* model : {"cnn", "vgg", "resnet"}) {
    const Violation refusal = Refusal(std::string("model { ") + model + " {} }", kRegression);
    EXPECT_EQ(refusal.field, "model");
    EXPECT_THAT(refusal.description, AllOf(HasSubstr(model), HasSubstr("13 features")));
  }
}

TEST(FamiliesTest, ActivationsOfEveryKindArrive) {
  const std::pair<const char*, ActivationKind> kinds[] = {
      {"RELU", ActivationKind::kRelu}, {"SIGMOID", ActivationKind::kSigmoid},
      {"TANH", ActivationKind::kTanh}, {"LEAKY_RELU", ActivationKind::kLeakyRelu},
      {"ELU", ActivationKind::kElu},   {"SELU", ActivationKind::kSelu},
      {"GELU", ActivationKind::kGelu}, {"SILU", ActivationKind::kSilu}};
  for (const auto& [name, kind] : kinds) {
    const Graph graph = Build(std::string("model { resnet { activation: ") + name + " } }");
    EXPECT_EQ(KindOf<ActivationNode>(graph, "layer1.0.act2").kind, kind);
  }
  EXPECT_THAT(Names(Build("model { vgg { activation: IDENTITY } } normalization { rms {} }")),
              Not(Contains("act1")));
}

}  // namespace
}  // namespace normlab::engine
