#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "engine/layers/normalization/channel_normalizer.h"

namespace normlab::engine {

// w = g v/|v| per output unit (Salimans and Kingma 2016), for weights [outputs, fan_in] in plain
// layout (of convolutions fan_in is I*KH*KW). A v of zeros gives w = 0 (and no gradient).
//   d_g = <d_w, v>/|v|,  d_v = (g/|v|) (d_w - v <d_w, v>/|v|^2), orthogonal to v.
// Norms are taken in double. Forward and Backward allocate nothing; results do not depend on the
// number of threads.
//
// Thread-compatible. Owns its tables; not the tensors.
class WeightNormalization {
 public:
  WeightNormalization(int64_t outputs, int64_t fan_in);

  // v [outputs, fan_in], g [outputs] -> w. w may be v.
  void Forward(const float* v, const float* g, float* w);
  // After Forward with the same v and g. d_v may be d_w.
  void Backward(const float* v, const float* g, const float* d_w, float* d_v, float* d_g);

  // |v| of every output, as g starts without data-dependent initialization. Allocates nothing.
  void Norms(const float* v, float* norms);

 private:
  void MakeNorms(const float* v);

  const ChannelBlocking rows_;  // every output an example of one channel
  std::vector<double> mean_, norm_, sum_g_, sum_gx_;
  std::vector<float> zeros_, scale_, p_, q_;
};

// Data-dependent initialization (the same paper, section 3): given the outputs' mean and biased
// variance over the first batch with w = v/|v| and b = 0, g = 1/std and b = -mean/std make every
// output have mean 0 and variance 1. An output that is constant over the batch gets g = 1, b =
// -mean.
void DataDependentScale(absl::Span<const SetStatistics> outputs, float* g, float* b);

// Weight standardization (Qiao et al. 2019): w = (v - mean)/(std + 1e-5) per output unit, with the
// unbiased standard deviation (0 when fan_in is 1). With c = v - mean, S = std + 1e-5, K = fan_in:
//   d_v = d_w/S - mean(d_w)/S - c <d_w, c>/(S^2 std (K - 1)).
// Otherwise as WeightNormalization.
class WeightStandardizer {
 public:
  WeightStandardizer(int64_t outputs, int64_t fan_in);

  // v -> w, both [outputs, fan_in]. w may be v.
  void Forward(const float* v, float* w);
  // After Forward with the same v. d_v may be d_w.
  void Backward(const float* v, const float* d_w, float* d_v);

 private:
  const ChannelBlocking rows_;
  std::vector<double> mean_, second_, sum_g_, sum_gx_;
  std::vector<float> shift_, scale_, offset_, q_, r_;
};

}  // namespace normlab::engine
