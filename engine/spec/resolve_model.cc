#include <string>
#include <vector>

#include "engine/spec/custom_names.h"
#include "engine/spec/limits.h"
#include "engine/spec/resolve_parts.h"

namespace normlab::engine {
namespace {

constexpr int32_t kDefaultDepth = 3;
constexpr int32_t kDefaultWidth = 100;
constexpr int32_t kDefaultKernel = 3;
constexpr int32_t kDefaultWindow = 2;
constexpr int32_t kDefaultBlockChannels[] = {16, 32};

constexpr int32_t kDefaultLinearDepth = 25;
constexpr int32_t kDefaultLinearWidth = 10;
constexpr int32_t kDefaultVggDepth = 16;
constexpr int32_t kDefaultResNetDepth = 20;

template <typename Message>
void ResolveActivation(Message& message) {
  if (message.activation() == v1::Activation::ACTIVATION_UNSPECIFIED) {
    message.set_activation(v1::Activation::RELU);
  }
}

template <typename Message>
void ResolveWindow(Message& message) {
  if (!message.has_kernel()) {
    message.set_kernel(kDefaultKernel);
  }
  if (!message.has_stride()) {
    message.set_stride(1);
  }
  if (!message.has_padding()) {
    message.set_padding(message.kernel() / 2);
  }
}

void ResolveMlp(v1::Mlp& mlp) {
  const int32_t depth = mlp.has_depth() ? mlp.depth() : kDefaultDepth;
  const int32_t width = mlp.has_width() ? mlp.width() : kDefaultWidth;
  if (mlp.hidden().empty() && depth <= kMaxDenseDepth) {
    for (int32_t i = 0; i < depth; ++i) {
      mlp.add_hidden(width);
    }
  }
  // `hidden` says it all now; depth stays beside it, because an empty list alone would mean the
  // default depth.
  mlp.set_depth(mlp.hidden().empty() ? depth : mlp.hidden_size());
  mlp.clear_width();
  ResolveActivation(mlp);
}

void ResolvePooling(v1::Pooling& pooling) {
  if (pooling.kind() == v1::Pooling::KIND_UNSPECIFIED) {
    pooling.set_kind(v1::Pooling::MAX);
  }
  if (!pooling.has_window()) {
    pooling.set_window(kDefaultWindow);
  }
  if (!pooling.has_stride()) {
    pooling.set_stride(pooling.window());
  }
}

void ResolveCnn(v1::Cnn& cnn) {
  if (cnn.blocks().empty()) {
    for (const int32_t channels : kDefaultBlockChannels) {
      v1::ConvolutionBlock& block = *cnn.add_blocks();
      block.set_channels(channels);
      block.mutable_pooling();
    }
  }
  for (v1::ConvolutionBlock& block : *cnn.mutable_blocks()) {
    ResolveWindow(block);
    if (block.has_pooling()) {
      ResolvePooling(*block.mutable_pooling());
    }
  }
  ResolveActivation(cnn);
}

void ResolveDeepLinear(v1::DeepLinear& linear) {
  if (!linear.has_depth()) {
    linear.set_depth(kDefaultLinearDepth);
  }
  if (!linear.has_width()) {
    linear.set_width(kDefaultLinearWidth);
  }
}

template <typename Message>
void ResolveDepthAndWidth(Message& message, int32_t depth) {
  if (!message.has_depth()) {
    message.set_depth(depth);
  }
  if (!message.has_width_multiplier()) {
    message.set_width_multiplier(1);
  }
  ResolveActivation(message);
}

void ResolveResNet(v1::ResNet& resnet) {
  ResolveDepthAndWidth(resnet, kDefaultResNetDepth);
  if (!resnet.has_skip_connections()) {
    resnet.set_skip_connections(true);
  }
  if (resnet.shortcut() == v1::Shortcut::KIND_UNSPECIFIED) {
    resnet.set_shortcut(v1::Shortcut::PROJECTION);
  }
}

void ResolveCustomModel(v1::CustomModel& custom) {
  const std::vector<std::string> names = CustomLayerNames(custom);
  for (int i = 0; i < custom.layers_size(); ++i) {
    v1::CustomLayer& layer = *custom.mutable_layers(i);
    layer.set_name(names[static_cast<size_t>(i)]);
    if (layer.inputs().empty()) {
      layer.add_inputs(i == 0 ? kInputName : names[static_cast<size_t>(i) - 1]);
    }
    if (layer.has_convolution()) {
      ResolveWindow(*layer.mutable_convolution());
      if (!layer.convolution().has_groups()) {
        layer.mutable_convolution()->set_groups(1);
      }
    } else if (layer.has_pooling()) {
      ResolvePooling(*layer.mutable_pooling());
    } else if (layer.has_activation() &&
               layer.activation().kind() == v1::Activation::ACTIVATION_UNSPECIFIED) {
      layer.mutable_activation()->set_kind(v1::Activation::RELU);
    }
  }
}

}  // namespace

void ResolveModel(v1::Model& model) {
  switch (model.kind_case()) {
    case v1::Model::kMlp:
      ResolveMlp(*model.mutable_mlp());
      break;
    case v1::Model::kCnn:
      ResolveCnn(*model.mutable_cnn());
      break;
    case v1::Model::kDeepLinear:
      ResolveDeepLinear(*model.mutable_deep_linear());
      break;
    case v1::Model::kVgg:
      ResolveDepthAndWidth(*model.mutable_vgg(), kDefaultVggDepth);
      break;
    case v1::Model::kResnet:
      ResolveResNet(*model.mutable_resnet());
      break;
    case v1::Model::kCustom:
      ResolveCustomModel(*model.mutable_custom());
      break;
    case v1::Model::KIND_NOT_SET:
      break;
  }
}

}  // namespace normlab::engine
