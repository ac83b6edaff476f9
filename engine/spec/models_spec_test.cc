// Validate and Resolve of models and normalizers.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "engine/spec/resolve.h"
#include "engine/spec/validate.h"

namespace normlab::engine {
namespace {

using google::protobuf::util::MessageDifferencer;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::JobSpec Parse(const std::string& text) {
  v1::JobSpec spec;
  spec.mutable_data()->mutable_mnist();
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(text, &spec)) << text;
  return spec;
}

auto Says(const std::string& field, const std::string& part) {
  return AllOf(Field(&Violation::field, field), Field(&Violation::description, HasSubstr(part)));
}

// All of a spec that is valid, after and before Resolve.
v1::JobSpec ResolveValid(const std::string& text) {
  const v1::JobSpec spec = Parse(text);
  EXPECT_THAT(Validate(spec), IsEmpty()) << text;
  v1::JobSpec resolved = Resolve(spec);
  EXPECT_THAT(Validate(resolved), IsEmpty()) << text;
  EXPECT_TRUE(MessageDifferencer::Equals(Resolve(resolved), resolved))
      << "not idempotent: " << text;
  return resolved;
}

void ExpectModel(const std::string& model, const std::string& expected) {
  const v1::JobSpec resolved = ResolveValid("model { " + model + " }");
  EXPECT_TRUE(
      MessageDifferencer::Equals(resolved.model(), Parse("model { " + expected + " }").model()))
      << resolved.model().DebugString();
}

TEST(ResolveModelTest, WritesOutTheDefaultsOfEveryFamily) {
  ExpectModel("deep_linear {}", "deep_linear { depth: 25 width: 10 }");
  ExpectModel("vgg {}", "vgg { depth: 16 width_multiplier: 1 activation: RELU }");
  ExpectModel("resnet {}",
              "resnet { depth: 20 width_multiplier: 1 activation: RELU skip_connections: true "
              "shortcut: PROJECTION }");
  ExpectModel("resnet { depth: 110 skip_connections: false shortcut: ZERO_PAD activation: SELU }",
              "resnet { depth: 110 width_multiplier: 1 activation: SELU skip_connections: false "
              "shortcut: ZERO_PAD }");
  ExpectModel("mlp { depth: 2 width: 5 skip_connections: true }",
              "mlp { hidden: [5, 5] depth: 2 activation: RELU skip_connections: true }");
}

TEST(ResolveModelTest, NamesAndLinksTheLayersOfACustomModel) {
  ExpectModel(R"(custom {
      layers { convolution { channels: 3 kernel: 5 } }
      layers { name: "conv2" normalizer {} }
      layers { activation {} }
      layers { convolution { channels: 3 bias: true } }
      layers { name: "sum" inputs: ["conv3", "act1"] add {} }
      layers { pooling { kind: AVERAGE } }
      layers { global_average_pooling {} }
      layers { flatten {} }
      layers { linear { outputs: 10 } } })",
              R"(custom {
      layers { name: "conv1" inputs: "input"
               convolution { channels: 3 kernel: 5 stride: 1 padding: 2 groups: 1 } }
      layers { name: "conv2" inputs: "conv1" normalizer {} }
      layers { name: "act1" inputs: "conv2" activation { kind: RELU } }
      layers { name: "conv3" inputs: "act1"
               convolution { channels: 3 kernel: 3 stride: 1 padding: 1 groups: 1 bias: true } }
      layers { name: "sum" inputs: ["conv3", "act1"] add {} }
      layers { name: "pool1" inputs: "sum" pooling { kind: AVERAGE window: 2 stride: 2 } }
      layers { name: "avgpool1" inputs: "pool1" global_average_pooling {} }
      layers { name: "flatten1" inputs: "avgpool1" flatten {} }
      layers { name: "fc1" inputs: "flatten1" linear { outputs: 10 } })"
              "}");
}

TEST(ResolveNormalizerTest, WritesOutTheDefaultsOfEveryKind) {
  const std::string before = " placement: BEFORE_ACTIVATION";
  const std::string batch = "epsilon: 1e-5 running_update_rate: 0.1 affine: true";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"none {}", "none {}"},
      {"batch {}", "batch { " + batch + " }" + before},
      {"noisy_batch {}", "noisy_batch { " + batch +
                             " mean_range: 0.5 deviation_range: 1.25 mean_jitter: 0.1 "
                             "deviation_jitter: 0.1 normalize: true }" +
                             before},
      {"layer {}", "layer { epsilon: 1e-5 affine: true }" + before},
      {"group {}", "group { epsilon: 1e-5 affine: true }" + before},
      {"group { groups: 4 }", "group { epsilon: 1e-5 affine: true groups: 4 }" + before},
      {"instance {}", "instance { epsilon: 1e-5 affine: true }" + before},
      {"weight {}", "weight { data_dependent_init: true }"},
      {"weight { mean_only_batch_norm: true }",
       "weight { data_dependent_init: true mean_only_batch_norm: true }"},
      {"rms {}", "rms { epsilon: 1e-5 affine: true }" + before},
      {"weight_standardization {}",
       "weight_standardization { epsilon: 1e-5 affine: true group_norm: true }" + before},
      {"weight_standardization { group_norm: false }",
       "weight_standardization { epsilon: 1e-5 affine: true group_norm: false }"},
      {"batch_renorm {}", "batch_renorm { " + batch + " r_max: 3 d_max: 5 }" + before},
      {"ghost_batch {}", "ghost_batch { " + batch + " ghost_size: 32 }" + before},
      {"l1_batch {}", "l1_batch { " + batch + " }" + before},
      {"l2_batch {}", "l2_batch { " + batch + " }" + before},
      {"linf_batch {}", "linf_batch { " + batch + " }" + before},
      {"filter_response {}", "filter_response { epsilon: 1e-6 }"},
      {"dyt {}", "dyt { initial_alpha: 0.5 affine: true }" + before},
      {"mean_only_batch {}", "mean_only_batch { running_update_rate: 0.1 affine: true }" + before},
      {"frozen_batch {}", "frozen_batch { epsilon: 1e-5 affine: true }" + before},
      {"fixup {}", "fixup {}"},
      {"skip_init {}", "skip_init {}"}};
  for (const auto& [text, expected] : cases) {
    const v1::JobSpec resolved = ResolveValid("model { resnet {} } normalization { " + text + " }");
    EXPECT_TRUE(MessageDifferencer::Equals(
        resolved.normalization(), Parse("normalization { " + expected + " }").normalization()))
        << resolved.normalization().DebugString();
  }
  const auto* kinds = v1::Normalizer::descriptor()->FindOneofByName("kind");
  EXPECT_EQ(static_cast<size_t>(kinds->field_count()) + 3, cases.size())
      << "a kind is missing here (three kinds are here twice)";
}

TEST(ResolveNormalizerTest, GhostBatchesAreNotLargerThanBatchesAndOverridesAreResolved) {
  const v1::JobSpec resolved = ResolveValid(
      "model { mlp {} } batch_size: 12 normalization { ghost_batch {} placement: AFTER_ACTIVATION }"
      "normalization_overrides { layers: \"fc*\" normalization { ghost_batch { affine: false } } "
      "}");
  EXPECT_EQ(resolved.normalization().ghost_batch().ghost_size(), 12);
  EXPECT_EQ(resolved.normalization().placement(), v1::Placement::AFTER_ACTIVATION);
  const v1::GhostBatchNorm& ghost =
      resolved.normalization_overrides(0).normalization().ghost_batch();
  EXPECT_EQ(ghost.ghost_size(), 12);
  EXPECT_FALSE(ghost.affine());
  EXPECT_EQ(Resolve(resolved.normalization(), 7).ghost_batch().ghost_size(), 12) << "stays";
}

TEST(ValidateModelTest, FamiliesNameTheirDepthsAndRanges) {
  EXPECT_THAT(Validate(Parse("model { vgg { depth: 12 width_multiplier: 0 } }")),
              ElementsAre(Says("model.vgg.depth", "is 12, but must be one of 11, 13, 16, 19"),
                          Says("model.vgg.width_multiplier", "(0, 8]")));
  EXPECT_THAT(Validate(Parse("model { resnet { depth: 18 width_multiplier: 8.5 } }")),
              ElementsAre(Says("model.resnet.depth", "20, 32, 44, 56, 110"),
                          Says("model.resnet.width_multiplier", "8.5")));
  EXPECT_THAT(Validate(Parse("model { deep_linear { depth: 0 width: -1 } }")),
              ElementsAre(Says("model.deep_linear.depth", "from 1 to"),
                          Says("model.deep_linear.width", "from 1 to")));
  v1::JobSpec spec = Parse("model { resnet {} }");
  spec.mutable_model()->mutable_resnet()->set_shortcut(static_cast<v1::Shortcut::Kind>(7));
  EXPECT_THAT(Validate(spec), ElementsAre(Says("model.resnet.shortcut", "PROJECTION, ZERO_PAD")));
}

TEST(ValidateModelTest, ContradictionsAreRefused) {
  EXPECT_THAT(Validate(Parse("model { mlp { hidden: [5, 5, 6] skip_connections: true } }")),
              ElementsAre(Says("model.mlp.skip_connections", "widths 5 and 6")));
  EXPECT_THAT(
      Validate(Parse("model { resnet { skip_connections: false zero_init_last_gamma: true } }")),
      ElementsAre(Says("model.resnet.zero_init_last_gamma", "skip_connections is false")));
  EXPECT_THAT(Validate(Parse("model { vgg {} } normalization { fixup {} }")),
              ElementsAre(Says("normalization.fixup", "is no resnet")));
  EXPECT_THAT(Validate(Parse("model { resnet { skip_connections: false } }"
                             "normalization { skip_init {} }")),
              ElementsAre(Says("normalization.skip_init", "no skip connections")));
}

TEST(ValidateModelTest, CustomLayersAreChecked) {
  EXPECT_THAT(Validate(Parse("model { custom {} }")),
              ElementsAre(Says("model.custom.layers", "1 to 2000")));
  EXPECT_THAT(Validate(Parse(R"(model { custom {
      layers { name: "a b" linear {} }
      layers { name: "input" inputs: "later" activation {} }
      layers { name: "later" inputs: ["input", "fc1"] flatten {} }
      layers { name: "later" add {} }
      layers { name: "loss" convolution { channels: 0 kernel: 33 groups: 0 } }
      layers {}
      layers { pooling { window: 0 } } } })")),
              ElementsAre(Says("model.custom.layers[0].name", "letters, digits"),
                          Says("model.custom.layers[0].linear.outputs", "from 1 to"),
                          Says("model.custom.layers[1].name", "the network's input"),
                          Says("model.custom.layers[1].inputs[0]", "no earlier layer"),
                          Says("model.custom.layers[2].inputs", "only add has more than one"),
                          Says("model.custom.layers[3].name", "earlier layer's"),
                          Says("model.custom.layers[3].inputs", "add sums 2 to"),
                          Says("model.custom.layers[4].name", "loss"),
                          Says("model.custom.layers[4].convolution.channels", "from 1 to"),
                          Says("model.custom.layers[4].convolution.kernel", "from 1 to"),
                          Says("model.custom.layers[4].convolution.groups", "from 1 to"),
                          Says("model.custom.layers[5]", "has no kind"),
                          Says("model.custom.layers[6].pooling.window", "from 1 to")));
  // Names that are given by default can be read.
  EXPECT_THAT(Validate(Parse(R"(model { custom {
      layers { linear { outputs: 3 } } layers { linear { outputs: 3 } }
      layers { inputs: ["fc1", "fc2"] add {} } } })")),
              IsEmpty());
}

TEST(ValidateNormalizerTest, RangesOfEveryKind) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {"batch { epsilon: -1 running_update_rate: 0 }",
       {"batch.epsilon", "batch.running_update_rate"}},
      {"noisy_batch { epsilon: nan running_update_rate: 2 mean_range: -1 deviation_range: 0.5 "
       "mean_jitter: -1 deviation_jitter: inf }",
       {"noisy_batch.epsilon", "noisy_batch.running_update_rate", "noisy_batch.mean_range",
        "noisy_batch.deviation_range", "noisy_batch.mean_jitter", "noisy_batch.deviation_jitter"}},
      {"layer { epsilon: -1 }", {"layer.epsilon"}},
      {"group { epsilon: -1 groups: 0 }", {"group.epsilon", "group.groups"}},
      {"instance { epsilon: inf }", {"instance.epsilon"}},
      {"rms { epsilon: -1e-9 }", {"rms.epsilon"}},
      {"weight_standardization { epsilon: -1 groups: -4 }",
       {"weight_standardization.epsilon", "weight_standardization.groups"}},
      {"batch_renorm { epsilon: -1 running_update_rate: -1 r_max: 0.5 d_max: -1 }",
       {"batch_renorm.epsilon", "batch_renorm.running_update_rate", "batch_renorm.r_max",
        "batch_renorm.d_max"}},
      {"ghost_batch { epsilon: -1 ghost_size: 0 }",
       {"ghost_batch.epsilon", "ghost_batch.ghost_size"}},
      {"l1_batch { epsilon: -1 }", {"l1_batch.epsilon"}},
      {"l2_batch { running_update_rate: 1.5 }", {"l2_batch.running_update_rate"}},
      {"linf_batch { epsilon: -1 }", {"linf_batch.epsilon"}},
      {"filter_response { epsilon: -1 }", {"filter_response.epsilon"}},
      {"dyt { initial_alpha: nan }", {"dyt.initial_alpha"}},
      {"mean_only_batch { running_update_rate: 0 }", {"mean_only_batch.running_update_rate"}},
      {"frozen_batch { epsilon: -1 }", {"frozen_batch.epsilon"}},
      {"skip_init { initial_scale: nan }", {"skip_init.initial_scale"}}};
  for (const auto& [text, fields] : cases) {
    std::vector<std::string> found;
    for (const Violation& violation :
         Validate(Parse("model { resnet {} } normalization { " + text + " }"))) {
      found.push_back(violation.field);
    }
    std::vector<std::string> expected;
    for (const std::string& field : fields) {
      expected.push_back("normalization." + field);
    }
    EXPECT_EQ(found, expected) << text;
  }
  v1::JobSpec spec = Parse("model { mlp {} } normalization { rms {} }");
  spec.mutable_normalization()->set_placement(static_cast<v1::Placement::Kind>(5));
  EXPECT_THAT(Validate(spec), ElementsAre(Says("normalization.placement", "AFTER_ACTIVATION")));
}

TEST(ValidateNormalizerTest, GhostSizeMustDivideTheBatch) {
  const std::string text = "model { mlp {} } normalization { ghost_batch { ";
  EXPECT_THAT(Validate(Parse(text + "ghost_size: 16 } } batch_size: 48")), IsEmpty());
  EXPECT_THAT(Validate(Parse(text + "ghost_size: 20 } } batch_size: 48")),
              ElementsAre(Says("normalization.ghost_batch.ghost_size", "use for example 16")));
  EXPECT_THAT(Validate(Parse(text + "} } batch_size: 100")),
              ElementsAre(Says("normalization.ghost_batch.ghost_size", "is 32 (the default)")));
  EXPECT_THAT(Validate(Parse(text + "ghost_size: 100 } }")),
              ElementsAre(Says("normalization.ghost_batch.ghost_size", "batch size of 64")));
}

TEST(ValidateNormalizerTest, OverridesAreChecked) {
  EXPECT_THAT(Validate(Parse(R"(model { resnet {} }
        normalization_overrides { normalization { batch { epsilon: -1 } } }
        normalization_overrides { layers: "conv1" }
        normalization_overrides { layers: "conv1" normalization { fixup {} } }
        normalization_overrides { layers: "conv1" normalization { skip_init {} } })")),
              ElementsAre(Says("normalization_overrides[0].layers", "is missing"),
                          Says("normalization_overrides[0].normalization.batch.epsilon", "-1"),
                          Says("normalization_overrides[1].normalization", "is missing"),
                          Says("normalization_overrides[2].normalization", "is fixup"),
                          Says("normalization_overrides[3].normalization", "is skip_init")));
  EXPECT_THAT(Validate(Parse(R"(model { resnet {} } normalization { fixup {} }
        normalization_overrides { layers: "conv1" normalization { batch {} } })")),
              ElementsAre(Says("normalization_overrides", "cannot go with fixup")));
}

}  // namespace
}  // namespace normlab::engine
