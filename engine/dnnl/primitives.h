#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

#include "engine/dnnl/layout.h"
#include "engine/dnnl/op.h"
#include "engine/dnnl/runtime.h"

namespace normlab::engine {

// Factories of ops. Layouts given as Layout::Any are chosen by oneDNN: read them back from the op.
// All ops take their scratch memory from the outside (Arg::kScratchpad). Errors of all:
// UNIMPLEMENTED, INTERNAL or RESOURCE_EXHAUSTED with oneDNN's message. Backward factories need the
// forward op of the same layer, planned for training.

// Copies kSource to kDestination in another layout; padding is filled with zeros.
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

// The same on both sides of both image axes.
struct WindowGeometry {
  int64_t kernel = 1;  // used by pooling only; a convolution has it in its weights
  int64_t stride = 1;
  int64_t padding = 0;
};

// Cross-correlation of x [N,I,H,W] with w [O,I,KH,KW], by oneDNN's direct algorithm. Arguments as
// for inner products.
absl::StatusOr<Op> MakeConvolutionForward(const Runtime& runtime,
                                          const WindowGeometry& geometry,
                                          const Layout& x,
                                          const Layout& w,
                                          const Layout& y,
                                          bool bias,
                                          bool training);
absl::StatusOr<Op> MakeConvolutionBackwardData(const Runtime& runtime,
                                               const WindowGeometry& geometry,
                                               const Layout& d_x,
                                               const Layout& w,
                                               const Layout& d_y,
                                               const Op& forward);
absl::StatusOr<Op> MakeConvolutionBackwardWeights(const Runtime& runtime,
                                                  const WindowGeometry& geometry,
                                                  const Layout& x,
                                                  const Layout& d_w,
                                                  const Layout& d_y,
                                                  bool bias,
                                                  const Op& forward);

struct BatchNormOptions {
  float epsilon = 0;  // inside the square root
  bool affine = true;
  bool fuse_relu = false;
  // True: kMean and kVariance are inputs (inference). False: they are this batch's, biased, and
  // outputs.
  bool given_statistics = false;
};

// Per channel over N,H,W. Forward: kSource, kScale, kShift -> kDestination, kMean, kVariance,
// kWorkspace (fused ReLU).
absl::StatusOr<Op> MakeBatchNormForward(const Runtime& runtime,
                                        const BatchNormOptions& options,
                                        const Layout& x);
// kSource (the forward's, not its output), kMean, kVariance, kScale, kShift, kWorkspace,
// kDiffDestination -> kDiffSource, kDiffScale, kDiffShift. Gradients in `x`'s layout.
absl::StatusOr<Op> MakeBatchNormBackward(const Runtime& runtime,
                                         const BatchNormOptions& options,
                                         const Layout& x,
                                         const Op& forward);

enum class EltwiseKind { kRelu, kSigmoid, kTanh };

// kSource -> kDestination, in the same layout.
absl::StatusOr<Op> MakeEltwiseForward(const Runtime& runtime,
                                      EltwiseKind kind,
                                      const Layout& x,
                                      bool training);
// kDestination (the forward's output), kDiffDestination -> kDiffSource.
absl::StatusOr<Op> MakeEltwiseBackward(const Runtime& runtime,
                                       EltwiseKind kind,
                                       const Layout& y,
                                       const Op& forward);

// Max (with a workspace when training) or average over windows that lie wholly inside. kSource ->
// kDestination, kWorkspace.
absl::StatusOr<Op> MakePoolForward(const Runtime& runtime,
                                   bool max,
                                   const WindowGeometry& geometry,
                                   const Layout& x,
                                   const Layout& y,
                                   bool training);
// kDiffDestination, kWorkspace -> kDiffSource.
absl::StatusOr<Op> MakePoolBackward(const Runtime& runtime,
                                    bool max,
                                    const WindowGeometry& geometry,
                                    const Layout& d_x,
                                    const Layout& d_y,
                                    const Op& forward);

}  // namespace normlab::engine
