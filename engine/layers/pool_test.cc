#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/layers/reference.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using testing::kFloatTolerance;
using testing::LayerHarness;
using testing::Random;
using testing::RelativeError;
using testing::Tensor;

TEST(PoolTest, HandCaseDropsWhatDoesNotFit) {
  LayerHarness max({1, 3, 5}, PoolNode{PoolKind::kMax, 2, 2}, 1);
  ASSERT_TRUE(max.status().ok()) << max.status();
  const Tensor x = {1, 2, 9, 3, 4, 5, 0, 9, 8, 7, 99, 99, 99, 99, 99};
  EXPECT_THAT(max.Forward(x), ElementsAre(5, 9));
  EXPECT_THAT(max.Backward({10, 20}), ElementsAre(0, 0, 20, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  LayerHarness average({1, 3, 5}, PoolNode{PoolKind::kAverage, 2, 2}, 1);
  ASSERT_TRUE(average.status().ok()) << average.status();
  EXPECT_THAT(average.Forward(x), ElementsAre(2, 7.25));
  EXPECT_THAT(average.Backward({4, 8}), ElementsAre(1, 1, 2, 2, 0, 1, 1, 2, 2, 0, 0, 0, 0, 0, 0));
}

TEST(PoolTest, MatchesReference) {
  const reference::PoolShape shapes[] = {
      {{1, 1, 4, 6}, PoolKind::kMax, 2, 2},  {{3, 5, 7, 9}, PoolKind::kMax, 3, 2},
      {{2, 16, 6, 5}, PoolKind::kMax, 2, 1}, {{7, 17, 5, 8}, PoolKind::kMax, 2, 3},
      {{2, 3, 4, 7}, PoolKind::kMax, 4, 4},  {{2, 32, 9, 3}, PoolKind::kMax, 1, 2}};
  for (reference::PoolShape shape : shapes) {
    for (const PoolKind kind : {PoolKind::kMax, PoolKind::kAverage}) {
      shape.kind = kind;
      SCOPED_TRACE(::testing::Message()
                   << "C" << shape.in.channels << " H" << shape.in.height << " W" << shape.in.width
                   << " window " << shape.window << " stride " << shape.stride);
      LayerHarness harness({shape.in.channels, shape.in.height, shape.in.width},
                           PoolNode{kind, shape.window, shape.stride}, shape.in.batch);
      ASSERT_TRUE(harness.status().ok()) << harness.status();
      const Tensor x = Random("x", shape.in.count());
      const Tensor d_y = Random("d", shape.out().count());
      EXPECT_LT(RelativeError(harness.Forward(x), reference::PoolForward(shape, x)),
                kFloatTolerance);
      EXPECT_LT(RelativeError(harness.Backward(d_y), reference::PoolBackward(shape, x, d_y)),
                kFloatTolerance);
    }
  }
}

TEST(PoolTest, NanIsNotLost) {
  for (const PoolKind kind : {PoolKind::kMax, PoolKind::kAverage}) {
    for (const int64_t channels : {5, 16}) {
      LayerHarness harness({channels, 6, 8}, PoolNode{kind, 2, 2}, 3);
      ASSERT_TRUE(harness.status().ok()) << harness.status();
      Tensor x = Random("x", 3 * channels * 6 * 8);
      x[x.size() / 2] = std::numeric_limits<double>::quiet_NaN();
      const Tensor y = harness.Forward(x);
      EXPECT_TRUE(harness.saw_nan() ||
                  std::any_of(y.begin(), y.end(), [](double v) { return std::isnan(v); }))
          << static_cast<int>(kind) << " C" << channels;
    }
  }
}

}  // namespace
}  // namespace normlab::engine
