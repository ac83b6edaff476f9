// Sets that are the union of several ranks' batches: what the ranks tell each other.
#include "engine/layers/normalization/channel_normalizer.h"
#include "engine/layers/normalization/channel_tables.h"

namespace normlab::engine {

// Every rank merges what all of them tell, in the same order: so all have the same bits.
void ChannelNormalizer::MergeStatistics(const ForwardTables& tables) {
  mine_[0] = static_cast<double>(own_values_per_set());
  ForAll(sets(), view_.batch * view_.channels, [&](int64_t set) {
    const SetSums sums = Combine(tables, set / set_columns(), set % set_columns());
    mine_[Size(1 + 2 * set)] = sums.mean;
    mine_[Size(2 + 2 * set)] = sums.second;
  });
  options_.ranks->AllGather(mine_.data(), all_.data(), mine_.size() * sizeof(double));
  double values = 0;
  for (size_t from = 0; from < all_.size(); from += mine_.size()) {
    values += all_[from];
  }
  values_per_set_ = static_cast<int64_t>(values);
  ForAll(sets(), view_.batch * view_.channels, [&](int64_t set) { MergeSet(set); });
}

void ChannelNormalizer::MergeSet(int64_t set) {
  const ChannelStatistic statistic = StatisticOf(options_.formula.scale);
  SetSums merged;
  double values = 0;
  int rank = 0;
  int largest_of = 0;
  for (size_t from = 0; from < all_.size(); from += mine_.size(), ++rank) {
    const double count = all_[from];
    const double mean = all_[from + Size(1 + 2 * set)];
    const double second = all_[from + Size(2 + 2 * set)];
    const double total = values + count;
    const double delta = mean - merged.mean;
    merged.mean += delta * (count / total);
    if (statistic == ChannelStatistic::kCentredSquares) {
      merged.second += second + delta * delta * (values * (count / total));
    } else if (statistic != ChannelStatistic::kMaximum) {
      merged.second += second;
    } else if (!(second <= merged.second)) {  // a NaN may be lost; the mean keeps it
      merged.second = second;
      largest_of = rank;
    }
    values = total;
  }
  statistics_[Size(set)] = StatisticsOf(merged);
  largest_is_mine_[Size(set)] = largest_of == options_.ranks->rank() ? 1 : 0;
}

void ChannelNormalizer::MakeGradientsOfRanks(const BackwardTables& tables) {
  const int64_t entries = view_.batch * view_.channels;
  ForAll(sets(), entries, [&](int64_t set) {
    const GradientSums sums = SumSet(set, tables);
    mine_[Size(1 + 2 * set)] = sums.g;
    mine_[Size(2 + 2 * set)] = sums.gx;
  });
  options_.ranks->AllGather(mine_.data(), all_.data(), mine_.size() * sizeof(double));
  ForAll(sets(), entries, [&](int64_t set) {
    GradientSums sums;
    for (size_t from = 0; from < all_.size(); from += mine_.size()) {
      sums.g += all_[from + Size(1 + 2 * set)];
      sums.gx += all_[from + Size(2 + 2 * set)];
    }
    MakeGradient(set, sums, tables);
  });
}

}  // namespace normlab::engine
