#include <cmath>

#include "absl/strings/str_cat.h"

#include "engine/models/families.h"

namespace normlab::engine {
namespace {

constexpr int64_t kImageSize = 32;
constexpr int64_t kFirstChannels = 16;
constexpr int kStages = 3;
constexpr char kField[] = "model.resnet";

class ResNetBuilder {
 public:
  ResNetBuilder(const v1::ResNet& model, NetworkBuilder& builder)
      : model_(model),
        builder_(builder),
        activation_(ToActivationKind(model.activation())),
        fixup_(builder.normalization().has_fixup()),
        blocks_((model.depth() - 2) / (2 * kStages)) {}

  void Build() {
    builder_.PadImages(kImageSize);
    const NormalizerChoice choice = builder_.Choose("conv1");
    AddConvolution("conv1", Channels(1), /*stride=*/1, choice);
    AddScalarBias("bias1");
    AddNormalizerAndActivation(choice, "", "1");
    for (int stage = 1; stage <= kStages; ++stage) {
      for (int block = 0; block < blocks_; ++block) {
        const int64_t stride = stage > 1 && block == 0 ? 2 : 1;
        AddBlock(absl::StrCat("layer", stage, ".", block, "."), Channels(stage), stride);
      }
    }
    builder_.Add(kField, "avgpool", GlobalAveragePoolNode{});
    AddScalarBias("bias2");
    LinearNode fc = {.out = builder_.outputs(), .bias = true};
    fc.weights.initial_scale = fixup_ ? 0 : 1;
    builder_.Add(kField, "fc", fc);
  }

 private:
  int64_t Channels(int stage) const {
    return ScaledChannels(kFirstChannels << (stage - 1), model_.width_multiplier());
  }

  // Activation(branch(x) + shortcut(x)).
  void AddBlock(const std::string& prefix, int64_t channels, int64_t stride) {
    const std::string x = builder_.current();
    const int64_t in_channels = builder_.current_dims()[0];
    AddScalarBias(prefix + "bias1a");
    const std::string biased_x = builder_.current();
    const NormalizerChoice first = builder_.Choose(prefix + "conv1");
    // L^(-1/(2m-2)) with m = 2 convolutions in each of the L branches.
    AddConvolution(prefix + "conv1", channels, stride, first,
                   fixup_ ? 1 / std::sqrt(static_cast<double>(kStages * blocks_)) : 1);
    AddScalarBias(prefix + "bias1b");
    AddNormalizerAndActivation(first, prefix, "1");
    AddScalarBias(prefix + "bias2a");
    if (!model_.skip_connections()) {
      const NormalizerChoice second = builder_.Choose(prefix + "conv2");
      AddConvolution(prefix + "conv2", channels, /*stride=*/1, second);
      AddNormalizerAndActivation(second, prefix, "2");
      return;
    }
    FinishBranch(prefix, channels);
    const std::string branch = builder_.current();
    const bool same = stride == 1 && channels == in_channels;
    const std::string shortcut = same ? x : AddShortcut(prefix, biased_x, channels, stride);
    builder_.Add(kField, prefix + "add", AddNode{}, {branch, shortcut});
    builder_.AddActivation(prefix + "act2", activation_);
  }

  // From the second convolution to the sum.
  void FinishBranch(const std::string& prefix, int64_t channels) {
    const std::string name = prefix + "conv2";
    NormalizerChoice choice = builder_.Choose(name);
    choice.after_activation = false;  // the activation comes after the sum
    AddConvolution(name, channels, /*stride=*/1, choice, fixup_ ? 0 : 1);
    if (model_.zero_init_last_gamma() && !choice.traits.has_gamma && builder_.ok()) {
      builder_.Fail(
          absl::StrCat(kField, ".zero_init_last_gamma"),
          absl::StrCat("is true, but the normalizer of layer ", name, " (", choice.origin.field,
                       ") has no gamma; use one that has, or leave this out"));
    }
    if (choice.traits.prefix != nullptr) {
      builder_.AddNormalizer(choice, absl::StrCat(prefix, choice.traits.prefix, "2"),
                             model_.zero_init_last_gamma() ? 0.0F : 1.0F);
    }
    const v1::Normalizer& scheme = builder_.normalization();
    if (fixup_ || scheme.has_skip_init()) {
      builder_.Add(
          kField, prefix + "scale",
          ScaleNode{.initial =
                        fixup_ ? 1.0F : static_cast<float>(scheme.skip_init().initial_scale())});
    }
    AddScalarBias(prefix + "bias2b");
  }

  // Returns the shortcut's last node.
  std::string AddShortcut(const std::string& prefix,
                          const std::string& from,
                          int64_t channels,
                          int64_t stride) {
    if (model_.shortcut() == v1::Shortcut::ZERO_PAD) {
      builder_.Add(kField, prefix + "shortcut",
                   SubsampleNode{.stride = stride, .out_channels = channels}, {from});
      return builder_.current();
    }
    const std::string name = prefix + "shortcut.0";
    NormalizerChoice choice = builder_.Choose(name);
    choice.after_activation = false;
    builder_.set_current(from);
    builder_.AddConvolution(kField, name,
                            {.out_channels = channels, .kernel = 1, .stride = stride, .padding = 0},
                            choice, activation_);
    builder_.AddNormalizer(choice, prefix + "shortcut.1");
    return builder_.current();
  }

  void AddConvolution(const std::string& name,
                      int64_t channels,
                      int64_t stride,
                      const NormalizerChoice& choice,
                      double initial_scale = 1) {
    ConvNode node = {.out_channels = channels, .stride = stride};
    node.weights.initial_scale = initial_scale;
    builder_.AddConvolution(kField, name, node, choice, activation_);
  }

  void AddScalarBias(const std::string& name) {
    if (fixup_) {
      builder_.Add(kField, name, ScalarBiasNode{});
    }
  }

  void AddNormalizerAndActivation(const NormalizerChoice& choice,
                                  const std::string& prefix,
                                  const std::string& number) {
    builder_.AddNormalizerAndActivation(choice, activation_, [&](absl::string_view kind) {
      return absl::StrCat(prefix, kind, number);
    });
  }

  const v1::ResNet& model_;
  NetworkBuilder& builder_;
  const ActivationKind activation_;
  const bool fixup_;
  const int blocks_;  // of a stage
};

}  // namespace

void BuildResNet(const v1::ResNet& model, NetworkBuilder& builder) {
  if (builder.RequireImages("resnet")) {
    ResNetBuilder(model, builder).Build();
  }
}

}  // namespace normlab::engine
