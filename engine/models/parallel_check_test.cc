#include "engine/models/parallel_check.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/models/testing.h"

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::Spec;

// 101 training examples.
JobCheck Check(const std::string& text) {
  return CheckJob(Spec("model { mlp { hidden: [9, 8] } } " + text), testing::kImages);
}

auto Refuses(const char* field, const char* says) {
  return Field(&JobCheck::violations,
               Contains(AllOf(Field(&Violation::field, HasSubstr(field)),
                              Field(&Violation::description, HasSubstr(says)))));
}

TEST(ParallelCheckTest, WhatRanksCannotShareIsRefused) {
  const std::string ranks = "batch_size: 12 data_parallel { ranks: 3 } ";
  EXPECT_THAT(Check(ranks + "normalization { batch {} }").violations, IsEmpty());
  EXPECT_THAT(Check(ranks + "normalization { layer {} }").violations, IsEmpty());
  EXPECT_THAT(Check(ranks + "normalization { noisy_batch {} }"),
              Refuses("normalization.noisy_batch", "ranks 1"));
  EXPECT_THAT(Check(ranks + "normalization { weight {} }"),
              Refuses("normalization.weight.data_dependent_init", "set it to false"));
  EXPECT_THAT(Check(ranks + "normalization { weight { data_dependent_init: false } }").violations,
              IsEmpty());
  EXPECT_THAT(Check(ranks + "probes { landscape {} }"), Refuses("probes[0]", "share"));
  EXPECT_THAT(Check(ranks + "probes { scale_invariance {} }").violations, IsEmpty());
}

TEST(ParallelCheckTest, GhostBatchesDivideShares) {
  const std::string ghosts =
      "normalization { ghost_batch { ghost_size: 2 } } data { last_batch: DROP mnist { path: 'm' } "
      "} ";
  EXPECT_THAT(Check(ghosts + "batch_size: 12 data_parallel { ranks: 3 }").violations, IsEmpty());
  EXPECT_THAT(Check(ghosts + "batch_size: 8 data_parallel { ranks: 3 }"),
              Refuses("ghost_batch.ghost_size", "a batch_size that 6 divides"));
  EXPECT_THAT(Check(ghosts + "batch_size: 12 data_parallel { ranks: 3 statistics_group: 3 }"),
              Refuses("ghost_batch", "statistics_group 1"));
}

TEST(ParallelCheckTest, EveryRankHasAnExampleOfTheLastBatch) {
  const std::string keep = "data { last_batch: KEEP mnist { path: 'm' } } ";
  // 101 = 33 * 3 + 2
  EXPECT_THAT(Check(keep + "batch_size: 3 data_parallel { ranks: 3 }"),
              Refuses("data_parallel.ranks", "at most 2 ranks"));
  EXPECT_THAT(Check(keep + "batch_size: 3 data_parallel { ranks: 2 }").violations, IsEmpty());
}

TEST(ParallelCheckTest, SetsAreThoseOfTheSmallestGroup) {
  const std::string batch =
      "normalization { batch {} } data { last_batch: DROP mnist { path: 'm' } } batch_size: 6 ";
  EXPECT_THAT(Check(batch + "data_parallel { ranks: 4 }"), Refuses("batch_size", "use at least 8"));
  EXPECT_THAT(Check(batch + "data_parallel { ranks: 4 statistics_group: 2 }").violations,
              IsEmpty());
  EXPECT_THAT(Check(batch + "data_parallel { ranks: 6 statistics_group: 6 }").violations,
              IsEmpty());
  const JobCheck pairs = Check(batch + "data_parallel { ranks: 3 }");
  EXPECT_THAT(pairs.violations, IsEmpty());
  EXPECT_THAT(pairs.warnings, Contains(HasSubstr("over 3 separate shares")));
}

TEST(ParallelCheckTest, MemoryIsOfAllRanks) {
  const std::string spec = "batch_size: 12 ";
  const MemoryEstimate one = Check(spec).memory;
  const MemoryEstimate four = Check(spec + "data_parallel { ranks: 4 }").memory;
  EXPECT_GT(four.fixed, 4 * one.fixed);
  EXPECT_GT(four.parameters, 4 * one.parameters);
  EXPECT_EQ(four.data, one.data);
  EXPECT_GT(four.activations, one.activations);
}

TEST(ParallelCheckTest, BatchStatisticsAreKnown) {
  for (const char* kind :
       {"batch", "batch_renorm", "ghost_batch", "mean_only_batch", "l1_batch", "linf_batch"}) {
    const JobCheck check = Check(std::string("normalization { ") + kind + " {} }");
    ASSERT_TRUE(check.graph.has_value()) << kind;
    EXPECT_TRUE(HasBatchStatistics(*check.graph)) << kind;
  }
  for (const char* kind : {"none", "layer", "frozen_batch", "weight", "rms"}) {
    const JobCheck check = Check(std::string("normalization { ") + kind + " {} }");
    ASSERT_TRUE(check.graph.has_value()) << kind;
    EXPECT_FALSE(HasBatchStatistics(*check.graph)) << kind;
  }
}

}  // namespace
}  // namespace normlab::engine
