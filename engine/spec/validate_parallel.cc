#include "absl/strings/str_cat.h"

#include "engine/spec/defaults.h"
#include "engine/spec/limits.h"
#include "engine/spec/ranks.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {

void ValidateDataParallel(const v1::JobSpec& spec, Checker& checker) {
  constexpr char kRanks[] = "data_parallel.ranks";
  constexpr char kGroup[] = "data_parallel.statistics_group";
  const int64_t ranks = RanksOf(spec);
  const int64_t group = StatisticsGroupOf(spec);
  if (ranks < 1 || ranks > kMaxRanks) {
    checker.Range(kRanks, ranks, 1, kMaxRanks, "give the processes that share each batch");
    return;
  }
  const int64_t batch_size = spec.has_batch_size() ? spec.batch_size() : kDefaultBatchSize;
  if (ranks > batch_size && batch_size >= 1) {
    checker.Fail(kRanks,
                 absl::StrCat("is ", ranks, ", but a batch has ", batch_size,
                              " examples; use at most ", batch_size, ", or a larger batch_size"));
  }
  if (ranks > 1 && spec.convolution_algorithm() == v1::ConvolutionAlgorithm::MEASURE) {
    checker.Fail("convolution_algorithm",
                 "is MEASURE, but each of the data_parallel.ranks would measure for itself, and a "
                 "resumed run not compute what the first one did; use AUTO, WINOGRAD or DIRECT");
  }
  if (group < 1 || group > ranks || ranks % group != 0) {
    checker.Fail(kGroup, absl::StrCat("is ", group, ", which does not divide data_parallel.ranks (",
                                      ranks, "); use 1 for statistics of each rank's share, or ",
                                      ranks, " for those of the whole batch"));
  }
}

}  // namespace normlab::engine
