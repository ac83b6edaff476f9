#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/layers/normalization/channel_kernels.h"
#include "engine/layers/normalization/normalizer_math.h"

// What the parts of ChannelNormalizer share: its tables have an entry per example or set and channel.
namespace normlab::engine {

// Below so many table entries a parallel region costs more than the work.
inline constexpr int64_t kSmallTable = 4096;

inline ChannelStatistic StatisticOf(ScaleKind kind) {
  switch (kind) {
    case ScaleKind::kOne:
    case ScaleKind::kDeviation:
      return ChannelStatistic::kCentredSquares;
    case ScaleKind::kRootMeanSquare:
      return ChannelStatistic::kSquares;
    case ScaleKind::kMeanAbsolute:
      return ChannelStatistic::kAbsolutes;
    case ScaleKind::kMaximumAbsolute:
      return ChannelStatistic::kMaximum;
  }
  return ChannelStatistic::kCentredSquares;
}

inline size_t Size(int64_t count) {
  return static_cast<size_t>(count);
}

// Calls work(i) for all i; in parallel when the tables have many entries.
template <typename Work>
void ForAll(int64_t count, int64_t table_entries, const Work& work) {
#pragma omp parallel for schedule(static) if (table_entries > kSmallTable)
  for (int64_t i = 0; i < count; ++i) {
    work(i);
  }
}

}  // namespace normlab::engine
