#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/spec/ranks.h"
#include "engine/spec/resolve.h"
#include "engine/spec/testing.h"
#include "engine/spec/validate.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::JobSpec Spec(const std::string& text) {
  return testing::ParseSpec("model { mlp { hidden: 8 } } data { fashion_mnist {} } " + text);
}

TEST(ParallelSpecTest, OneRankIsTheDefaultAndStaysUnsaid) {
  const v1::JobSpec resolved = Resolve(Spec(""));
  EXPECT_FALSE(resolved.has_data_parallel());
  EXPECT_EQ(RanksOf(resolved), 1);
  EXPECT_EQ(StatisticsGroupOf(resolved), 1);
  EXPECT_EQ(StatisticsGroups(resolved), 1);
}

TEST(ParallelSpecTest, RanksResolve) {
  const v1::JobSpec spec = Spec("data_parallel { ranks: 4 }");
  EXPECT_THAT(Validate(spec), IsEmpty());
  const v1::JobSpec resolved = Resolve(spec);
  EXPECT_EQ(RanksOf(resolved), 4);
  EXPECT_EQ(resolved.data_parallel().statistics_group(), 1);
  EXPECT_EQ(StatisticsGroups(resolved), 4);
  EXPECT_THAT(Validate(resolved), IsEmpty());
  const v1::JobSpec synchronized = Resolve(Spec("data_parallel { ranks: 6 statistics_group: 3 }"));
  EXPECT_THAT(Validate(synchronized), IsEmpty());
  EXPECT_EQ(StatisticsGroups(synchronized), 2);
}

TEST(ParallelSpecTest, MistakesAreNamed) {
  const struct {
    const char* spec;
    const char* field;
    const char* says;
  } kCases[] = {
      {"data_parallel { ranks: 0 }", "data_parallel.ranks", "processes that share each batch"},
      {"data_parallel { ranks: 65 }", "data_parallel.ranks", "processes that share each batch"},
      {"data_parallel { ranks: -1 statistics_group: -1 }", "data_parallel.ranks", "-1"},
      {"convolution_algorithm: MEASURE data_parallel { ranks: 2 }", "convolution_algorithm",
       "use AUTO"},
      {"batch_size: 3 data_parallel { ranks: 4 }", "data_parallel.ranks", "use at most 3"},
      {"data_parallel { ranks: 4 statistics_group: 3 }", "data_parallel.statistics_group",
       "does not divide"},
      {"data_parallel { ranks: 2 statistics_group: 4 }", "data_parallel.statistics_group",
       "does not divide"},
      {"data_parallel { statistics_group: 0 }", "data_parallel.statistics_group",
       "does not divide"},
      {"data_parallel { statistics_group: 2 }", "data_parallel.statistics_group",
       "does not divide"},
  };
  for (const auto& c : kCases) {
    EXPECT_THAT(Validate(Spec(c.spec)),
                ElementsAre(AllOf(Field(&Violation::field, c.field),
                                  Field(&Violation::description, HasSubstr(c.says)))))
        << c.spec;
  }
}

TEST(ParallelSpecTest, SharesCoverABatchAndDifferByOneExampleAtMost) {
  for (const int64_t batch : {4, 7, 64, 129}) {
    for (const int ranks : {1, 2, 3, 4}) {
      int64_t next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const Share share = ShareOf(batch, rank, ranks);
        EXPECT_EQ(share.first, next);
        EXPECT_GE(share.count, batch / ranks);
        EXPECT_LE(share.count, (batch + ranks - 1) / ranks);
        next += share.count;
      }
      EXPECT_EQ(next, batch);
    }
  }
  // Shares of 7 over 6 ranks: 2 1 1 1 1 1; in groups of 3: 4 and 3.
  EXPECT_EQ(SmallestStatisticsBatch(Spec("data_parallel { ranks: 6 statistics_group: 3 }"), 7), 3);
  EXPECT_EQ(SmallestStatisticsBatch(Spec("data_parallel { ranks: 6 }"), 7), 1);
  EXPECT_EQ(SmallestStatisticsBatch(Spec(""), 7), 7);
}

}  // namespace
}  // namespace normlab::engine
