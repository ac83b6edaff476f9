#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/dnnl/testing.h"

namespace normlab::engine {
namespace {

using testing::ExpectClose;
using ::testing::HasSubstr;
using testing::NameOf;
using testing::OpRunner;
using testing::RandomValues;
using testing::TestRuntime;
using testing::Values;

// Of the sum of the absolute products. In single precision a sum of n terms is off by at most n 2^-24
// of that; here n is up to 700, and kernels add in blocks, which keeps it to some 16 x 2^-24.
constexpr double kSumSlack = 1e-6;
// Winograd's transforms of 4x4 tiles add and scale by up to 8 before the terms cancel, so rounding
// errors come out several times larger (Lavin and Gray 2016, section 5).
constexpr double kWinogradSlack = 4e-6;

struct ConvShape {
  int64_t batch, groups, in, out;  // channels of all groups together
  int64_t height, width, kernel, stride, padding;

  int64_t out_height() const { return (height + 2 * padding - kernel) / stride + 1; }
  int64_t out_width() const { return (width + 2 * padding - kernel) / stride + 1; }
  std::vector<int64_t> x() const { return {batch, in, height, width}; }
  std::vector<int64_t> y() const { return {batch, out, out_height(), out_width()}; }
  std::vector<int64_t> w() const {
    if (groups == 1) {
      return {out, in, kernel, kernel};
    }
    return {groups, out / groups, in / groups, kernel, kernel};
  }
  int64_t x_count() const { return batch * in * height * width; }
  int64_t y_count() const { return batch * out * out_height() * out_width(); }
  int64_t w_count() const { return out * (in / groups) * kernel * kernel; }
  std::string name() const {
    return absl::StrCat(batch, "x", in, "x", height, "x", width, "_to", out, "_k", kernel, "s",
                        stride, "p", padding, groups == 1 ? "" : absl::StrCat("g", groups));
  }
};

// Calls use(x index, w index, y index) for every product of the convolution.
template <typename Use>
void ForEachProduct(const ConvShape& s, Use use) {
  const int64_t group_in = s.in / s.groups;
  const int64_t group_out = s.out / s.groups;
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t o = 0; o < s.out; ++o) {
      for (int64_t i = 0; i < group_in; ++i) {
        const int64_t c = o / group_out * group_in + i;
        for (int64_t oh = 0; oh < s.out_height(); ++oh) {
          for (int64_t ow = 0; ow < s.out_width(); ++ow) {
            for (int64_t kh = 0; kh < s.kernel; ++kh) {
              for (int64_t kw = 0; kw < s.kernel; ++kw) {
                const int64_t h = oh * s.stride + kh - s.padding;
                const int64_t w = ow * s.stride + kw - s.padding;
                if (h < 0 || h >= s.height || w < 0 || w >= s.width) {
                  continue;
                }
                use(static_cast<size_t>(((n * s.in + c) * s.height + h) * s.width + w),
                    static_cast<size_t>(((o * group_in + i) * s.kernel + kh) * s.kernel + kw),
                    static_cast<size_t>(((n * s.out + o) * s.out_height() + oh) * s.out_width() +
                                        ow));
              }
            }
          }
        }
      }
    }
  }
}

// A result and the sums of the absolute values of its terms.
struct Sums {
  Values value;
  Values magnitude;

  explicit Sums(int64_t count)
      : value(static_cast<size_t>(count)), magnitude(static_cast<size_t>(count)) {}
  void Add(size_t at, double term) {
    value[at] += term;
    magnitude[at] += std::abs(term);
  }
};

struct Inputs {
  Values x, w, b, d_y;

  Inputs(const ConvShape& s, DataType type)
      : x(RandomValues(s.x_count(), 1, type)),
        w(RandomValues(s.w_count(), 2, type)),
        b(RandomValues(s.out, 3)),
        d_y(RandomValues(s.y_count(), 4, type)) {}
};

struct Algorithms {
  ConvAlgorithm forward = ConvAlgorithm::kDirect;
  ConvAlgorithm backward_data = ConvAlgorithm::kDirect;
  ConvAlgorithm backward_weights = ConvAlgorithm::kDirect;

  static double Slack(ConvAlgorithm algorithm) {
    return algorithm == ConvAlgorithm::kWinograd ? kWinogradSlack : kSumSlack;
  }
};

// All three passes against the loops. `d_w_type`: of the gradient of the weights.
void CheckAllPasses(const ConvShape& s,
                    DataType type,
                    DataType d_w_type,
                    bool bias,
                    const Algorithms& algorithms = {}) {
  SCOPED_TRACE(absl::StrCat(s.name(), " ", NameOf(type), " gradient of weights ", NameOf(d_w_type),
                            bias ? " with" : " without", " bias"));
  const Inputs in(s, type);
  const WindowGeometry geometry{.stride = s.stride, .padding = s.padding};
  const Layout any_x = Layout::Any(s.x(), type);
  const Layout any_w = Layout::Any(s.w(), type);
  const Layout any_y = Layout::Any(s.y(), type);

  OpRunner forward(MakeConvolutionForward(TestRuntime(), geometry, any_x, any_w, any_y, bias,
                                          /*training=*/true, algorithms.forward));
  forward.Set(Arg::kSource, in.x);
  forward.Set(Arg::kWeights, in.w);
  forward.Set(Arg::kBias, in.b);
  forward.Run();
  Sums y(s.y_count());
  Sums d_x(s.x_count());
  Sums d_w(s.w_count());
  Sums d_b(s.out);
  for (size_t i = 0; i < y.value.size(); ++i) {
    const size_t channel =
        i / static_cast<size_t>(s.out_height() * s.out_width()) % static_cast<size_t>(s.out);
    y.Add(i, bias ? in.b[channel] : 0);
    d_b.Add(channel, in.d_y[i]);
  }
  ForEachProduct(s, [&](size_t x_at, size_t w_at, size_t y_at) {
    y.Add(y_at, in.x[x_at] * in.w[w_at]);
    d_x.Add(x_at, in.d_y[y_at] * in.w[w_at]);
    d_w.Add(w_at, in.d_y[y_at] * in.x[x_at]);
  });
  ExpectClose(forward.Get(Arg::kDestination), y.value, y.magnitude, type,
              Algorithms::Slack(algorithms.forward), "y by " + forward.op().implementation());

  OpRunner backward_data(MakeConvolutionBackwardData(TestRuntime(), geometry, any_x, any_w, any_y,
                                                     forward.op(), algorithms.backward_data));
  backward_data.Set(Arg::kDiffDestination, in.d_y);
  backward_data.Set(Arg::kWeights, in.w);
  backward_data.Run();
  ExpectClose(backward_data.Get(Arg::kDiffSource), d_x.value, d_x.magnitude, type,
              Algorithms::Slack(algorithms.backward_data),
              "d_x by " + backward_data.op().implementation());

  OpRunner backward_weights(
      MakeConvolutionBackwardWeights(TestRuntime(), geometry, any_x, Layout::Any(s.w(), d_w_type),
                                     any_y, bias, forward.op(), algorithms.backward_weights));
  backward_weights.Set(Arg::kSource, in.x);
  backward_weights.Set(Arg::kDiffDestination, in.d_y);
  backward_weights.Run();
  ExpectClose(backward_weights.Get(Arg::kDiffWeights), d_w.value, d_w.magnitude, d_w_type,
              Algorithms::Slack(algorithms.backward_weights),
              "d_w by " + backward_weights.op().implementation());
  EXPECT_EQ(backward_weights.op().has(Arg::kDiffBias), bias);
  if (bias) {
    EXPECT_EQ(backward_weights.op().layout(Arg::kDiffBias), Layout::RowMajor({s.out}));
    ExpectClose(backward_weights.Get(Arg::kDiffBias), d_b.value, d_b.magnitude, DataType::kF32,
                kSumSlack, "d_b");
  }
}

// Odd, unequal sizes; widths that fill no vector, one that does, one that overflows it.
const ConvShape kShapes[] = {
    {2, 1, 3, 5, 7, 6, 3, 1, 1},   {3, 1, 16, 32, 5, 9, 3, 2, 1}, {2, 1, 19, 7, 9, 8, 5, 1, 2},
    {2, 1, 17, 33, 4, 5, 1, 2, 0}, {1, 1, 1, 1, 3, 4, 2, 1, 0},   {2, 3, 6, 9, 7, 5, 3, 1, 1},
    {2, 4, 32, 64, 5, 6, 3, 2, 1}, {2, 7, 7, 7, 6, 9, 3, 1, 1},  // depthwise
    {2, 2, 32, 32, 1, 1, 1, 1, 0},
};

class ConvolutionTest : public ::testing::TestWithParam<std::tuple<ConvShape, DataType>> {};

TEST_P(ConvolutionTest, AllPassesMatchTheLoops) {
  const auto& [shape, type] = GetParam();
  NORMLAB_SKIP_WITHOUT(type);
  CheckAllPasses(shape, type, type, /*bias=*/true);
  CheckAllPasses(shape, type, DataType::kF32, /*bias=*/false);
}

std::string ParamName(const ::testing::TestParamInfo<std::tuple<ConvShape, DataType>>& info) {
  return std::get<0>(info.param).name() + NameOf(std::get<1>(info.param));
}
INSTANTIATE_TEST_SUITE_P(Shapes,
                         ConvolutionTest,
                         ::testing::Combine(::testing::ValuesIn(kShapes),
                                            ::testing::Values(DataType::kF32, DataType::kBf16)),
                         ParamName);

TEST(ConvolutionTypesTest, Bf16DataAndSingleGradientsOfWeightsAndBias) {
  NORMLAB_SKIP_WITHOUT(DataType::kBf16);
  CheckAllPasses({3, 1, 16, 32, 5, 9, 3, 1, 1}, DataType::kBf16, DataType::kF32, /*bias=*/true);
}

const ConvShape kWinogradShapes[] = {
    {2, 1, 16, 32, 9, 8, 3, 1, 1}, {3, 1, 64, 16, 4, 5, 3, 1, 1}, {2, 1, 32, 32, 14, 11, 3, 1, 1}};

TEST(WinogradTest, AllPassesMatchTheLoops) {
  if (!HasWinograd()) {
    GTEST_SKIP() << "oneDNN has no Winograd kernels on this machine";
  }
  constexpr auto kWinograd = ConvAlgorithm::kWinograd;
  for (const ConvShape& shape : kWinogradShapes) {
    CheckAllPasses(shape, DataType::kF32, DataType::kF32, /*bias=*/true,
                   {kWinograd, kWinograd, kWinograd});
    CheckAllPasses(shape, DataType::kF32, DataType::kF32, /*bias=*/false,
                   {kWinograd, kWinograd, kWinograd});
  }
}

TEST(WinogradTest, PassesMayDifferInAlgorithm) {
  if (!HasWinograd()) {
    GTEST_SKIP() << "oneDNN has no Winograd kernels on this machine";
  }
  constexpr auto kWinograd = ConvAlgorithm::kWinograd;
  constexpr auto kDirect = ConvAlgorithm::kDirect;
  for (const Algorithms& algorithms :
       {Algorithms{kWinograd, kDirect, kDirect}, Algorithms{kDirect, kWinograd, kDirect},
        Algorithms{kDirect, kDirect, kWinograd}}) {
    CheckAllPasses(kWinogradShapes[0], DataType::kF32, DataType::kF32, /*bias=*/true, algorithms);
  }
}

TEST(WinogradTest, IsNamedInTheImplementation) {
  if (!HasWinograd()) {
    GTEST_SKIP() << "oneDNN has no Winograd kernels on this machine";
  }
  const ConvShape& s = kWinogradShapes[0];
  const WindowGeometry geometry{.stride = 1, .padding = 1};
  for (const auto algorithm : {ConvAlgorithm::kDirect, ConvAlgorithm::kWinograd}) {
    const auto op =
        MakeConvolutionForward(TestRuntime(), geometry, Layout::Any(s.x()), Layout::Any(s.w()),
                               Layout::Any(s.y()), /*bias=*/false, /*training=*/true, algorithm);
    ASSERT_TRUE(op.ok()) << op.status();
    EXPECT_EQ(op->implementation().find("wino") != std::string::npos,
              algorithm == ConvAlgorithm::kWinograd)
        << op->implementation();
  }
}

TEST(WinogradTest, WhatItCannotDoIsUnimplemented) {
  const ConvShape shapes[] = {{2, 1, 16, 32, 9, 8, 5, 1, 2},   // 5x5
                              {2, 1, 16, 32, 9, 8, 3, 2, 1},   // stride 2
                              {2, 2, 32, 32, 9, 8, 3, 1, 1}};  // groups
  for (const ConvShape& s : shapes) {
    const auto op =
        MakeConvolutionForward(TestRuntime(), {.stride = s.stride, .padding = s.padding},
                               Layout::Any(s.x()), Layout::Any(s.w()), Layout::Any(s.y()),
                               /*bias=*/false, /*training=*/true, ConvAlgorithm::kWinograd);
    EXPECT_EQ(op.status().code(), absl::StatusCode::kUnimplemented) << s.name();
    EXPECT_THAT(std::string(op.status().message()), HasSubstr("a Winograd convolution"));
  }
}

}  // namespace
}  // namespace normlab::engine
