#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/str_cat.h"

#include "engine/models/families.h"

namespace normlab::engine {
namespace {

bool IsWeightLayer(const v1::CustomLayer& layer) {
  return layer.has_linear() || layer.has_convolution();
}

class CustomBuilder {
 public:
  CustomBuilder(const v1::CustomModel& model, NetworkBuilder& builder)
      : model_(model),
        builder_(builder),
        choices_(static_cast<size_t>(model.layers_size())),
        readers_(choices_.size()) {
    for (int i = 0; i < model.layers_size(); ++i) {
      positions_[model.layers(i).name()] = i;
      for (const std::string& input : model.layers(i).inputs()) {
        if (const auto found = positions_.find(input); found != positions_.end()) {
          readers_[static_cast<size_t>(found->second)].push_back(i);
        }
      }
    }
  }

  void Build() {
    ChooseNormalizers();
    nodes_[kGraphInputName] = kGraphInputName;
    for (int i = 0; i < model_.layers_size() && builder_.ok(); ++i) {
      const v1::CustomLayer& layer = model_.layers(i);
      builder_.set_current(nodes_[layer.inputs(0)]);
      AddLayer(i, layer);
      nodes_[layer.name()] = builder_.current();
    }
    if (builder_.ok() && builder_.current_dims() != Dims{builder_.outputs()}) {
      builder_.Fail(
          Field(model_.layers_size() - 1),
          absl::StrCat("layer ", model_.layers(model_.layers_size() - 1).name(),
                       " is the last and puts out ", DimsToString(builder_.current_dims()),
                       ", but the data have ", builder_.outputs(),
                       " classes or targets; end with a linear layer of so many outputs"));
    }
  }

 private:
  static std::string Field(int position) {
    return absl::StrCat("model.custom.layers[", position, "]");
  }
  const v1::CustomLayer& At(int position) const { return model_.layers(position); }

  // The layer at `position` reads this one first; negative: the network's input.
  int FirstInput(int position) const {
    const auto found = positions_.find(At(position).inputs(0));
    return found == positions_.end() ? -1 : found->second;
  }

  // A choice for every weight layer that has a normalizer and for the normalizers themselves.
  void ChooseNormalizers() {
    for (int i = 0; i < model_.layers_size(); ++i) {
      if (!At(i).has_normalizer()) {
        continue;
      }
      int layer = FirstInput(i);
      while (layer >= 0 && !IsWeightLayer(At(layer))) {
        layer = FirstInput(layer);
      }
      if (layer < 0) {
        // It normalizes the input itself, which overrides may call so.
        choices_[static_cast<size_t>(i)] = builder_.Choose(kGraphInputName);
        continue;
      }
      std::optional<NormalizerChoice>& choice = choices_[static_cast<size_t>(layer)];
      if (!choice.has_value()) {
        choice = builder_.Choose(At(layer).name());
      }
      choices_[static_cast<size_t>(i)] = choice;
    }
  }

  // Of a weight layer, which has a bias unless the spec says otherwise, or only normalizers that
  // make it redundant read it.
  template <typename Message>
  NormalizerChoice ForWeights(int position, const Message& message) const {
    NormalizerChoice choice = choices_[static_cast<size_t>(position)].value_or(NormalizerChoice());
    choice.after_activation = false;  // the order of layers is what it is
    if (message.has_bias()) {
      choice.traits.layer_has_bias = message.bias();
      return choice;
    }
    bool redundant = !readers_[static_cast<size_t>(position)].empty();
    for (const int reader : readers_[static_cast<size_t>(position)]) {
      redundant &= At(reader).has_normalizer() && !choice.traits.layer_has_bias;
    }
    choice.traits.layer_has_bias = !redundant;
    return choice;
  }

  void AddLayer(int position, const v1::CustomLayer& layer) {
    const std::string field = Field(position);
    const std::string& name = layer.name();
    switch (layer.kind_case()) {
      case v1::CustomLayer::kLinear:
        builder_.AddLinear(field, name, layer.linear().outputs(),
                           ForWeights(position, layer.linear()), ActivationKind::kIdentity);
        return;
      case v1::CustomLayer::kConvolution: {
        const v1::ConvolutionLayer& convolution = layer.convolution();
        builder_.AddConvolution(field, name,
                                {.out_channels = convolution.channels(),
                                 .kernel = convolution.kernel(),
                                 .stride = convolution.stride(),
                                 .padding = convolution.padding(),
                                 .groups = convolution.groups()},
                                ForWeights(position, convolution), ActivationKind::kIdentity);
        return;
      }
      case v1::CustomLayer::kNormalizer:
        builder_.AddNormalizer(*choices_[static_cast<size_t>(position)], name);
        return;
      case v1::CustomLayer::kActivation: {
        const int input = FirstInput(position);
        const bool replaced = input >= 0 && At(input).has_normalizer() &&
                              choices_[static_cast<size_t>(input)]->traits.replaces_activation;
        if (!replaced) {
          builder_.Add(field, name,
                       ActivationNode{.kind = ToActivationKind(layer.activation().kind())});
        }
        return;
      }
      case v1::CustomLayer::kPooling:
        builder_.Add(field, name, ToPoolNode(layer.pooling()));
        return;
      case v1::CustomLayer::kGlobalAveragePooling:
        builder_.Add(field, name, GlobalAveragePoolNode{});
        return;
      case v1::CustomLayer::kFlatten:
        builder_.Add(field, name, FlattenNode{});
        return;
      case v1::CustomLayer::kAdd: {
        std::vector<std::string> inputs;
        for (const std::string& input : layer.inputs()) {
          inputs.push_back(nodes_[input]);
        }
        builder_.Add(field, name, AddNode{}, inputs);
        return;
      }
      case v1::CustomLayer::KIND_NOT_SET:  // Validate has refused it
        return;
    }
  }

  const v1::CustomModel& model_;
  NetworkBuilder& builder_;
  std::unordered_map<std::string, int> positions_;
  // The node that computes what a layer's name stands for.
  std::unordered_map<std::string, std::string> nodes_;
  std::vector<std::optional<NormalizerChoice>> choices_;
  std::vector<std::vector<int>> readers_;
};

}  // namespace

void BuildCustom(const v1::CustomModel& model, NetworkBuilder& builder) {
  CustomBuilder(model, builder).Build();
}

}  // namespace normlab::engine
