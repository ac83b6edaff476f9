#include "engine/spec/ranks.h"

#include <algorithm>

namespace normlab::engine {

int RanksOf(const v1::JobSpec& spec) {
  return spec.data_parallel().has_ranks() ? spec.data_parallel().ranks() : 1;
}

int StatisticsGroupOf(const v1::JobSpec& spec) {
  const v1::DataParallel& parallel = spec.data_parallel();
  return parallel.has_statistics_group() ? parallel.statistics_group() : 1;
}

int StatisticsGroups(const v1::JobSpec& spec) {
  return RanksOf(spec) / StatisticsGroupOf(spec);
}

Share ShareOf(int64_t batch, int rank, int ranks) {
  const int64_t least = batch / ranks;
  const int64_t larger = batch % ranks;  // so many ranks have one more
  return {least * rank + std::min<int64_t>(rank, larger), least + (rank < larger ? 1 : 0)};
}

int64_t SmallestStatisticsBatch(const v1::JobSpec& spec, int64_t batch) {
  const int ranks = RanksOf(spec);
  return batch - ShareOf(batch, ranks - StatisticsGroupOf(spec), ranks).first;
}

}  // namespace normlab::engine
