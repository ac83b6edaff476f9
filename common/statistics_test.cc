#include "common/statistics.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace normlab::common {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
// The expected numbers are of SciPy 1.10 (scipy.stats), printed in full; the two differ by rounding.
constexpr double kRounding = 1e-12;
// Its quantiles of Student's t are good to ten digits only: for df = 1 it says 12.706204736432, and
// tan(0.475 pi) is 12.706204736175.
constexpr double kPeerQuantile = 5e-9;

// The sleep data of Student (1908): hours gained by ten patients with each of two drugs.
const std::vector<double> kFirstDrug = {0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0};
const std::vector<double> kSecondDrug = {1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4};

TEST(StatisticsTest, DescribesASample) {
  const SampleStatistics sample = DescribeSample(kFirstDrug);
  EXPECT_EQ(sample.n, 10);
  EXPECT_NEAR(sample.mean, 0.75, kRounding);
  EXPECT_NEAR(sample.standard_deviation, 1.7890096577591623, kRounding);
  EXPECT_EQ(sample.minimum, -1.6);
  EXPECT_EQ(sample.maximum, 3.7);
}

TEST(StatisticsTest, LeavesNanOutAndCountsTheRest) {
  const SampleStatistics sample = DescribeSample({kNan, 3.0, kNan, 5.0, 10.0});
  EXPECT_EQ(sample.n, 3);
  EXPECT_EQ(sample.mean, 6.0);
  EXPECT_NEAR(sample.standard_deviation, std::sqrt(13.0), kRounding);
  EXPECT_EQ(sample.minimum, 3.0);
  EXPECT_EQ(sample.maximum, 10.0);
}

TEST(StatisticsTest, TellsWhatTooFewValuesDoNotGive) {
  const SampleStatistics none = DescribeSample({kNan});
  EXPECT_EQ(none.n, 0);
  EXPECT_TRUE(std::isnan(none.mean));
  EXPECT_TRUE(std::isnan(none.minimum));
  const SampleStatistics one = DescribeSample({2.5});
  EXPECT_EQ(one.n, 1);
  EXPECT_EQ(one.mean, 2.5);
  EXPECT_TRUE(std::isnan(one.standard_deviation));
  EXPECT_TRUE(std::isnan(MeanInterval(one, 0.95).low));
  const TTest test = OneSampleTTest({2.5}, 0, 0.95);
  EXPECT_EQ(test.p_two_sided, 1);
  EXPECT_EQ(test.p_greater, 1);
  EXPECT_TRUE(std::isnan(test.interval.high));
  EXPECT_FALSE(TestEquivalence({0.0}, 1.0, 0.05).equivalent);
}

TEST(StatisticsTest, IsExactForEqualValues) {
  // Seven times 0.1 sums to something else than 0.7.
  const SampleStatistics sample = DescribeSample({0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1});
  EXPECT_EQ(sample.mean, 0.1);
  EXPECT_EQ(sample.standard_deviation, 0);
  EXPECT_EQ(MeanInterval(sample, 0.95).low, 0.1);
  // Against something else the difference is certain, against itself there is none.
  EXPECT_EQ(OneSampleTTest({0.1, 0.1, 0.1}, 0, 0.95).p_greater, 0);
  EXPECT_EQ(OneSampleTTest({0.1, 0.1, 0.1}, 0, 0.95).p_less, 1);
  EXPECT_EQ(OneSampleTTest({0.1, 0.1, 0.1}, 0.1, 0.95).p_two_sided, 1);
}

TEST(StatisticsTest, KeepsASmallDeviationOfLargeValues) {
  const SampleStatistics sample = DescribeSample({1e9 + 1, 1e9 + 2, 1e9 + 4});
  EXPECT_NEAR(sample.standard_deviation, std::sqrt(7.0 / 3), 1e-6);  // as far as 1e9 + x goes
}

TEST(StatisticsTest, AnOverflowedValueGivesNoInterval) {
  const SampleStatistics sample = DescribeSample({1.0, kInfinity, 2.0});
  EXPECT_EQ(sample.n, 3);
  EXPECT_EQ(sample.mean, kInfinity);
  EXPECT_EQ(sample.maximum, kInfinity);
  EXPECT_TRUE(std::isnan(sample.standard_deviation));
  EXPECT_EQ(OneSampleTTest({1.0, kInfinity, 2.0}, 0, 0.95).p_two_sided, 1);
}

TEST(StatisticsTest, QuantilesOfStudentsDistribution) {
  // Closed forms for 1, 2 and 4 degrees of freedom (Shaw 2006).
  constexpr double kPi = 3.14159265358979323846;
  for (const double p : {0.05, 0.3, 0.9, 0.975, 0.995}) {
    EXPECT_NEAR(StudentQuantile(p, 1), std::tan(kPi * (p - 0.5)), 1e-10);
    const double spread = 4 * p * (1 - p);
    EXPECT_NEAR(StudentQuantile(p, 2), (2 * p - 1) * std::sqrt(2 / spread), kRounding * 10);
    const double q = std::cos(std::acos(std::sqrt(spread)) / 3) / std::sqrt(spread);
    EXPECT_NEAR(StudentQuantile(p, 4), std::copysign(2 * std::sqrt(q - 1), p - 0.5),
                kRounding * 10);
  }
  EXPECT_NEAR(StudentQuantile(0.995, 2.5), 7.16372813402124, kPeerQuantile);
  EXPECT_NEAR(StudentQuantile(0.95, 1e6), 1.64485515072204, kPeerQuantile);
  EXPECT_TRUE(std::isnan(StudentQuantile(1, 4)));
  EXPECT_TRUE(std::isnan(StudentQuantile(0.9, 0)));
}

TEST(StatisticsTest, IntervalOfAMean) {
  const Interval at95 = MeanInterval(DescribeSample(kFirstDrug), 0.95);
  EXPECT_NEAR(at95.low, -0.5297804134938644, kPeerQuantile);
  EXPECT_NEAR(at95.high, 2.0297804134938646, kPeerQuantile);
  const Interval at99 = MeanInterval(DescribeSample(kSecondDrug), 0.99);
  EXPECT_NEAR(at99.low, 0.2723125326680189, kPeerQuantile);
  EXPECT_NEAR(at99.high, 4.387687467331981, kPeerQuantile);
}

TEST(StatisticsTest, PairedTest) {
  const TTest test = PairedTTest(kFirstDrug, kSecondDrug, 0.95);
  EXPECT_EQ(test.n, 10);
  EXPECT_EQ(test.degrees_of_freedom, 9);
  EXPECT_NEAR(test.mean, -1.58, kRounding);
  EXPECT_NEAR(test.statistic, -4.062127683382037, kRounding);
  EXPECT_NEAR(test.p_two_sided, 0.00283289019738427, kRounding);
  EXPECT_NEAR(test.p_less, 0.001416445098692135, kRounding);
  EXPECT_NEAR(test.p_greater, 1 - 0.001416445098692135, kRounding);
  EXPECT_NEAR(test.interval.low, -2.4598857632547286, kPeerQuantile);
  EXPECT_NEAR(test.interval.high, -0.7001142367452713, kPeerQuantile);
}

TEST(StatisticsTest, PairedTestLeavesOutPairsWithoutBoth) {
  std::vector<double> first = kFirstDrug;
  std::vector<double> second = kSecondDrug;
  first.insert(first.begin() + 3, kNan);
  second.insert(second.begin() + 3, 100);
  first.push_back(-100);
  second.push_back(kNan);
  const TTest test = PairedTTest(first, second, 0.95);
  EXPECT_EQ(test.n, 10);
  EXPECT_NEAR(test.p_two_sided, 0.00283289019738427, kRounding);
}

TEST(StatisticsTest, EquivalenceIsTwoOneSidedTests) {
  const std::vector<double> differences = {0.4, -0.9, 0.3, 0.8, -0.2, 0.5};
  const EquivalenceTest test = TestEquivalence(differences, 1.0, 0.05);
  EXPECT_NEAR(test.p_above_lower, 0.0028554573632435603, kRounding);
  EXPECT_NEAR(test.p_below_upper, 0.009436655356945644, kRounding);
  EXPECT_EQ(test.p_value, test.p_below_upper);
  EXPECT_NEAR(test.interval.low, -0.3510681589193475, kPeerQuantile);
  EXPECT_NEAR(test.interval.high, 0.6510681589193473, kPeerQuantile);
  EXPECT_TRUE(test.equivalent);
}

TEST(StatisticsTest, EquivalenceAgreesWithItsInterval) {
  const std::vector<double> differences = {0.4, -0.9, 0.3, 0.8, -0.2, 0.5};
  const Interval interval = TestEquivalence(differences, 1.0, 0.05).interval;
  EXPECT_TRUE(TestEquivalence(differences, interval.high + 1e-9, 0.05).equivalent);
  EXPECT_FALSE(TestEquivalence(differences, interval.high - 1e-9, 0.05).equivalent);
  // No difference shown is not equivalence shown.
  EXPECT_FALSE(TestEquivalence({2.0, -2.0, 0.5}, 1.0, 0.05).equivalent);
}

TEST(StatisticsTest, HolmAdjustsInTheOrderGiven) {
  // Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, and never falling.
  const std::vector<double> adjusted = HolmAdjust({0.01, 0.04, 0.03, 0.005});
  ASSERT_EQ(adjusted.size(), 4u);
  EXPECT_NEAR(adjusted[0], 0.03, kRounding);
  EXPECT_NEAR(adjusted[1], 0.06, kRounding);
  EXPECT_NEAR(adjusted[2], 0.06, kRounding);
  EXPECT_NEAR(adjusted[3], 0.02, kRounding);
  EXPECT_EQ(HolmAdjust({0.9, kNan, 0.6}), (std::vector<double>{1, 1, 1}));
  EXPECT_TRUE(HolmAdjust({}).empty());
}

TEST(StatisticsTest, QuantilesInterpolate) {
  const std::vector<double> values = {7, 1, kNan, 4, 2, 9};
  EXPECT_EQ(Quantile(values, 0), 1);
  EXPECT_NEAR(Quantile(values, 0.1), 1.4, kRounding);
  EXPECT_EQ(Quantile(values, 0.25), 2);
  EXPECT_EQ(Quantile(values, 0.5), 4);
  EXPECT_NEAR(Quantile(values, 0.9), 8.2, kRounding);
  EXPECT_EQ(Quantile(values, 1), 9);
  EXPECT_TRUE(std::isnan(Quantile({}, 0.5)));
  EXPECT_TRUE(std::isnan(Quantile(values, 1.5)));
  EXPECT_EQ(Quantile({kInfinity, 1.0, kInfinity}, 0.75), kInfinity);
}

}  // namespace
}  // namespace normlab::common
