#pragma once

#include <cstdint>

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// Processes that share each batch of a job; 1 when nothing is said. `spec`: resolved or not. Pure.
int RanksOf(const v1::JobSpec& spec);

// Neighbouring ranks whose shares are normalized together; RanksOf(spec): the whole batch. Pure.
int StatisticsGroupOf(const v1::JobSpec& spec);

// Into how many parts batch statistics cut a batch: 1 without ranks, and when all are synchronized.
int StatisticsGroups(const v1::JobSpec& spec);

// Examples of a batch, by their positions in it.
struct Share {
  int64_t first = 0;
  int64_t count = 0;
};

// What rank `rank` of `ranks` trains of a batch: contiguous, in the order of ranks; shares differ by
// one example at most, the first ones are the larger. Pure.
Share ShareOf(int64_t batch, int rank, int ranks);

// Examples in the smallest group of ranks that is normalized together. Pure.
int64_t SmallestStatisticsBatch(const v1::JobSpec& spec, int64_t batch);

}  // namespace normlab::engine
