#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"

#include "engine/dnnl/layout.h"
#include "engine/dnnl/op.h"
#include "engine/dnnl/runtime.h"

namespace normlab::engine {

// Factories of ops. Layouts given as Layout::Any are chosen by oneDNN: read them back from the op.
// All ops take their scratch memory from the outside (Arg::kScratchpad). Errors of all:
// UNIMPLEMENTED, INTERNAL or RESOURCE_EXHAUSTED with oneDNN's message. Backward factories need the
// forward op of the same layer, planned for training.
//
// Types: the layouts carry them. Data, weights and gradients of data are all F32 or all bf16 (sums
// are F32 inside); gradients of weights may be F32 beside bf16 data. Biases, statistics, gamma, beta
// and their gradients are always F32. Bf16 needs HasBf16Kernels.

// Copies kSource to kDestination in another layout, another type or both; padding is filled with
// zeros. To bf16 it rounds as ToBf16.
absl::StatusOr<Op> MakeReorder(const Runtime& runtime, const Layout& from, const Layout& to);

// y [N,O] = x [N,I] w^T + b with w [O,I].
// Forward: kSource, kWeights, kBias -> kDestination.
absl::StatusOr<Op> MakeInnerProductForward(const Runtime& runtime,
                                           const Layout& x,
                                           const Layout& w,
                                           const Layout& y,
                                           bool bias,
                                           bool training);
// kDiffDestination, kWeights -> kDiffSource.
absl::StatusOr<Op> MakeInnerProductBackwardData(const Runtime& runtime,
                                                const Layout& d_x,
                                                const Layout& w,
                                                const Layout& d_y,
                                                const Op& forward);
// kSource, kDiffDestination -> kDiffWeights, kDiffBias.
absl::StatusOr<Op> MakeInnerProductBackwardWeights(const Runtime& runtime,
                                                   const Layout& x,
                                                   const Layout& d_w,
                                                   const Layout& d_y,
                                                   bool bias,
                                                   const Op& forward);

// Several products of matrices of the same sizes, c[t] = a[t] b[t] with a[t] [rows,inner] and b[t]
// [inner,columns].
struct MatrixProducts {
  int64_t count = 1;
  int64_t rows = 0;
  int64_t inner = 0;
  int64_t columns = 0;
  // The operand's rows and columns are exchanged in memory: each a[t] lies as [inner,rows].
  bool transposed_a = false;
  bool transposed_b = false;

  Layout a() const {
    return Layout::RowMajor({count, transposed_a ? inner : rows, transposed_a ? rows : inner});
  }
  Layout b() const {
    return Layout::RowMajor(
        {count, transposed_b ? columns : inner, transposed_b ? inner : columns});
  }
  Layout c() const { return Layout::RowMajor({count, rows, columns}); }
};

// kSource (a), kWeights (b) -> kDestination (c), F32, one after the other without gaps, in the
// layouts that `products` tells.
absl::StatusOr<Op> MakeMatrixProducts(const Runtime& runtime, const MatrixProducts& products);

// The same on both sides of both image axes.
struct WindowGeometry {
  int64_t kernel = 1;  // used by pooling only; a convolution has it in its weights
  int64_t stride = 1;
  int64_t padding = 0;
  std::optional<int64_t> kernel_width;  // of pooling windows that are not square; default: kernel
};

enum class ConvAlgorithm {
  kDirect,
  // F(4x4,3x3) or F(2x2,3x3) (Lavin and Gray 2016): fewer multiplications, larger rounding errors.
  // UNIMPLEMENTED unless HasWinograd, F32, 3x3, stride 1, one group and layouts Any or blocked by
  // 16 channels.
  kWinograd,
};

// Cross-correlation of x [N,I,H,W] with w [O,I,KH,KW], or of G groups of channels with
// w [G,O/G,I/G,KH,KW]. Arguments as for inner products; the bias has O values. Each pass of a layer
// may use another algorithm than its forward op.
absl::StatusOr<Op> MakeConvolutionForward(const Runtime& runtime,
                                          const WindowGeometry& geometry,
                                          const Layout& x,
                                          const Layout& w,
                                          const Layout& y,
                                          bool bias,
                                          bool training,
                                          ConvAlgorithm algorithm = ConvAlgorithm::kDirect);
absl::StatusOr<Op> MakeConvolutionBackwardData(const Runtime& runtime,
                                               const WindowGeometry& geometry,
                                               const Layout& d_x,
                                               const Layout& w,
                                               const Layout& d_y,
                                               const Op& forward,
                                               ConvAlgorithm algorithm = ConvAlgorithm::kDirect);
absl::StatusOr<Op> MakeConvolutionBackwardWeights(const Runtime& runtime,
                                                  const WindowGeometry& geometry,
                                                  const Layout& x,
                                                  const Layout& d_w,
                                                  const Layout& d_y,
                                                  bool bias,
                                                  const Op& forward,
                                                  ConvAlgorithm algorithm = ConvAlgorithm::kDirect);

struct BatchNormOptions {
  float epsilon = 0;  // inside the square root
  bool affine = true;
  bool fuse_relu = false;
  // True: kMean and kVariance are inputs (inference). False: they are this batch's, biased, and
  // outputs.
  bool given_statistics = false;
};

// Per channel over N,H,W. Forward: kSource, kScale, kShift -> kDestination, kMean, kVariance,
// kWorkspace (fused ReLU). Without affine, on a row-major view [1, N*G, C/G*H, W] of [N,C,H,W]: group
// norm with G groups; with G = C: instance norm.
absl::StatusOr<Op> MakeBatchNormForward(const Runtime& runtime,
                                        const BatchNormOptions& options,
                                        const Layout& x);
// kSource (the forward's, not its output), kMean, kVariance, kScale, kShift, kWorkspace,
// kDiffDestination -> kDiffSource, kDiffScale, kDiffShift. Gradients in `x`'s layout.
absl::StatusOr<Op> MakeBatchNormBackward(const Runtime& runtime,
                                         const BatchNormOptions& options,
                                         const Layout& x,
                                         const Op& forward);

struct LayerNormOptions {
  float epsilon = 0;  // inside the square root
  bool affine = true;
  // True: kMean and kVariance are inputs, and backward takes them for constants.
  bool given_statistics = false;
};

// Over the last axis of x [N,D]; gamma and beta have D values, mean and biased variance N (Ba et
// al. 2016). Forward: kSource, kScale, kShift -> kDestination and, when training, kMean, kVariance.
absl::StatusOr<Op> MakeLayerNormForward(const Runtime& runtime,
                                        const LayerNormOptions& options,
                                        const Layout& x,
                                        bool training);
// kSource, kMean, kVariance, kScale, kShift, kDiffDestination -> kDiffSource, kDiffScale,
// kDiffShift. Gradients in `x`'s layout.
absl::StatusOr<Op> MakeLayerNormBackward(const Runtime& runtime,
                                         const LayerNormOptions& options,
                                         const Layout& x,
                                         const Op& forward);

// SELU, a scaled ELU, is not among them: no primitive scales both passes.
enum class EltwiseKind {
  kRelu,
  kLeakyRelu,  // alpha x below 0
  kElu,        // alpha (exp(x) - 1) below 0
  kSigmoid,
  kTanh,
  kGelu,   // x Phi(x), by erf
  kSwish,  // x sigmoid(x)
};

// What the backward op reads beside kDiffDestination: kSource for kGelu and kSwish, whose inverses
// are not unique; kDestination for the others (of kLeakyRelu and kElu with alpha >= 0 only).
Arg EltwiseBackwardFrom(EltwiseKind kind);

// kSource -> kDestination, in the same layout; the two may be the same memory. `alpha`: of kLeakyRelu
// and kElu, at least 0; ignored by the others.
absl::StatusOr<Op> MakeEltwiseForward(
    const Runtime& runtime, EltwiseKind kind, const Layout& x, bool training, float alpha = 1);
// EltwiseBackwardFrom(kind), kDiffDestination -> kDiffSource, all in the layout `data`.
absl::StatusOr<Op> MakeEltwiseBackward(const Runtime& runtime,
                                       EltwiseKind kind,
                                       const Layout& data,
                                       const Op& forward,
                                       float alpha = 1);

// kSource + kSource1 -> kDestination, or max(0, that); all in one layout. The destination may be
// kSource's memory.
absl::StatusOr<Op> MakeAdd(const Runtime& runtime, const Layout& layout, bool fuse_relu = false);

// Max (with a workspace when training) or average over windows that lie wholly inside; padding does
// not count in averages. kSource -> kDestination, kWorkspace. A window of the image's size pools
// globally.
absl::StatusOr<Op> MakePoolForward(const Runtime& runtime,
                                   bool max,
                                   const WindowGeometry& geometry,
                                   const Layout& x,
                                   const Layout& y,
                                   bool training);
// kDiffDestination, kWorkspace -> kDiffSource. Bf16 gradients of overlapping windows are added up in
// bf16.
absl::StatusOr<Op> MakePoolBackward(const Runtime& runtime,
                                    bool max,
                                    const WindowGeometry& geometry,
                                    const Layout& d_x,
                                    const Layout& d_y,
                                    const Op& forward);

}  // namespace normlab::engine
