// Which normalizer a layer gets, and what follows for the layers around it.
#include <string>
#include <variant>

#include "absl/strings/match.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/models/build_graph.h"
#include "engine/models/normalizer_traits.h"
#include "engine/models/testing.h"

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kCifar;
using testing::kImages;
using testing::Names;
using testing::NormalizerKinds;
using testing::ParameterNames;
using ::testing::SizeIs;
using testing::Spec;

std::string Normalization(const std::string& text) {
  return " normalization { " + text + " }";
}

Graph Build(const std::string& text, const DatasetShape& shape = kImages) {
  BuiltGraph built = BuildGraph(Spec(text), shape);
  for (const Violation& violation : built.violations) {
    ADD_FAILURE() << text << ": " << violation.field << " " << violation.description;
  }
  return built.graph.has_value() ? *std::move(built.graph) : Graph({1});
}

bool IsResidualScheme(const std::string& kind) {
  return kind == "fixup" || kind == "skip_init";
}

const ParameterSpec* FindParameter(const Graph& graph, const std::string& name) {
  for (const ParameterSpec& parameter : graph.parameters()) {
    if (parameter.name == name) {
      return &parameter;
    }
  }
  return nullptr;
}

// What holds in every network: an activation lies right behind the normalizer that it reads, the
// last weight layer is as it is, and no bias lies before a beta.
void ExpectWellFormed(const Graph& graph) {
  const Node* last = nullptr;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    const Node* input = node.inputs[0] == kGraphInput
                            ? nullptr
                            : &graph.nodes()[static_cast<size_t>(node.inputs[0])];
    const bool weights = std::holds_alternative<LinearNode>(node.kind) ||
                         std::holds_alternative<ConvNode>(node.kind);
    last = weights ? &node : last;
    const bool reads_normalizer =
        input != nullptr && !absl::StartsWith(input->name, "conv") &&
        FindParameter(graph, input->name + ".bias") != nullptr &&
        FindParameter(graph, input->name + ".bias")->role == ParameterRole::kBeta;
    if (std::holds_alternative<ActivationNode>(node.kind) && reads_normalizer) {
      EXPECT_EQ(node.inputs[0], static_cast<int>(i) - 1) << node.name;
    }
    const ParameterSpec* beta = FindParameter(graph, node.name + ".bias");
    if (beta != nullptr && beta->role == ParameterRole::kBeta && input != nullptr) {
      const ParameterSpec* bias = FindParameter(graph, input->name + ".bias");
      EXPECT_TRUE(bias == nullptr || bias->role != ParameterRole::kBias)
          << input->name << " has a bias before " << node.name;
    }
  }
  ASSERT_NE(last, nullptr);
  EXPECT_NE(FindParameter(graph, last->name + ".weight"), nullptr) << "never transformed";
}

TEST(NormalizerChoiceTest, EveryNormalizerFitsIntoEveryModel) {
  const std::string models[] = {"mlp { depth: 2 skip_connections: true }",
                                "cnn { hidden: 16 }",
                                "deep_linear {}",
                                "vgg { depth: 11 width_multiplier: 0.1 activation: TANH }",
                                "resnet { width_multiplier: 0.3 }",
                                "resnet { shortcut: ZERO_PAD }",
                                "resnet { skip_connections: false }",
                                R"(custom { layers { convolution { channels: 8 } }
                                     layers { normalizer {} } layers { activation {} }
                                     layers { flatten {} } layers { linear { outputs: 10 } } })"};
  for (const std::string& model : models) {
    for (const std::string& kind : NormalizerKinds()) {
      if (IsResidualScheme(kind) &&
          (!absl::StartsWith(model, "resnet") || absl::StrContains(model, "false"))) {
        continue;
      }
      for (const char* placement : {"BEFORE_ACTIVATION", "AFTER_ACTIVATION"}) {
        SCOPED_TRACE(model + " " + kind + " " + placement);
        const Graph graph =
            Build("model { " + model + " }" + Normalization(kind + " {} placement: " + placement),
                  kCifar);
        ExpectWellFormed(graph);
        EXPECT_THAT(graph.Find("loss")->in, ElementsAre(10));
      }
    }
  }
}

TEST(NormalizerChoiceTest, NodesAreNamedByTheirKindAndBiasesGoWhereTheyWouldBeRedundant) {
  struct Case {
    std::string normalizer;
    std::string node;  // empty: none
    bool bias;
  };
  const Case cases[] = {{"none {}", "", true},
                        {"batch {}", "bn1", false},
                        {"batch { affine: false }", "bn1", false},
                        {"noisy_batch {}", "bn1", false},
                        {"noisy_batch { normalize: false }", "noise1", true},
                        {"layer {}", "ln1", false},
                        {"layer { affine: false }", "ln1", true},
                        {"group {}", "gn1", false},
                        {"group { affine: false }", "gn1", true},
                        {"instance {}", "in1", false},
                        {"instance { affine: false }", "in1", false},
                        {"weight {}", "", true},
                        {"weight { mean_only_batch_norm: true }", "bn1", false},
                        {"rms {}", "rms1", true},
                        {"weight_standardization {}", "gn1", false},
                        {"weight_standardization { affine: false }", "gn1", true},
                        {"weight_standardization { group_norm: false }", "", true},
                        {"batch_renorm {}", "bn1", false},
                        {"ghost_batch {}", "bn1", false},
                        {"l1_batch { affine: false }", "bn1", false},
                        {"l2_batch {}", "bn1", false},
                        {"linf_batch {}", "bn1", false},
                        {"filter_response {}", "frn1", false},
                        {"dyt {}", "dyt1", false},
                        {"dyt { affine: false }", "dyt1", true},
                        {"mean_only_batch {}", "bn1", false},
                        {"mean_only_batch { affine: false }", "bn1", false},
                        {"frozen_batch {}", "bn1", false},
                        {"frozen_batch { affine: false }", "bn1", true}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.normalizer);
    const Graph graph = Build("model { cnn { blocks { channels: 6 } activation: TANH } }" +
                              Normalization(c.normalizer));
    EXPECT_EQ(FindParameter(graph, "conv1.bias") != nullptr, c.bias);
    const bool replaced = c.node == "frn1";
    std::vector<std::string> expected = {"conv1"};
    if (!c.node.empty()) {
      expected.push_back(c.node);
    }
    if (!replaced) {
      expected.push_back("act1");
    }
    expected.insert(expected.end(), {"flatten", "head", "loss"});
    EXPECT_EQ(Names(graph), expected);
  }
}

TEST(NormalizerChoiceTest, AfterTheActivationTheBiasStays) {
  const std::string after = " placement: AFTER_ACTIVATION";
  const std::string cnn = "model { cnn { blocks { channels: 6 pooling {} } } }";
  const Graph graph = Build(cnn + Normalization("batch {}" + after));
  EXPECT_THAT(Names(graph),
              ElementsAre("conv1", "act1", "bn1", "pool1", "flatten", "head", "loss"));
  EXPECT_NE(FindParameter(graph, "conv1.bias"), nullptr);
  // Without an activation there is no after.
  EXPECT_EQ(FindParameter(Build("model { cnn { blocks { channels: 6 } activation: IDENTITY } }" +
                                Normalization("batch {}" + after)),
                          "conv1.bias"),
            nullptr);
  // It has no meaning for filter response norm, whose threshold takes the activation's place.
  EXPECT_THAT(Names(Build(cnn + Normalization("filter_response {}" + after))),
              ElementsAre("conv1", "frn1", "pool1", "flatten", "head", "loss"));
  // Within a residual branch nothing comes between a normalizer and the sum.
  const Graph resnet = Build("model { resnet {} }" + Normalization("batch {}" + after), kCifar);
  const std::vector<std::string> names = Names(resnet);
  EXPECT_THAT(std::vector<std::string>(names.begin(), names.begin() + 10),
              ElementsAre("conv1", "act1", "bn1", "layer1.0.conv1", "layer1.0.act1", "layer1.0.bn1",
                          "layer1.0.conv2", "layer1.0.bn2", "layer1.0.add", "layer1.0.act2"));
  EXPECT_EQ(FindParameter(resnet, "layer1.0.conv2.bias"), nullptr);
}

TEST(NormalizerChoiceTest, WeightsAreTransformedInEveryLayerButTheLast) {
  const Graph graph =
      Build("model { cnn { hidden: 8 } }" + Normalization("weight { data_dependent_init: false }"));
  EXPECT_THAT(ParameterNames(graph),
              ElementsAre("conv1.weight_v", "conv1.weight_g", "conv1.bias", "conv2.weight_v",
                          "conv2.weight_g", "conv2.bias", "fc1.weight_v", "fc1.weight_g",
                          "fc1.bias", "head.weight", "head.bias"));
  EXPECT_FALSE(std::get<ConvNode>(graph.Find("conv1")->kind).weights.data_dependent_init);
  EXPECT_TRUE(
      std::get<LinearNode>(Build("model { mlp {} }" + Normalization("weight {}")).Find("fc1")->kind)
          .weights.data_dependent_init);
  const Graph standardized =
      Build("model { cnn {} }" + Normalization("weight_standardization { groups: 8 }"));
  EXPECT_EQ(std::get<ConvNode>(standardized.Find("conv2")->kind).weights.transform,
            WeightTransform::kStandardization);
  EXPECT_EQ(std::get<GroupNormNode>(standardized.Find("gn2")->kind).groups, 8);
}

TEST(NormalizerChoiceTest, SettingsArrive) {
  const auto node = [](const std::string& normalizer) {
    return Build("model { cnn { blocks { channels: 12 } } } batch_size: 60" +
                 Normalization(normalizer))
        .nodes()[1]
        .kind;
  };
  const auto noisy = std::get<NoisyBatchNormNode>(
      node("noisy_batch { epsilon: 0 running_update_rate: 0.5 mean_range: 1 deviation_range: 2 "
           "mean_jitter: 3 deviation_jitter: 4 }"));
  EXPECT_EQ(noisy.batch.epsilon, 0);
  EXPECT_EQ(noisy.batch.running_update_rate, 0.5);
  EXPECT_EQ(noisy.mean_range, 1);
  EXPECT_EQ(noisy.deviation_range, 2);
  EXPECT_EQ(noisy.mean_jitter, 3);
  EXPECT_EQ(noisy.deviation_jitter, 4);
  const auto renorm = std::get<BatchRenormNode>(node("batch_renorm { r_max: 7 d_max: 8 }"));
  EXPECT_EQ(renorm.r_max, 7);
  EXPECT_EQ(renorm.d_max, 8);
  EXPECT_EQ(std::get<GhostBatchNormNode>(node("ghost_batch { ghost_size: 15 }")).size, 15);
  EXPECT_EQ(std::get<LpBatchNormNode>(node("l1_batch {}")).power, LpBatchNormNode::Power::kOne);
  EXPECT_EQ(std::get<LpBatchNormNode>(node("l2_batch {}")).power, LpBatchNormNode::Power::kTwo);
  EXPECT_EQ(std::get<LpBatchNormNode>(node("linf_batch {}")).power,
            LpBatchNormNode::Power::kInfinity);
  EXPECT_EQ(std::get<FilterResponseNode>(node("filter_response {}")).epsilon, 1e-6);
  EXPECT_EQ(std::get<DynamicTanhNode>(node("dyt { initial_alpha: -2 }")).initial_alpha, -2);
  EXPECT_EQ(std::get<MeanOnlyBatchNormNode>(node("mean_only_batch { running_update_rate: 0.25 }"))
                .running_update_rate,
            0.25);
  EXPECT_FALSE(std::get<FrozenBatchNormNode>(node("frozen_batch { affine: false }")).batch.affine);
  EXPECT_EQ(std::get<GroupNormNode>(node("layer { epsilon: 0.5 }")).groups, 1);
  EXPECT_EQ(std::get<GroupNormNode>(node("instance {}")).groups, 12);
  EXPECT_FALSE(std::get<RmsNormNode>(node("rms { affine: false }")).affine);
}

TEST(NormalizerChoiceTest, DefaultGroupsFollowTheContract) {
  const v1::Normalizer group = Spec("model { mlp {} }" + Normalization("group {}")).normalization();
  const auto groups = [&group](const Dims& dims) {
    return std::get<GroupNormNode>(*NormalizerNode(group, dims)).groups;
  };
  EXPECT_EQ(groups({512, 2, 2}), 32);
  EXPECT_EQ(groups({64, 3, 3}), 32);  // 2 channels a group
  EXPECT_EQ(groups({64, 1, 1}), 8);   // 16 groups would have 4 values
  EXPECT_EQ(groups({64}), 8);
  EXPECT_EQ(groups({48, 4, 4}), 24);  // at most 32, at least 2 channels
  EXPECT_EQ(groups({33, 4, 4}), 11);
  EXPECT_EQ(groups({13, 9, 7}), 1);  // a prime: 13 groups would have 1 channel
  EXPECT_EQ(groups({16, 1, 2}), 4);  // 8 groups would have 4 values
  EXPECT_EQ(groups({6}), 1);
  EXPECT_EQ(groups({1, 50, 50}), 1);
}

TEST(NormalizerChoiceTest, GroupsThatDoNotDivideNameFieldLayerAndShape) {
  const auto refusal = [](const std::string& text) {
    const BuiltGraph built = BuildGraph(Spec(text), kImages);
    EXPECT_THAT(built.violations, SizeIs(1));
    return built.violations.empty() ? Violation() : built.violations[0];
  };
  const std::string cnn = "model { cnn { blocks { channels: 8 } blocks { channels: 12 } } }";
  Violation violation = refusal(cnn + Normalization("group { groups: 8 }"));
  EXPECT_EQ(violation.field, "normalization.group.groups");
  EXPECT_THAT(violation.description, AllOf(HasSubstr("gn2"), HasSubstr("12x9x7")));
  violation = refusal(cnn + R"(normalization_overrides { layers: "conv2"
                               normalization { weight_standardization { groups: 5 } } })");
  EXPECT_EQ(violation.field,
            "normalization_overrides[0].normalization.weight_standardization.groups");
}

TEST(NormalizerChoiceTest, TheLastOverrideThatMatchesCounts) {
  const std::string text = R"(model { resnet {} } normalization { batch {} }
      normalization_overrides { layers: "layer*" normalization { group { groups: 4 } } }
      normalization_overrides { layers: "layer2.*" normalization { none {} } }
      normalization_overrides { layers: "*.shortcut.0" normalization { layer {} } })";
  const BuiltGraph built = BuildGraph(Spec(text), kCifar);
  ASSERT_TRUE(built.graph.has_value());
  const Graph& graph = *built.graph;
  EXPECT_NE(graph.Find("bn1"), nullptr);
  EXPECT_EQ(std::get<GroupNormNode>(graph.Find("layer1.0.gn1")->kind).groups, 4);
  EXPECT_EQ(graph.Find("layer2.0.gn1"), nullptr);
  EXPECT_NE(FindParameter(graph, "layer2.0.conv1.bias"), nullptr);
  EXPECT_EQ(FindParameter(graph, "layer3.0.conv1.bias"), nullptr);
  EXPECT_EQ(std::get<GroupNormNode>(graph.Find("layer2.0.shortcut.1")->kind).groups, 1);
  EXPECT_EQ(built.normalizers.at("bn1").field, "normalization");
  EXPECT_EQ(built.normalizers.at("bn1").layer, "conv1");
  EXPECT_EQ(built.normalizers.at("layer2.0.shortcut.1").field,
            "normalization_overrides[2].normalization");
}

TEST(NormalizerChoiceTest, OverridesThatMatchNothingAreRefused) {
  const std::string text = R"(model { mlp { depth: 2 } }
      normalization_overrides { layers: "fc2" normalization { batch {} } }
      normalization_overrides { layers: "conv*" normalization { batch {} } }
      normalization_overrides { layers: "head" normalization { batch {} } })";
  const BuiltGraph built = BuildGraph(Spec(text), kImages);
  ASSERT_THAT(built.violations, SizeIs(2));
  EXPECT_EQ(built.violations[0].field, "normalization_overrides[1].layers");
  EXPECT_THAT(built.violations[0].description, AllOf(HasSubstr("conv*"), HasSubstr("fc1, fc2")));
  EXPECT_EQ(built.violations[1].field, "normalization_overrides[2].layers") << "has no normalizer";
}

TEST(NormalizerChoiceTest, AnOverrideOfANormalizersNameIsToldTheLayersName) {
  const BuiltGraph built = BuildGraph(Spec(R"(model { resnet {} } normalization { batch {} }
      normalization_overrides { layers: "layer2.0.bn1" normalization { none {} } })"),
                                      kCifar);
  ASSERT_THAT(built.violations, SizeIs(1));
  EXPECT_THAT(built.violations[0].description,
              AllOf(HasSubstr("the normalizer layer2.0.bn1"), HasSubstr("\"layer2.0.conv1\"")));
}

TEST(NormalizerChoiceTest, OfManyLayersTheNearestAreListed) {
  const BuiltGraph built =
      BuildGraph(Spec(R"(model { resnet { depth: 56 } } normalization { batch {} }
      normalization_overrides { layers: "layer2.4.cnv2" normalization { none {} } })"),
                 kCifar);
  ASSERT_THAT(built.violations, SizeIs(1));
  EXPECT_THAT(built.violations[0].description,
              AllOf(HasSubstr("layer2.4.conv2"), HasSubstr(", ...")));
}

TEST(NormalizerChoiceTest, ZeroInitNeedsAGamma) {
  const BuiltGraph built = BuildGraph(
      Spec("model { resnet { zero_init_last_gamma: true } } normalization { mean_only_batch {} }"),
      kCifar);
  ASSERT_THAT(built.violations, SizeIs(1));
  EXPECT_EQ(built.violations[0].field, "model.resnet.zero_init_last_gamma");
  EXPECT_THAT(built.violations[0].description, HasSubstr("layer1.0.conv2"));
}

}  // namespace
}  // namespace normlab::engine
