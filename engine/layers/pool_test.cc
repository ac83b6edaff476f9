#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/dnnl/runtime.h"
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

bool UsesOwnLoops(const LayerHarness& harness) {
  return std::any_of(
      harness.choices().begin(), harness.choices().end(), [](const ImplementationChoice& choice) {
        return choice.pass == "forward" && choice.implementation == "normlab:max_2x2";
      });
}

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
      {{2, 3, 4, 7}, PoolKind::kMax, 4, 4},  {{2, 32, 9, 3}, PoolKind::kMax, 1, 2},
      {{3, 16, 7, 9}, PoolKind::kMax, 2, 2}, {{5, 48, 2, 2}, PoolKind::kMax, 2, 2}};
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

// Blocks of 16 (or 8) channels as convolutions leave them, and all channels side by side: whole,
// padded, and with a row and a column that no window takes.
TEST(PoolTest, OwnLoopsMatchReferenceInEveryOrderOfMemory) {
  for (const auto& [batch, channels, height, width] :
       {std::tuple<int64_t, int64_t, int64_t, int64_t>{3, 48, 6, 4},
        {2, 19, 7, 9},
        {33, 64, 8, 10},
        {5, 32, 2, 3}}) {
    std::vector<Layout> orders = {Layout::ChannelsLast({batch, channels, height, width})};
    {
      LayerHarness conv({16, height, width}, ConvNode{.out_channels = channels, .bias = false},
                        batch);
      ASSERT_TRUE(conv.status().ok()) << conv.status();
      orders.push_back(conv.y_layout());
    }
    for (const Layout& order : orders) {
      SCOPED_TRACE(::testing::Message() << "N" << batch << " C" << channels << " H" << height
                                        << " W" << width << " " << order.ToString());
      const reference::PoolShape shape = {{batch, channels, height, width}, PoolKind::kMax, 2, 2};
      Tensor x = Random("x", shape.in.count());
      for (size_t i = 0; i < x.size(); i += 3) {
        x[i] = 0;  // ties, as a ReLU makes them
      }
      const Tensor d_y = Random("d", shape.out().count());
      for (const Mode mode : {Mode::kTraining, Mode::kEvaluation}) {
        testing::HarnessOptions options;
        options.mode = mode;
        options.x_layout = order;
        LayerHarness harness({channels, height, width}, PoolNode{PoolKind::kMax, 2, 2}, batch,
                             options);
        ASSERT_TRUE(harness.status().ok()) << harness.status();
        EXPECT_TRUE(UsesOwnLoops(harness));
        EXPECT_EQ(harness.Forward(x), reference::PoolForward(shape, x));
        if (mode == Mode::kTraining) {
          EXPECT_EQ(harness.Backward(d_y), reference::PoolBackward(shape, x, d_y));
        }
      }
    }
  }
}

// Gradients so large that they go past the caches, next to pixels that no window takes, which do not.
TEST(PoolTest, OwnLoopsMatchReferenceOnLargeTensors) {
  const reference::PoolShape shape = {{301, 64, 15, 15}, PoolKind::kMax, 2, 2};
  LayerHarness conv({16, 15, 15}, ConvNode{.out_channels = 64, .bias = false}, shape.in.batch);
  ASSERT_TRUE(conv.status().ok()) << conv.status();
  testing::HarnessOptions options;
  options.x_layout = conv.y_layout();
  LayerHarness harness({64, 15, 15}, PoolNode{PoolKind::kMax, 2, 2}, shape.in.batch, options);
  ASSERT_TRUE(harness.status().ok()) << harness.status();
  EXPECT_TRUE(UsesOwnLoops(harness));
  const Tensor x = Random("x", shape.in.count());
  const Tensor d_y = Random("d", shape.out().count());
  EXPECT_TRUE(harness.Forward(x) == reference::PoolForward(shape, x));
  EXPECT_TRUE(harness.Backward(d_y) == reference::PoolBackward(shape, x, d_y));
}

TEST(PoolTest, OwnLoopsTakeBf16) {
  constexpr int64_t kBatch = 3;
  constexpr int64_t kChannels = 32;
  testing::HarnessOptions options;
  options.plan.type = DataType::kBf16;
  options.x_layout = Layout::ChannelsLast({kBatch, kChannels, 7, 6}, DataType::kBf16);
  LayerHarness harness({kChannels, 7, 6}, PoolNode{PoolKind::kMax, 2, 2}, kBatch, options);
  if (!HasBf16Kernels() && absl::IsUnimplemented(harness.status())) {
    GTEST_SKIP() << "no bf16 kernels here";
  }
  ASSERT_TRUE(harness.status().ok()) << harness.status();
  EXPECT_TRUE(UsesOwnLoops(harness));
  const reference::PoolShape shape = {{kBatch, kChannels, 7, 6}, PoolKind::kMax, 2, 2};
  const Tensor x = testing::RandomBf16("x", shape.in.count());
  const Tensor d_y = testing::RandomBf16("d", shape.out().count());
  EXPECT_EQ(harness.Forward(x), reference::PoolForward(shape, x));
  EXPECT_EQ(harness.Backward(d_y), reference::PoolBackward(shape, x, d_y));
}

TEST(PoolTest, OwnLoopsLetNanWinAndGiveItTheGradient) {
  constexpr int64_t kChannels = 16;
  for (const size_t place : {size_t{0}, size_t{1}, size_t{2}, size_t{3}}) {
    testing::HarnessOptions options;
    options.x_layout = Layout::ChannelsLast({1, kChannels, 2, 2});
    LayerHarness harness({kChannels, 2, 2}, PoolNode{PoolKind::kMax, 2, 2}, 1, options);
    ASSERT_TRUE(harness.status().ok()) << harness.status();
    Tensor x = Random("x", kChannels * 4);
    x[4 * 5 + place] = std::numeric_limits<double>::quiet_NaN();  // of channel 5
    const Tensor y = harness.Forward(x);
    for (size_t c = 0; c < kChannels; ++c) {
      EXPECT_EQ(std::isnan(y[c]), c == 5) << "channel " << c;
    }
    const Tensor d_x = harness.Backward(Tensor(kChannels, 2.0));
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(d_x[4 * 5 + i], i == place ? 2.0 : 0.0) << "pixel " << i;
    }
  }
}

TEST(PoolTest, OwnLoopsAreForSmallImagesAndWindowsSideBySide) {
  for (const auto& [size, pool] : {std::pair<int64_t, PoolNode>{17, {PoolKind::kMax, 2, 2}},
                                   {8, {PoolKind::kMax, 2, 1}},
                                   {8, {PoolKind::kMax, 3, 2}},
                                   {8, {PoolKind::kAverage, 2, 2}}}) {
    testing::HarnessOptions options;
    options.x_layout = Layout::ChannelsLast({2, 16, size, size});
    LayerHarness harness({16, size, size}, pool, 2, options);
    ASSERT_TRUE(harness.status().ok()) << harness.status();
    EXPECT_FALSE(UsesOwnLoops(harness)) << size << " window " << pool.window;
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
