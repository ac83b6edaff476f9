#include "server/scheduler/shares.h"

#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace normlab::server {
namespace {

constexpr absl::Duration kStart = absl::Hours(100);

TEST(ShareLedgerTest, WhatWasUsedCountsHalfAfterAHalfLife) {
  ShareLedger ledger;
  ledger.Add("ann", 1000, kStart);
  EXPECT_DOUBLE_EQ(ledger.Usage(kStart)["ann"], 1000);
  EXPECT_DOUBLE_EQ(ledger.Usage(kStart + kShareHalfLife)["ann"], 500);
  EXPECT_DOUBLE_EQ(ledger.Usage(kStart + 3 * kShareHalfLife)["ann"], 125);
  // Another time's use does not disturb it, whatever the order in which it is told.
  ledger.Add("ann", 80, kStart + 2 * kShareHalfLife);
  EXPECT_DOUBLE_EQ(ledger.Usage(kStart + 3 * kShareHalfLife)["ann"], 125 + 40);
}

TEST(ShareLedgerTest, HeldCoresCountAsTheyAreUsed) {
  // Against the integral, summed in steps of a tenth of a second.
  constexpr absl::Duration kHalfLife = absl::Seconds(100);
  ShareLedger ledger(kHalfLife);
  ledger.Hold("bob", 2, kStart);
  ledger.Usage(kStart + absl::Seconds(13));  // looking changes nothing
  ledger.Hold("bob", 3, kStart + absl::Seconds(40));
  ledger.Release("bob", 2, kStart + absl::Seconds(90));
  double expected = 0;
  constexpr double kStep = 0.1;
  for (double t = kStep / 2; t < 150; t += kStep) {
    const int cores = t < 40 ? 2 : t < 90 ? 5 : 3;
    expected += cores * kStep * std::exp2(-(150 - t) / 100);
  }
  EXPECT_NEAR(ledger.Usage(kStart + absl::Seconds(150))["bob"], expected, 1e-3);
}

TEST(ShareLedgerTest, AnAttemptOfThePastIsHeldSinceItsStart) {
  ShareLedger told_late;
  told_late.Usage(kStart);
  told_late.Add("ann", 0, kStart);
  told_late.Hold("ann", 4, kStart - absl::Minutes(90));
  ShareLedger told_in_time;
  told_in_time.Hold("ann", 4, kStart - absl::Minutes(90));
  EXPECT_NEAR(told_late.Usage(kStart)["ann"], told_in_time.Usage(kStart)["ann"], 1e-6);
}

TEST(ShareLedgerTest, OwnersWithoutATraceAreForgotten) {
  ShareLedger ledger;
  ledger.Add("ann", 100, kStart);
  ledger.Hold("bob", 1, kStart);
  EXPECT_EQ(ledger.Usage(kStart + absl::Hours(24)).size(), 1u);
  ledger.Release("bob", 1, kStart + absl::Hours(25));
  EXPECT_TRUE(ledger.Usage(kStart + absl::Hours(60)).empty());
}

// Two owners who always hold the same have a constant ratio of 1, however long.
TEST(ShareLedgerTest, ASteadyHolderConvergesToItsCoresTimesTheMeanLife) {
  ShareLedger ledger;
  ledger.Hold("ann", 3, kStart);
  const double limit = 3 * absl::ToDoubleSeconds(kShareHalfLife) / std::numbers::ln2;
  EXPECT_NEAR(ledger.Usage(kStart + absl::Hours(30))["ann"], limit, limit * 1e-6);
}

}  // namespace
}  // namespace normlab::server
