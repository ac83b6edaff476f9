#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "engine/graph/graph.h"

namespace normlab::engine {

// A batch of features in plain layout: [batch, C] or [batch, C, H, W].
struct FeatureBatch {
  int64_t batch = 0;
  Dims dims;  // of one example
  absl::Span<const float> values;

  int64_t channels() const { return dims.front(); }
  int64_t pixels() const { return ElementCount(dims) / channels(); }
};

struct Moments {
  double mean = 0;
  double variance = 0;  // biased
};

// Over all values. Pure, as all of these.
Moments MomentsOf(const FeatureBatch& features);
// Of every channel, over the batch and all pixels.
std::vector<Moments> ChannelMoments(const FeatureBatch& features);
// The share of channels that are exactly 0 everywhere.
double DeadFraction(const FeatureBatch& features);
// The mean over channels of sqrt((difference of means)^2 + (difference of deviations)^2).
double MomentShift(absl::Span<const Moments> before, absl::Span<const Moments> after);

struct Ranks {
  // exp of the entropy of the singular values, scaled to sum 1 (Roy and Vetterli 2007).
  double effective = 0;
  // tr(M)^2 / |M|_F^2 with M = H H^T / N (Daneshmand et al. 2020).
  double soft = 0;
};

// Of the uncentred features H [rows, C], rows the examples (and pixels); at most 1,024 rows, drawn by `seed`. Both are 0
// when all features are 0, NaN when one is not finite.
Ranks RanksOf(const FeatureBatch& features, uint32_t seed);

}  // namespace normlab::engine
