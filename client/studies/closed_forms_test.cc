#include "client/studies/closed_forms.h"

#include <numbers>

#include <gtest/gtest.h>

namespace normlab::client::studies {
namespace {

TEST(ClosedFormsTest, AreThoseOfThePaper) {
  constexpr double kPrinted = 5e-5;  // four decimals
  EXPECT_NEAR(ReluGrowth(8), 1.7882, kPrinted);
  EXPECT_NEAR(ReluGrowth(16), 1.5900, kPrinted);
  EXPECT_NEAR(ReluGrowth(32), 1.5220, kPrinted);
  EXPECT_NEAR(ReluGrowth(64), 1.4931, kPrinted);
  EXPECT_NEAR(ReluGrowth(128), 1.4797, kPrinted);
  EXPECT_NEAR(ReluGrowth(1 << 30), std::numbers::pi / (std::numbers::pi - 1), 1e-6);
  EXPECT_NEAR(LinearGrowth(8), 1.2000, kPrinted);
  EXPECT_NEAR(LinearGrowth(16), 1.0769, kPrinted);
  EXPECT_NEAR(LinearGrowth(64), 1.0164, kPrinted);
}

}  // namespace
}  // namespace normlab::client::studies
