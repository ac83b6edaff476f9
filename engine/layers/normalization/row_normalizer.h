#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "engine/layers/normalization/channel_normalizer.h"
#include "engine/layers/normalization/normalizer_math.h"
#include "engine/layers/normalization/row_kernels.h"
#include "engine/layers/normalization/scratch.h"

namespace normlab::engine {

struct RowNormalizerOptions {
  NormalizerFormula formula;
  int64_t groups = 1;  // must divide the columns
  bool relu = false;   // computes the ReLU that follows as well
};

// Layer, group and RMS norm of dense features, plain row-major [rows, columns]: every row, or every
// group of neighbouring columns of it, is a set; gamma and beta belong to the columns.
//   y = gamma (x - mean)/s + beta.
// Statistics are doubles; results do not depend on the number of threads. Forward and Backward
// allocate nothing: a few numbers per set go into scratch memory of scratch_bytes(), 64-byte
// aligned, which means nothing between passes.
//
// Thread-compatible. Owns the statistics of the sets; not the tensors.
class RowNormalizer {
 public:
  // gamma, beta and their gradients in `tensors` are [columns] or null; the rest is not used.
  RowNormalizer(int64_t rows,
                int64_t columns,
                const RowNormalizerOptions& options,
                const NormalizerTensors& tensors);

  int64_t scratch_bytes() const;

  // y may be x when there is no Backward.
  void Forward(const float* x, float* y, std::byte* scratch);
  // After Forward with the same x. Overwrites d_x and the gradients of the parameters. d_x may be
  // d_y.
  void Backward(const float* x, const float* d_y, float* d_x, std::byte* scratch);

  // Of the last Forward, [rows, groups].
  absl::Span<const SetStatistics> statistics() const { return statistics_; }

 private:
  // Per set, in scratch memory; the sums are those of a forward or of a backward pass.
  struct Tables {
    double* sums[2];
    float *shift, *inverse, *offset;
    float *q, *r;
  };

  Tables CutTables(ScratchCutter& cutter) const;
  RowAffine MakeAffine(const Tables& tables) const;

  const RowGroups shape_;
  const RowNormalizerOptions options_;
  const NormalizerTensors tensors_;
  std::vector<SetStatistics> statistics_;
  // What stands in for a gamma or beta that is not there.
  std::vector<float> ones_, zeros_;
};

}  // namespace normlab::engine
