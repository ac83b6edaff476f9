#include "client/report/downsample.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace normlab::client::report {
namespace {

Line Wave(size_t count) {
  Line line;
  for (size_t i = 0; i < count; ++i) {
    line.x.push_back(static_cast<double>(i));
    line.y.push_back(std::sin(static_cast<double>(i) * 0.37));
  }
  return line;
}

TEST(ChoosePointsTest, AShortLineIsKeptWhole) {
  EXPECT_EQ(ChoosePoints(Wave(17), Scale::kLinear, 20).size(), 17U);
}

TEST(ChoosePointsTest, ExtremesEndsAndGapsSurvive) {
  Line line = Wave(5003);
  line.y[1234] = 99;
  line.y[4001] = -77;
  line.y[2500] = NAN;
  const std::vector<size_t> chosen = ChoosePoints(line, Scale::kLinear, 100);
  EXPECT_LE(chosen.size(), 100U);
  EXPECT_GE(chosen.size(), 60U);
  EXPECT_TRUE(std::is_sorted(chosen.begin(), chosen.end()));
  for (const size_t kept : {size_t{0}, size_t{1234}, size_t{2500}, size_t{4001}, size_t{5002}}) {
    EXPECT_TRUE(std::binary_search(chosen.begin(), chosen.end(), kept)) << kept;
  }
}

TEST(ChoosePointsTest, TheBandsExtremesSurvive) {
  Line line = Wave(3001);
  line.low.assign(3001, -2);
  line.high.assign(3001, 2);
  line.low[777] = -50;
  line.high[2222] = 60;
  const std::vector<size_t> chosen = ChoosePoints(line, Scale::kLinear, 90);
  EXPECT_LE(chosen.size(), 90U);
  EXPECT_TRUE(std::binary_search(chosen.begin(), chosen.end(), size_t{777}));
  EXPECT_TRUE(std::binary_search(chosen.begin(), chosen.end(), size_t{2222}));
}

TEST(ChoosePointsTest, ALogarithmicAxisKeepsItsBeginning) {
  const Line line = Wave(10007);  // x 0 has no place on it
  const std::vector<size_t> chosen = ChoosePoints(line, Scale::kLogarithmic, 80);
  ASSERT_FALSE(chosen.empty());
  EXPECT_EQ(chosen.front(), 1U);
  EXPECT_GE(std::count_if(chosen.begin(), chosen.end(), [](size_t i) { return i < 100; }), 20);
}

TEST(ChoosePointsTest, HardInputDoesNoHarm) {
  EXPECT_TRUE(ChoosePoints(Line{}, Scale::kLinear, 50).empty());
  Line same;
  same.x.assign(1000, 3.0);
  same.y.assign(1000, 1.0);
  EXPECT_LE(ChoosePoints(same, Scale::kLinear, 50).size(), 50U);
  Line infinite = Wave(500);
  infinite.x[3] = INFINITY;
  const std::vector<size_t> chosen = ChoosePoints(infinite, Scale::kLinear, 500);
  EXPECT_EQ(chosen.size(), 499U);
}

TEST(WindowMeansTest, MeansByHand) {
  const Windowed windowed = WindowMeans({0, 1, 2, 3, 4, 9}, {1, 2, 3, NAN, 5, 7}, 3);
  EXPECT_EQ(windowed.x, (std::vector<double>{2, 5, 11}));
  ASSERT_EQ(windowed.y.size(), 3U);
  EXPECT_DOUBLE_EQ(windowed.y[0], 2);
  EXPECT_DOUBLE_EQ(windowed.y[1], 5);
  EXPECT_DOUBLE_EQ(windowed.y[2], 7);
}

TEST(WindowMeansTest, AWindowWithoutNumbersIsAGap) {
  const Windowed windowed = WindowMeans({0, 1}, {NAN, INFINITY}, 2);
  ASSERT_EQ(windowed.y.size(), 1U);
  EXPECT_TRUE(std::isnan(windowed.y[0]));
}

}  // namespace
}  // namespace normlab::client::report
