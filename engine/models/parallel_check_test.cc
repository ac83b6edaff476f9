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
  EXPECT_THAT(
      Check(ranks + "normalization_overrides { layers: 'fc2' normalization { weight {} } }"),
      Refuses("normalization_overrides[0].normalization.weight.data_dependent_init", "layer fc2"));
  EXPECT_THAT(Check(ranks + "probes { landscape {} }"), Refuses("probes[0]", "share"));
  EXPECT_THAT(Check(ranks + "probes { scale_invariance {} }").violations, IsEmpty());
}

TEST(ParallelCheckTest, GhostBatchesDivideShares) {
  const std::string ghosts =
      "normalization { ghost_batch { ghost_size: 2 } } data { last_batch: DROP mnist { path: 'm' } "
      "} ";
  EXPECT_THAT(Check(ghosts + "batch_size: 12 data_parallel { ranks: 3 }").violations, IsEmpty());
  EXPECT_THAT(
      Check(ghosts + "batch_size: 8 data_parallel { ranks: 3 }"),
      Refuses("ghost_batch.ghost_size", "set ghost_size to 2 and use a batch_size that 6 divides"));
  EXPECT_THAT(Check(ghosts + "batch_size: 12 data_parallel { ranks: 3 statistics_group: 3 }"),
              Refuses("ghost_batch", "statistics_group 1"));
}

// What a refusal advises is taken.
TEST(ParallelCheckTest, AdviceAboutGhostsHolds) {
  const auto check = [](const std::string& ghost, const std::string& rest) {
    return Check("normalization { ghost_batch { " + ghost + " } } data_parallel { ranks: 2 } " +
                 rest);
  };
  const std::string drop = " data { last_batch: DROP mnist { path: 'm' } } ";
  // Ghosts of a spec that says no size are as large as its batch.
  EXPECT_THAT(check("", "batch_size: 20" + drop), Refuses("ghost_size", "use ghost_size 10"));
  EXPECT_THAT(check("ghost_size: 10", "batch_size: 20" + drop).violations, IsEmpty());
  EXPECT_THAT(check("", "batch_size: 7" + drop),
              Refuses("ghost_size", "set ghost_size to 7 and use a batch_size that 14 divides"));
  EXPECT_THAT(check("ghost_size: 7", "batch_size: 14" + drop).violations, IsEmpty());
  // 101 = 16 * 6 + 5: the last batch alone does not fit.
  const std::string keep = " data { last_batch: KEEP mnist { path: 'm' } } ";
  EXPECT_THAT(check("ghost_size: 3", "batch_size: 6" + keep),
              Refuses("ghost_size", "use data.last_batch DROP"));
  EXPECT_THAT(check("ghost_size: 3", "batch_size: 6" + drop).violations, IsEmpty());
}

TEST(ParallelCheckTest, AStatisticsGroupWithoutBatchStatisticsIsNoted) {
  const std::string ranks = "batch_size: 12 data_parallel { ranks: 3 statistics_group: 3 } ";
  for (const char* kind : {"layer {}", "none {}"}) {
    const JobCheck check = Check(ranks + "normalization { " + kind + " }");
    EXPECT_THAT(check.violations, IsEmpty());
    EXPECT_THAT(check.warnings, Contains(HasSubstr("statistics_group is 3, which has no effect")));
  }
  EXPECT_THAT(Check(ranks + "normalization { batch {} }").warnings,
              Not(Contains(HasSubstr("no effect"))));
}

TEST(ParallelCheckTest, EveryRankHasAnExampleOfTheLastBatch) {
  const std::string keep = "data { last_batch: KEEP mnist { path: 'm' } } ";
  // 101 = 33 * 3 + 2
  EXPECT_THAT(Check(keep + "batch_size: 3 data_parallel { ranks: 3 }"),
              Refuses("data_parallel.ranks", "at most 2 ranks"));
  EXPECT_THAT(Check(keep + "batch_size: 3 data_parallel { ranks: 2 }").violations, IsEmpty());
  // 101 = 25 * 4 + 1
  EXPECT_THAT(Check(keep + "batch_size: 4 data_parallel { ranks: 2 }"),
              Refuses("data_parallel.ranks", "has 1 example, fewer than ranks"));
  EXPECT_THAT(Check(keep + "batch_size: 4 data_parallel { ranks: 2 }"),
              Refuses("data_parallel.ranks", "at most 1 rank,"));
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
