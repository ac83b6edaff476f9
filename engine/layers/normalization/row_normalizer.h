#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "engine/layers/normalization/channel_normalizer.h"
#include "engine/layers/normalization/normalizer_math.h"
#include "engine/layers/normalization/row_kernels.h"

namespace normlab::engine {

struct RowNormalizerOptions {
  NormalizerFormula formula;
  int64_t groups = 1;  // must divide the columns
  bool relu = false;   // computes the ReLU that follows as well
  bool backward = true;
};

// Layer, group and RMS norm of dense features, plain row-major [rows, columns]: every row, or every
// group of neighbouring columns of it, is a set; gamma and beta belong to the columns.
//   y = gamma (x - mean)/s + beta.
// Statistics are doubles; results do not depend on the number of threads. Forward and Backward
// allocate nothing.
//
// Thread-compatible. Owns its tables, a few numbers per set; not the tensors.
class RowNormalizer {
 public:
  // gamma, beta and their gradients in `tensors` are [columns] or null; the rest is not used.
  RowNormalizer(int64_t rows,
                int64_t columns,
                const RowNormalizerOptions& options,
                const NormalizerTensors& tensors);

  // y may be x when there is no Backward.
  void Forward(const float* x, float* y);
  // After Forward with the same x. Overwrites d_x and the gradients of the parameters. d_x may be
  // d_y.
  void Backward(const float* x, const float* d_y, float* d_x);

  // Of the last Forward, [rows, groups].
  absl::Span<const SetStatistics> statistics() const { return statistics_; }
  // Memory of the tables.
  int64_t bytes() const;

 private:
  const RowGroups shape_;
  const RowNormalizerOptions options_;
  const NormalizerTensors tensors_;
  std::vector<SetStatistics> statistics_;
  std::vector<double> mean_, second_, sum_g_, sum_gx_;
  std::vector<float> shift_, inverse_, offset_, q_, r_;
  // What stands in for a gamma or beta that is not there.
  std::vector<float> ones_, zeros_;
};

}  // namespace normlab::engine
