#include "absl/strings/str_cat.h"

#include "engine/models/families.h"

namespace normlab::engine {
namespace {

// Numbers the layers of a network without branches.
class Sequence {
 public:
  Sequence(NetworkBuilder& builder, ActivationKind activation)
      : builder_(builder), activation_(activation) {}

  void AddBlock(const std::string& field, const v1::ConvolutionBlock& block) {
    const std::string name = absl::StrCat("conv", ++convolutions_);
    const NormalizerChoice choice = builder_.Choose(name);
    builder_.AddConvolution(absl::StrCat(field, ".kernel"), name,
                            {.out_channels = block.channels(),
                             .kernel = block.kernel(),
                             .stride = block.stride(),
                             .padding = block.padding()},
                            choice, activation_);
    AddNormalizerAndActivation(choice);
    if (block.has_pooling()) {
      builder_.Add(absl::StrCat(field, ".pooling.window"), absl::StrCat("pool", ++pools_),
                   ToPoolNode(block.pooling()));
    }
  }

  void AddHidden(const std::string& field,
                 const google::protobuf::RepeatedField<int32_t>& hidden,
                 bool skip_connections) {
    builder_.Flatten(field);
    std::string sum;
    for (int i = 0; i < hidden.size(); ++i) {
      const std::string layer_field = absl::StrCat(field, "[", i, "]");
      const std::string name = absl::StrCat("fc", i + 1);
      const NormalizerChoice choice = builder_.Choose(name);
      builder_.AddLinear(layer_field, name, hidden.Get(i), choice, activation_);
      if (skip_connections) {
        if (i > 0) {
          builder_.Add(layer_field, absl::StrCat("add", i + 1), AddNode{}, {name, sum});
        }
        sum = builder_.current();
      }
      AddNormalizerAndActivation(choice);
    }
    builder_.Add(field, "head", LinearNode{.out = builder_.outputs(), .bias = true});
  }

 private:
  void AddNormalizerAndActivation(const NormalizerChoice& choice) {
    const int number = ++weight_layers_;
    builder_.AddNormalizerAndActivation(choice, activation_, [number](absl::string_view kind) {
      return absl::StrCat(kind, number);
    });
  }

  NetworkBuilder& builder_;
  const ActivationKind activation_;
  int convolutions_ = 0;
  int pools_ = 0;
  int weight_layers_ = 0;
};

}  // namespace

void BuildMlp(const v1::Mlp& model, NetworkBuilder& builder) {
  Sequence(builder, ToActivationKind(model.activation()))
      .AddHidden("model.mlp.hidden", model.hidden(), model.skip_connections());
}

void BuildCnn(const v1::Cnn& model, NetworkBuilder& builder) {
  if (!builder.RequireImages("cnn")) {
    return;
  }
  Sequence sequence(builder, ToActivationKind(model.activation()));
  for (int i = 0; i < model.blocks_size(); ++i) {
    sequence.AddBlock(absl::StrCat("model.cnn.blocks[", i, "]"), model.blocks(i));
  }
  sequence.AddHidden("model.cnn.hidden", model.hidden(), /*skip_connections=*/false);
}

void BuildDeepLinear(const v1::DeepLinear& model, NetworkBuilder& builder) {
  const std::string field = "model.deep_linear";
  builder.Flatten(field);
  for (int i = 1; i < model.depth(); ++i) {
    const std::string name = absl::StrCat("fc", i);
    NormalizerChoice choice = builder.Choose(name);
    choice.traits.layer_has_bias &= choice.normalizer->has_weight();
    choice.after_activation = false;  // there is none
    builder.AddLinear(field, name, model.width(), choice, ActivationKind::kIdentity);
    builder.AddNormalizerAndActivation(
        choice, ActivationKind::kIdentity,
        [i](absl::string_view kind) { return absl::StrCat(kind, i); });
  }
  builder.Add(field, "head", LinearNode{.out = builder.outputs(), .bias = false});
}

}  // namespace normlab::engine
