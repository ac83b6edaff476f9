#include "engine/train/rank_team.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/parallel/testing.h"
#include "engine/train/failure.h"

namespace normlab::engine {
namespace {

using testing::RunRanks;

TEST(RankTeamTest, OneProcessNeedsNobody) {
  RankTeam team(nullptr, 3);
  std::vector<float> values = {1, 2, 3};
  team.Average(absl::MakeSpan(values));
  EXPECT_EQ(values, (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(team.Sum({2.5, 3}).loss, 2.5);
  EXPECT_TRUE(team.leads());
  EXPECT_EQ(team.FindDifference({values}), -1);
  EXPECT_FALSE(team.AgreeOn(absl::DataLossError("x")).ok());
}

TEST(RankTeamTest, SumsResultsAndKeepsNan) {
  RunRanks(3, [](Communicator& communicator) {
    RankTeam team(&communicator, 0);
    const int rank = communicator.rank();
    const BatchResult sum = team.Sum({0.5 * rank, rank + 1});
    EXPECT_EQ(sum.loss, 1.5);
    EXPECT_EQ(sum.correct, 6);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    EXPECT_TRUE(std::isnan(team.Sum({rank == 1 ? nan : 1.0, 0}).loss));
    EXPECT_EQ(team.FromLead(rank * 10 + 7), 7);
  });
}

// A third of three equal floats, added in float, is another float for many of them.
TEST(RankTeamTest, MeansOfEqualNumbersAreThoseNumbers) {
  RunRanks(3, [](Communicator& communicator) {
    RankTeam team(&communicator, 1000);
    std::vector<float> values(1000);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = std::sqrt(static_cast<float>(i) + 0.1F);
    }
    const std::vector<float> before = values;
    team.Average(absl::MakeSpan(values));
    EXPECT_EQ(values, before);
    values.assign(10, static_cast<float>(communicator.rank()));
    team.Average(absl::MakeSpan(values));
    EXPECT_EQ(values, std::vector<float>(10, 1));
  });
}

TEST(RankTeamTest, OneRanksErrorIsEverybodys) {
  RunRanks(3, [](Communicator& communicator) {
    RankTeam team(&communicator, 0);
    EXPECT_TRUE(team.AgreeOn(absl::OkStatus()).ok());
    const absl::Status mine =
        communicator.rank() == 2
            ? WithReason(absl::DataLossError("the file is gone"), v1::FailureReason::DATA_ERROR)
            : absl::OkStatus();
    const absl::Status all = team.AgreeOn(mine);
    EXPECT_EQ(all.code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(all.message(), "rank 2: the file is gone");
    EXPECT_EQ(ToFailure(all).reason(), v1::FailureReason::DATA_ERROR);
  });
}

TEST(RankTeamTest, FindsOneBitAndAnExchange) {
  RunRanks(4, [](Communicator& communicator) {
    RankTeam team(&communicator, 0);
    std::vector<float> values(1001, 0.25F);
    values[500] = -1;
    EXPECT_EQ(team.FindDifference({values, {}}), -1);
    if (communicator.rank() == 3) {
      values[1000] = std::nextafter(0.25F, 1.0F);
    }
    EXPECT_EQ(team.FindDifference({values}), 3);
    values[1000] = 0.25F;
    if (communicator.rank() == 1) {
      std::swap(values[500], values[0]);
    }
    EXPECT_EQ(team.FindDifference({values}), 1);
  });
}

}  // namespace
}  // namespace normlab::engine
