#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "engine/dnnl/testing.h"

namespace normlab::engine {
namespace {

using testing::ExpectClose;
using testing::NameOf;
using testing::OpRunner;
using testing::RandomValues;
using testing::TestRuntime;
using testing::Values;

// Averages of at most 63 values below 1, in single precision; gradients that up to 9 windows add to.
constexpr double kSlack = 1e-6;
// Where windows overlap, oneDNN adds bf16 gradients up in bf16, with a rounding by up to 2^-9 of the
// sum so far for each of up to 9 windows.
constexpr double kOverlapSlackBf16 = 9 * 0x1p-9;

struct PoolShape {
  int64_t batch, channels, height, width;
  WindowGeometry geometry;

  int64_t kernel_width() const { return geometry.kernel_width.value_or(geometry.kernel); }
  int64_t Out(int64_t size, int64_t kernel) const {
    return (size + 2 * geometry.padding - kernel) / geometry.stride + 1;
  }
  int64_t out_height() const { return Out(height, geometry.kernel); }
  int64_t out_width() const { return Out(width, kernel_width()); }
  std::vector<int64_t> x() const { return {batch, channels, height, width}; }
  std::vector<int64_t> y() const { return {batch, channels, out_height(), out_width()}; }
};

struct Pooled {
  Values y, d_x;
  Values d_x_magnitude;  // sums of absolute values
};

Pooled Reference(const PoolShape& s, bool max, const Values& x, const Values& d_y) {
  Pooled r;
  r.d_x.resize(x.size());
  r.d_x_magnitude.resize(x.size());
  for (int64_t plane = 0; plane < s.batch * s.channels; ++plane) {
    for (int64_t oh = 0; oh < s.out_height(); ++oh) {
      for (int64_t ow = 0; ow < s.out_width(); ++ow) {
        std::vector<size_t> inside;
        size_t largest = 0;
        double sum = 0;
        for (int64_t kh = 0; kh < s.geometry.kernel; ++kh) {
          for (int64_t kw = 0; kw < s.kernel_width(); ++kw) {
            const int64_t h = oh * s.geometry.stride + kh - s.geometry.padding;
            const int64_t w = ow * s.geometry.stride + kw - s.geometry.padding;
            if (h < 0 || h >= s.height || w < 0 || w >= s.width) {
              continue;
            }
            const auto at = static_cast<size_t>((plane * s.height + h) * s.width + w);
            // Of equal ones the first counts.
            largest = inside.empty() || x[at] > x[largest] ? at : largest;
            inside.push_back(at);
            sum += x[at];
          }
        }
        const double gradient = d_y[r.y.size()];
        r.y.push_back(max ? x[largest] : sum / static_cast<double>(inside.size()));
        for (const size_t at : inside) {
          const double share =
              max ? (at == largest ? gradient : 0) : gradient / static_cast<double>(inside.size());
          r.d_x[at] += share;
          r.d_x_magnitude[at] += std::abs(share);
        }
      }
    }
  }
  return r;
}

const PoolShape kShapes[] = {
    {2, 19, 6, 8, {.kernel = 2, .stride = 2}},
    {3, 5, 7, 9, {.kernel = 3, .stride = 2, .padding = 1}},
    {2, 16, 7, 5, {.kernel = 3, .stride = 1}},
    {1, 3, 5, 6, {.kernel = 2, .stride = 1, .kernel_width = 3}},
    // The whole image.
    {3, 19, 4, 4, {.kernel = 4, .stride = 1}},
    {2, 17, 7, 9, {.kernel = 7, .stride = 1, .kernel_width = 9}},
};

class PoolingTest : public ::testing::TestWithParam<DataType> {};
INSTANTIATE_TEST_SUITE_P(Types,
                         PoolingTest,
                         ::testing::Values(DataType::kF32, DataType::kBf16),
                         [](const auto& of) { return NameOf(of.param); });

TEST_P(PoolingTest, BothPassesMatchTheLoops) {
  const DataType type = GetParam();
  NORMLAB_SKIP_WITHOUT(type);
  for (const PoolShape& s : kShapes) {
    const Values x = RandomValues(s.batch * s.channels * s.height * s.width, 1, type);
    const Values d_y = RandomValues(s.batch * s.channels * s.out_height() * s.out_width(), 2, type);
    const bool overlap = s.geometry.stride < std::max(s.geometry.kernel, s.kernel_width());
    for (const bool max : {true, false}) {
      for (const Layout& layout :
           {Layout::RowMajor(s.x(), type), Layout::ChannelsLast(s.x(), type)}) {
        SCOPED_TRACE(absl::StrCat(max ? "max " : "average ", layout.ToString(), " kernel ",
                                  s.geometry.kernel));
        const Pooled want = Reference(s, max, x, d_y);
        OpRunner forward(MakePoolForward(TestRuntime(), max, s.geometry, layout,
                                         Layout::Any(s.y(), type), /*training=*/true));
        forward.Set(Arg::kSource, x);
        forward.Run();
        ExpectClose(forward.Get(Arg::kDestination), want.y, 1, type, max ? 0 : kSlack,
                    "y by " + forward.op().implementation());
        const Layout y_layout = forward.op().layout(Arg::kDestination);
        OpRunner backward(
            MakePoolBackward(TestRuntime(), max, s.geometry, layout, y_layout, forward.op()));
        backward.Set(Arg::kDiffDestination, d_y);
        if (backward.op().has(Arg::kWorkspace)) {
          backward.Copy(Arg::kWorkspace, forward);
        }
        backward.Run();
        ExpectClose(backward.Get(Arg::kDiffSource), want.d_x, want.d_x_magnitude, type,
                    overlap && type == DataType::kBf16 ? kOverlapSlackBf16 : kSlack,
                    "d_x by " + backward.op().implementation());
        OpRunner evaluation(MakePoolForward(TestRuntime(), max, s.geometry, layout, y_layout,
                                            /*training=*/false));
        EXPECT_FALSE(evaluation.op().has(Arg::kWorkspace));
        evaluation.Set(Arg::kSource, x);
        evaluation.Run();
        EXPECT_EQ(evaluation.Get(Arg::kDestination), forward.Get(Arg::kDestination));
      }
    }
  }
}

}  // namespace
}  // namespace normlab::engine
