#include "client/cli/net_view.h"

#include <string>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace normlab::client {
namespace {

v1::JobSpec Parse(const std::string& text) {
  v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec)) << text;
  return spec;
}

std::string Net(const std::string& model) {
  return FormatNet(Parse("model { " + model + " }").model());
}

std::string WholeModel(const std::string& model) {
  return FormatModel(Parse("model { " + model + " }").model());
}

std::string Normalization(const std::string& text) {
  return FormatNormalization(Parse("normalization { " + text + " }").normalization());
}

TEST(NetViewTest, Networks) {
  EXPECT_EQ(Net(""), "-");
  EXPECT_EQ(Net("mlp {}"), "mlp 100x3");
  EXPECT_EQ(Net("mlp { depth: 0 }"), "mlp linear");
  EXPECT_EQ(Net("mlp { hidden: [256, 128, 64] }"), "mlp 256-128-64");
  EXPECT_EQ(Net("mlp { depth: 20 width: 64 skip_connections: true }"), "mlp 64x20 skips");
  EXPECT_EQ(Net("cnn {}"), "cnn");
  EXPECT_EQ(Net("deep_linear {}"), "deep linear 10x25");
  EXPECT_EQ(Net("deep_linear { depth: 7 width: 3 }"), "deep linear 3x7");
  EXPECT_EQ(Net("vgg {}"), "vgg-16");
  EXPECT_EQ(Net("vgg { depth: 11 width_multiplier: 0.5 }"), "vgg-11 x0.5");
  EXPECT_EQ(Net("resnet { width_multiplier: 1 }"), "resnet-20");
  EXPECT_EQ(Net("resnet { depth: 56 skip_connections: false }"), "resnet-56 no skips");
  EXPECT_EQ(Net("custom { layers {} layers {} }"), "custom, 2 layers");
}

TEST(NetViewTest, NetworksWithTheirActivations) {
  EXPECT_EQ(WholeModel("mlp { activation: SIGMOID }"), "mlp 100x3, sigmoid");
  EXPECT_EQ(WholeModel("vgg { activation: LEAKY_RELU }"), "vgg-16, leaky_relu");
  EXPECT_EQ(WholeModel("resnet { shortcut: ZERO_PAD zero_init_last_gamma: true }"),
            "resnet-20, relu, zero-padded shortcuts, last gammas from 0");
  EXPECT_EQ(WholeModel("deep_linear {}"), "deep linear 10x25");
  EXPECT_EQ(WholeModel("custom {}"), "custom, 0 layers");
  EXPECT_EQ(WholeModel(""), "-");
}

TEST(NetViewTest, Normalizers) {
  EXPECT_EQ(Normalization(""), "none");
  EXPECT_EQ(Normalization("none {}"), "none");
  EXPECT_EQ(Normalization("batch {}"), "batch");
  EXPECT_EQ(Normalization("group {}"), "group");
  EXPECT_EQ(Normalization("group { groups: 8 }"), "group 8");
  EXPECT_EQ(Normalization("weight_standardization { groups: 4 }"), "weight_standardization 4");
  EXPECT_EQ(Normalization("ghost_batch { ghost_size: 16 }"), "ghost_batch 16");
  EXPECT_EQ(Normalization("weight { mean_only_batch_norm: true }"), "weight with mean_only_batch");
  EXPECT_EQ(Normalization("noisy_batch { normalize: false }"), "noisy_batch noise only");
  EXPECT_EQ(Normalization("layer {} placement: AFTER_ACTIVATION"), "layer after activation");
  EXPECT_EQ(Normalization("fixup {}"), "fixup");
}

TEST(NetViewTest, Overrides) {
  EXPECT_EQ(FormatNormalizations(Parse("")), "none");
  EXPECT_EQ(FormatNormalizations(Parse(R"(normalization { batch {} }
      normalization_overrides { layers: "layer2.*" normalization { group { groups: 8 } } }
      normalization_overrides { layers: "fc\0331" normalization { none {} } })")),
            "batch; layer2.*: group 8; fc?1: none");
}

}  // namespace
}  // namespace normlab::client
