#include <omp.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

#include "engine/layers/reference.h"
#include "engine/layers/small_image_kernels.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using testing::HarnessOptions;
using testing::kFloatTolerance;
using testing::LayerHarness;
using testing::Random;
using testing::RandomBf16;
using testing::RelativeError;
using testing::Tensor;

ConvNode NodeOf(int64_t out_channels, bool bias) {
  return {.out_channels = out_channels, .bias = bias};
}

reference::ConvShape ShapeOf(int64_t batch, int64_t in, int64_t out) {
  return {{batch, in, 2, 2}, out, 3, 1, 1};
}

std::string Implementation(const LayerHarness& harness, absl::string_view pass) {
  for (const ImplementationChoice& choice : harness.choices()) {
    if (choice.pass == pass) {
      return choice.implementation;
    }
  }
  return "";
}

bool IsSmall(const LayerHarness& harness, absl::string_view pass) {
  return absl::StartsWith(Implementation(harness, pass), "normlab:9_products");
}

TEST(SmallImageConvolutionTest, MatchesReferenceInEveryOrderOfMemory) {
  for (const auto& [batch, in, out] :
       {std::tuple<int64_t, int64_t, int64_t>{1, 32, 48}, {7, 80, 32}, {33, 64, 160}}) {
    const reference::ConvShape shape = ShapeOf(batch, in, out);
    const Tensor x = Random("x", shape.in.count());
    const Tensor w = Random("w", out * in * 9);
    const Tensor d_y = Random("d", shape.out().count());
    const reference::WeightGradients d = reference::ConvBackward(shape, x, w, d_y);
    for (const bool bias : {true, false}) {
      const Tensor b = bias ? Random("b", out) : Tensor();
      const Tensor y = reference::ConvForward(shape, x, w, b);
      for (const std::optional<Layout>& order :
           {std::optional<Layout>(), std::optional(Layout::ChannelsLast({batch, in, 2, 2}))}) {
        SCOPED_TRACE(::testing::Message() << "N" << batch << " I" << in << " O" << out << " bias "
                                          << bias << " channels last " << order.has_value());
        HarnessOptions options;
        options.x_layout = order;
        LayerHarness harness({in, 2, 2}, NodeOf(out, bias), batch, options);
        ASSERT_TRUE(harness.status().ok()) << harness.status();
        for (const char* pass : {"forward", "backward_data", "backward_weights"}) {
          EXPECT_TRUE(IsSmall(harness, pass)) << pass << ": " << Implementation(harness, pass);
        }
        for (const char* name : {"another", "w"}) {  // the second time it follows changed weights
          harness.Set("weight", Random(name, out * in * 9));
          if (bias) {
            harness.Set("bias", b);
          }
          harness.Forward(x);
        }
        EXPECT_LT(RelativeError(harness.Forward(x), y), kFloatTolerance);
        EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), kFloatTolerance);
        EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_w), kFloatTolerance);
        if (bias) {
          EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_b), kFloatTolerance);
        }
      }
    }
  }
}

TEST(SmallImageConvolutionTest, EvaluationMatchesReference) {
  const reference::ConvShape shape = ShapeOf(5, 48, 32);
  LayerHarness harness({48, 2, 2}, NodeOf(32, true), 5, Mode::kEvaluation);
  ASSERT_TRUE(harness.status().ok()) << harness.status();
  EXPECT_TRUE(IsSmall(harness, "forward"));
  const Tensor x = Random("x", shape.in.count());
  const Tensor w = Random("w", 32 * 48 * 9);
  const Tensor b = Random("b", 32);
  harness.Set("weight", w);
  harness.Set("bias", b);
  EXPECT_LT(RelativeError(harness.Forward(x), reference::ConvForward(shape, x, w, b)),
            kFloatTolerance);
}

// Blocks of channels, as convolutions before it leave them.
TEST(SmallImageConvolutionTest, ReadsBlockedChannels) {
  const std::optional<Layout> blocked = [] {
    LayerHarness before({32, 2, 2}, NodeOf(48, false), 3, Mode::kTraining, std::nullopt,
                        {.convolution = ConvolutionPolicy::kDirect});
    return before.status().ok() ? std::optional(before.y_layout()) : std::nullopt;
  }();
  ASSERT_TRUE(blocked.has_value());
  const reference::ConvShape shape = ShapeOf(3, 48, 64);
  HarnessOptions options;
  options.x_layout = blocked;
  LayerHarness harness({48, 2, 2}, NodeOf(64, false), 3, options);
  ASSERT_TRUE(harness.status().ok()) << harness.status();
  const Tensor x = Random("x", shape.in.count());
  const Tensor w = Random("w", 64 * 48 * 9);
  const Tensor d_y = Random("d", shape.out().count());
  harness.Set("weight", w);
  const reference::WeightGradients d = reference::ConvBackward(shape, x, w, d_y);
  EXPECT_LT(RelativeError(harness.Forward(x), reference::ConvForward(shape, x, w, {})),
            kFloatTolerance);
  EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), kFloatTolerance);
  EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_w), kFloatTolerance);
}

TEST(SmallImageConvolutionTest, TakesNothingElse) {
  struct Case {
    Dims in;
    ConvNode conv;
  };
  ConvNode grouped = NodeOf(64, false);
  grouped.groups = 2;
  for (const auto& [in, conv] :
       {Case{{64, 2, 2}, grouped},
        Case{{64, 2, 2}, ConvNode{.out_channels = 64, .kernel = 3, .stride = 2, .padding = 1}},
        Case{{64, 2, 2}, ConvNode{.out_channels = 64, .kernel = 1, .stride = 1, .padding = 0}},
        Case{{64, 4, 4}, ConvNode{.out_channels = 64, .kernel = 3, .stride = 1, .padding = 0}},
        Case{{64, 2, 3}, NodeOf(64, false)}, Case{{64, 2, 2}, NodeOf(35, false)},
        Case{{16, 2, 2}, NodeOf(64, false)}}) {
    LayerHarness harness(in, conv, 3);
    ASSERT_TRUE(harness.status().ok()) << harness.status();
    for (const char* pass : {"forward", "backward_data", "backward_weights"}) {
      EXPECT_FALSE(IsSmall(harness, pass)) << in[0] << " to " << conv.out_channels << " " << pass;
    }
  }
  LayerHarness direct({64, 2, 2}, NodeOf(64, false), 3, Mode::kTraining, std::nullopt,
                      {.convolution = ConvolutionPolicy::kDirect});
  ASSERT_TRUE(direct.status().ok()) << direct.status();
  EXPECT_FALSE(IsSmall(direct, "forward"));
}

TEST(SmallImageConvolutionTest, OfBf16DataComputesTheGradientOfWeightsOnly) {
  const reference::ConvShape shape = ShapeOf(5, 32, 64);
  LayerHarness harness({32, 2, 2}, NodeOf(64, true), 5, Mode::kTraining, std::nullopt,
                       {.type = DataType::kBf16});
  if (harness.status().code() == absl::StatusCode::kUnimplemented) {
    GTEST_SKIP() << "no bf16 kernels here";
  }
  ASSERT_TRUE(harness.status().ok()) << harness.status();
  EXPECT_FALSE(IsSmall(harness, "forward"));
  EXPECT_FALSE(IsSmall(harness, "backward_data"));
  EXPECT_TRUE(IsSmall(harness, "backward_weights"));
  const Tensor x = RandomBf16("x", shape.in.count());
  const Tensor w = RandomBf16("w", 64 * 32 * 9);
  const Tensor d_y = RandomBf16("d", shape.out().count());
  harness.Set("weight", w);
  const reference::WeightGradients d = reference::ConvBackward(shape, x, w, d_y);
  harness.Forward(x);
  EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), testing::kBf16Tolerance);
  EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_w), kFloatTolerance);
  EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_b), kFloatTolerance);
}

// Weight norm's gain and bias are set from the first output, by way of the transformed weights.
TEST(SmallImageConvolutionTest, FirstBatchOfWeightNormSetsGainAndBias) {
  ConvNode conv = NodeOf(32, true);
  conv.weights = {.transform = WeightTransform::kWeightNorm, .data_dependent_init = true};
  LayerHarness harness({48, 2, 2}, conv, 9);
  ASSERT_TRUE(harness.status().ok()) << harness.status();
  EXPECT_TRUE(IsSmall(harness, "forward"));
  harness.Set("weight_v", Random("w", 32 * 48 * 9));
  const Tensor y = harness.ForwardInitializing(Random("x", 9 * 48 * 4));
  for (size_t o = 0; o < 32; ++o) {
    double sum = 0;
    double squares = 0;
    for (size_t n = 0; n < 9; ++n) {
      for (size_t p = 0; p < 4; ++p) {
        const double value = y[(n * 32 + o) * 4 + p];
        sum += value;
        squares += value * value;
      }
    }
    EXPECT_NEAR(sum / 36, 0, kFloatTolerance) << o;
    EXPECT_NEAR(squares / 36, 1, 10 * kFloatTolerance) << o;
  }
}

TEST(SmallImageKernelsTest, ResultsDoNotDependOnThreads) {
  const ChannelBlocking shape = {.batch = 129, .channels = 96, .area = 4, .block = 16};
  const Tensor values = Random("x", 129 * 96 * 4);
  const std::vector<float> image(values.begin(), values.end());
  const Tensor weights = Random("w", 96 * 80 * 9);
  const std::vector<float> w(weights.begin(), weights.end());
  const int before = omp_get_max_threads();
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 3}) {
    omp_set_num_threads(threads);
    std::vector<float> planes(static_cast<size_t>(9 * 129 * 96));
    std::vector<float> back(image.size());
    std::vector<float> u(w.size());
    std::vector<float> d_w(w.size());
    SplitImages(shape, ImageSide::kInput, image.data(), planes.data());
    JoinImages(shape, ImageSide::kOutput, planes.data(), image.data(), back.data());
    SplitKernels(96, 80, w.data(), u.data());
    JoinKernelGradients(96, 80, u.data(), d_w.data());
    for (const auto& part : {back, u, d_w}) {
      planes.insert(planes.end(), part.begin(), part.end());
    }
    results.push_back(std::move(planes));
  }
  omp_set_num_threads(before);
  EXPECT_EQ(results[0], results[1]);
}

}  // namespace
}  // namespace normlab::engine
