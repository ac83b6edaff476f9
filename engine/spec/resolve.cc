#include "engine/spec/resolve.h"

#include "engine/spec/limits.h"

namespace normlab::engine {
namespace {

constexpr int32_t kDefaultDepth = 3;
constexpr int32_t kDefaultWidth = 100;
constexpr int32_t kDefaultKernel = 3;
constexpr int32_t kDefaultWindow = 2;
constexpr int32_t kDefaultBlockChannels[] = {16, 32};
constexpr double kDefaultEpsilon = 1e-5;
constexpr double kDefaultRunningUpdateRate = 0.1;
constexpr double kDefaultLearningRate = 0.1;
constexpr int32_t kDefaultBatchSize = 64;
constexpr int32_t kDefaultEvaluationBatchSize = 256;

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

void ResolveNormalization(v1::Normalization& normalization) {
  if (!normalization.has_batch()) {
    normalization.mutable_none();
    return;
  }
  v1::BatchNorm& batch = *normalization.mutable_batch();
  if (!batch.has_epsilon()) {
    batch.set_epsilon(kDefaultEpsilon);
  }
  if (!batch.has_running_update_rate()) {
    batch.set_running_update_rate(kDefaultRunningUpdateRate);
  }
  if (!batch.has_affine()) {
    batch.set_affine(true);
  }
}

void ResolveData(v1::Data& data) {
  if (data.has_fashion_mnist() && data.fashion_mnist().path().empty()) {
    data.mutable_fashion_mnist()->set_path("fashion-mnist");
  }
  if (data.has_mnist() && data.mnist().path().empty()) {
    data.mutable_mnist()->set_path("mnist");
  }
  if (data.scaling() == v1::Scaling::KIND_UNSPECIFIED) {
    data.set_scaling(v1::Scaling::STANDARDIZE);
  }
  if (data.last_batch() == v1::LastBatch::KIND_UNSPECIFIED) {
    data.set_last_batch(v1::LastBatch::DROP);
  }
  if (!data.has_shuffle()) {
    data.set_shuffle(true);
  }
}

void ResolveEvaluation(v1::Evaluation& evaluation) {
  if (!evaluation.has_every_epochs()) {
    evaluation.set_every_epochs(evaluation.every_steps() > 0 ? 0 : 1);
  }
  if (!evaluation.has_batch_size()) {
    evaluation.set_batch_size(kDefaultEvaluationBatchSize);
  }
}

}  // namespace

v1::JobSpec Resolve(const v1::JobSpec& spec) {
  v1::JobSpec resolved = spec;
  if (resolved.model().has_mlp()) {
    ResolveMlp(*resolved.mutable_model()->mutable_mlp());
  } else if (resolved.model().has_cnn()) {
    ResolveCnn(*resolved.mutable_model()->mutable_cnn());
  }
  ResolveNormalization(*resolved.mutable_normalization());
  if (resolved.has_data()) {
    ResolveData(*resolved.mutable_data());
  }
  v1::Initializer& initializer = *resolved.mutable_initializer();
  if (initializer.kind_case() == v1::Initializer::KIND_NOT_SET) {
    initializer.mutable_pytorch_default();
  }
  if (!initializer.has_scale()) {
    initializer.set_scale(1.0);
  }
  v1::Sgd& sgd = *resolved.mutable_optimizer()->mutable_sgd();
  if (!sgd.has_learning_rate()) {
    sgd.set_learning_rate(kDefaultLearningRate);
  }
  if (!resolved.has_batch_size()) {
    resolved.set_batch_size(kDefaultBatchSize);
  }
  if (resolved.budget_case() == v1::JobSpec::BUDGET_NOT_SET) {
    resolved.set_epochs(1);
  }
  ResolveEvaluation(*resolved.mutable_evaluation());
  resolved.mutable_checkpoint();
  if (!resolved.has_threads()) {
    resolved.set_threads(1);
  }
  if (resolved.precision() == v1::Precision::KIND_UNSPECIFIED) {
    resolved.set_precision(v1::Precision::F32);
  }
  if (resolved.convolution_algorithm() == v1::ConvolutionAlgorithm::KIND_UNSPECIFIED) {
    resolved.set_convolution_algorithm(v1::ConvolutionAlgorithm::AUTO);
  }
  return resolved;
}

}  // namespace normlab::engine
