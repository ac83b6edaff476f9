#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

// The kinds of layers, as plain data: what a network consists of, without any means to compute it.
namespace normlab::engine {

// Sizes of one example, without the batch dimension: [C, H, W] for images, [D] for dense features.
using Dims = std::vector<int64_t>;

// Leaky ReLU has slope 0.01 below 0, ELU alpha 1; GELU is x Phi(x), SiLU x sigmoid(x).
enum class ActivationKind {
  kIdentity,
  kRelu,
  kSigmoid,
  kTanh,
  kLeakyRelu,
  kElu,
  kSelu,
  kGelu,
  kSilu,
};

enum class PoolKind { kMax, kAverage };

// How the weights that are used follow from the parameters.
enum class WeightTransform {
  kNone,
  kWeightNorm,       // g v / |v| per output; parameters weight_v and weight_g
  kStandardization,  // (w - mean) / (std + 1e-5) per output, std unbiased
};

// What linear layers and convolutions have in common.
struct WeightOptions {
  WeightTransform transform = WeightTransform::kNone;
  // Weight norm: g and the bias follow from the first batch (Salimans and Kingma 2016).
  bool data_dependent_init = false;
  // Multiplies the initial weights; 0: they start at 0 (Fixup).
  double initial_scale = 1;
};

// y = W x + b; weight [out, in], bias [out].
struct LinearNode {
  int64_t out = 0;
  bool bias = true;
  WeightOptions weights;
};

// Square kernel; weight [O, I/groups, KH, KW], bias [O].
struct ConvNode {
  int64_t out_channels = 0;
  int64_t kernel = 3;
  int64_t stride = 1;
  int64_t padding = 1;
  bool bias = true;
  int64_t groups = 1;
  WeightOptions weights;
};

// Over N (and H, W), per channel or feature. Parameters gamma [C], beta [C] when affine; state
// running_mean [C], running_var [C].
struct BatchNormNode {
  double epsilon = 1e-5;
  double running_update_rate = 0.1;  // weight of the NEW batch
  bool affine = true;
  float initial_gamma = 1;
};

// Batch norm (or, without `normalize`, nothing) and then, in training, Algorithm 1 of Santurkar et
// al. 2018.
struct NoisyBatchNormNode {
  BatchNormNode batch;
  bool normalize = true;
  double mean_range = 0.5;
  double deviation_range = 1.25;
  double mean_jitter = 0.1;
  double deviation_jitter = 0.1;
};

// Per example over groups of C/groups channels (and H, W); gamma [C], beta [C] when affine. One
// group is layer norm, C groups are instance norm.
struct GroupNormNode {
  int64_t groups = 1;
  double epsilon = 1e-5;
  bool affine = true;
  float initial_gamma = 1;
};

// gamma x / sqrt(mean(x^2) + epsilon), the mean over all values of an example; gamma [C].
struct RmsNormNode {
  double epsilon = 1e-5;
  bool affine = true;
  float initial_gamma = 1;
};

struct BatchRenormNode {
  BatchNormNode batch;
  double r_max = 3;
  double d_max = 5;
};

// Batch norm over parts of `size` examples.
struct GhostBatchNormNode {
  BatchNormNode batch;
  int64_t size = 32;
};

// Batch norm with (mean |x|^p)^(1/p) of the uncentred batch as divisor. State running_mean [C],
// running_scale [C].
struct LpBatchNormNode {
  enum class Power { kOne, kTwo, kInfinity };
  Power power = Power::kOne;
  BatchNormNode batch;
};

// max(gamma x / sqrt(mean over H,W of x^2 + epsilon) + beta, tau); gamma, beta, tau [C].
struct FilterResponseNode {
  double epsilon = 1e-6;
  float initial_gamma = 1;
};

// gamma tanh(alpha x) + beta; alpha is a scalar, gamma and beta [C] when affine.
struct DynamicTanhNode {
  double initial_alpha = 0.5;
  bool affine = true;
  float initial_gamma = 1;
};

// x minus the batch's mean per channel, plus beta [C] when affine. State running_mean [C].
struct MeanOnlyBatchNormNode {
  double running_update_rate = 0.1;
  bool affine = true;
};

// Batch norm with its running statistics, which never change.
struct FrozenBatchNormNode {
  BatchNormNode batch;
};

struct ActivationNode {
  ActivationKind kind = ActivationKind::kRelu;
};

// Windows that do not fit are dropped (floor), as in PyTorch; no padding.
struct PoolNode {
  PoolKind kind = PoolKind::kMax;
  int64_t window = 2;
  int64_t stride = 2;
};

// [C,H,W] -> [C], the mean over H and W.
struct GlobalAveragePoolNode {};

// [C,H,W] -> [C,height,width], zeros around the image (the larger half below and to the right).
struct PadNode {
  int64_t height = 32;
  int64_t width = 32;
};

// The parameter-free shortcut of He et al. 2016 (option A): every stride-th pixel of every stride-th
// row; channels beyond C are zero.
struct SubsampleNode {
  int64_t stride = 2;
  int64_t out_channels = 0;
};

struct FlattenNode {};

// The sum of all inputs.
struct AddNode {};

// scale x, with a learnable scalar.
struct ScaleNode {
  float initial = 1;
};

// x + bias, with a learnable scalar that starts at 0.
struct ScalarBiasNode {};

// Mean over the batch of -log softmax(logits)[label]. Always the last node; its output is a scalar.
struct SoftmaxCrossEntropyNode {};

// Squared difference from the targets [T] (of classes: 1 for the label, else 0), averaged over batch
// and outputs, or summed over both. Always the last node; its output is a scalar.
struct SquaredErrorNode {
  bool mean = true;
};

using NodeKind = std::variant<LinearNode,
                              ConvNode,
                              BatchNormNode,
                              NoisyBatchNormNode,
                              GroupNormNode,
                              RmsNormNode,
                              BatchRenormNode,
                              GhostBatchNormNode,
                              LpBatchNormNode,
                              FilterResponseNode,
                              DynamicTanhNode,
                              MeanOnlyBatchNormNode,
                              FrozenBatchNormNode,
                              ActivationNode,
                              PoolNode,
                              GlobalAveragePoolNode,
                              PadNode,
                              SubsampleNode,
                              FlattenNode,
                              AddNode,
                              ScaleNode,
                              ScalarBiasNode,
                              SoftmaxCrossEntropyNode,
                              SquaredErrorNode>;

bool IsLoss(const NodeKind& kind);

}  // namespace normlab::engine
