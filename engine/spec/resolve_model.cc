#include "engine/spec/limits.h"
#include "engine/spec/resolve_parts.h"

namespace normlab::engine {
namespace {

constexpr int32_t kDefaultDepth = 3;
constexpr int32_t kDefaultWidth = 100;
constexpr int32_t kDefaultKernel = 3;
constexpr int32_t kDefaultWindow = 2;
constexpr int32_t kDefaultBlockChannels[] = {16, 32};

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
  if (mlp.activation() == v1::Activation::ACTIVATION_UNSPECIFIED) {
    mlp.set_activation(v1::Activation::RELU);
  }
}

void ResolveBlock(v1::ConvolutionBlock& block) {
  if (!block.has_kernel()) {
    block.set_kernel(kDefaultKernel);
  }
  if (!block.has_stride()) {
    block.set_stride(1);
  }
  if (!block.has_padding()) {
    block.set_padding(block.kernel() / 2);
  }
  if (!block.has_pooling()) {
    return;
  }
  v1::Pooling& pooling = *block.mutable_pooling();
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
    ResolveBlock(block);
  }
  if (cnn.activation() == v1::Activation::ACTIVATION_UNSPECIFIED) {
    cnn.set_activation(v1::Activation::RELU);
  }
}

}  // namespace

void ResolveModel(v1::Model& model) {
  if (model.has_mlp()) {
    ResolveMlp(*model.mutable_mlp());
  } else if (model.has_cnn()) {
    ResolveCnn(*model.mutable_cnn());
  }
}

}  // namespace normlab::engine
