#include "engine/layers/normalization/channel_kernels.h"

#include <omp.h>

#include <cmath>
#include <limits>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/layers/normalization/testing.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using reference::NormShape;
using reference::Tensor;
using testing::Describe;
using testing::Inputs;
using testing::kFloatTolerance;
using testing::LayoutsOf;
using testing::Pack;
using testing::Random;
using testing::RelativeError;
using testing::ToFloats;
using testing::Unpack;

// Odd channels (padding), areas below and above a tile's row, rests of rows, more than one tile of
// columns, dense; the last two are worked on in parallel.
const NormShape kShapes[] = {{3, 5, 7},   {2, 17, 1},  {1, 3, 129},   {2, 16, 4},  {2, 33, 50},
                             {3, 131, 3}, {5, 300, 1}, {2, 20, 1024}, {2, 259, 79}};

struct Moments {
  Tensor mean, second;
};

Moments MomentsOf(const NormShape& s, ChannelStatistic statistic, const Tensor& x) {
  Moments moments;
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t c = 0; c < s.channels; ++c) {
      double sum = 0, second = 0;
      for (int64_t a = 0; a < s.area; ++a) {
        sum += x[static_cast<size_t>(s.at(n, c, a))];
      }
      const double mean = sum / static_cast<double>(s.area);
      for (int64_t a = 0; a < s.area; ++a) {
        const double v = x[static_cast<size_t>(s.at(n, c, a))];
        switch (statistic) {
          case ChannelStatistic::kCentredSquares:
            second += (v - mean) * (v - mean);
            break;
          case ChannelStatistic::kSquares:
            second += v * v;
            break;
          case ChannelStatistic::kAbsolutes:
            second += std::abs(v);
            break;
          case ChannelStatistic::kMaximum:
            second = std::max(second, std::abs(v));
            break;
        }
      }
      moments.mean.push_back(mean);
      moments.second.push_back(second);
    }
  }
  return moments;
}

Moments ComputedMoments(const ChannelBlocking& layout,
                        ChannelStatistic statistic,
                        const Tensor& x) {
  const auto count = static_cast<size_t>(layout.batch * layout.channels);
  Moments moments = {Tensor(count), Tensor(count)};
  ComputeMoments(layout, statistic, Pack(layout, x).data(), moments.mean.data(),
                 moments.second.data());
  return moments;
}

TEST(ChannelKernelsTest, MomentsMatchPlainSumsInEveryLayout) {
  for (const NormShape& shape : kShapes) {
    const Tensor x = Inputs(shape);
    for (const ChannelBlocking& layout : LayoutsOf(shape)) {
      SCOPED_TRACE(Describe(layout));
      for (const ChannelStatistic statistic :
           {ChannelStatistic::kCentredSquares, ChannelStatistic::kSquares,
            ChannelStatistic::kAbsolutes, ChannelStatistic::kMaximum}) {
        const Moments expected = MomentsOf(shape, statistic, x);
        const Moments moments = ComputedMoments(layout, statistic, x);
        // Runs of 32 float additions: errors of a few units in the last place.
        EXPECT_LT(RelativeError(moments.mean, expected.mean), 1e-6);
        EXPECT_LT(RelativeError(moments.second, expected.second), 1e-6);
      }
    }
  }
}

TEST(ChannelKernelsTest, CentredMomentsDoNotCancel) {
  // Sums of squares about 0 would lose the variance at this offset: 1e6 rounding errors of 6e-8.
  // Where the first eighth of the values is far from the rest, deviations from the shift are large
  // and so are their rounding errors, but so is the deviation (about 400), to which they are small.
  for (const NormShape& shape : {NormShape{2, 5, 333}, NormShape{1, 130, 64}}) {
    for (const bool late : {false, true}) {
      Tensor x = Inputs(shape, 1000);
      for (size_t i = 0; i < x.size() && late; ++i) {
        const auto place = static_cast<int64_t>(i) % shape.area;
        x[i] = place < shape.area / 8 ? 1000 : x[i] - 1200;
      }
      const Moments expected = MomentsOf(shape, ChannelStatistic::kCentredSquares, x);
      for (const ChannelBlocking& layout : LayoutsOf(shape)) {
        SCOPED_TRACE(::testing::Message() << Describe(layout) << " late " << late);
        const Moments moments = ComputedMoments(layout, ChannelStatistic::kCentredSquares, x);
        for (size_t i = 0; i < expected.mean.size(); ++i) {
          const double var = expected.second[i] / static_cast<double>(shape.area);
          EXPECT_NEAR(moments.mean[i], expected.mean[i], 1e-6 * std::sqrt(var));
          EXPECT_NEAR(moments.second[i] / expected.second[i], 1, 3e-6);
        }
      }
    }
  }
}

TEST(ChannelKernelsTest, AConstantChannelHasExactlyItsValueAndNoVariance) {
  const NormShape shape = {2, 5, 333};
  Tensor x(2 * 5 * 333);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<double>(0.1F * static_cast<float>(i / 333 + 1));
  }
  for (const ChannelBlocking& layout : LayoutsOf(shape)) {
    const Moments moments = ComputedMoments(layout, ChannelStatistic::kCentredSquares, x);
    for (size_t i = 0; i < 10; ++i) {
      EXPECT_EQ(moments.mean[i], x[i * 333]) << Describe(layout);
      EXPECT_EQ(moments.second[i], 0) << Describe(layout);
    }
  }
}

TEST(ChannelKernelsTest, WhatIsNotFiniteShowsInItsChannelOnly) {
  const NormShape shape = {2, 19, 40};
  for (const ChannelStatistic statistic :
       {ChannelStatistic::kCentredSquares, ChannelStatistic::kSquares, ChannelStatistic::kAbsolutes,
        ChannelStatistic::kMaximum}) {
    Tensor x = Inputs(shape);
    x[static_cast<size_t>(shape.at(1, 17, 39))] = std::numeric_limits<double>::quiet_NaN();
    for (const ChannelBlocking& layout : LayoutsOf(shape)) {
      const Moments moments = ComputedMoments(layout, statistic, x);
      for (size_t i = 0; i < 38; ++i) {
        EXPECT_EQ(std::isnan(moments.second[i]), i == 19 + 17) << Describe(layout) << " " << i;
      }
    }
  }
}

// Tables for tests: rows of two examples each (the last with fewer).
struct Tables {
  std::vector<float> shift, scale, offset, floor, p, q, r;
  ChannelAffine affine(bool floored) const {
    return {shift.data(), scale.data(), offset.data(), 2, floored ? floor.data() : nullptr};
  }
};

Tables MakeTables(const NormShape& shape) {
  const int64_t count = (shape.batch + 1) / 2 * shape.channels;
  return {ToFloats(Random("shift", count)),  ToFloats(Random("scale", count)),
          ToFloats(Random("offset", count)), ToFloats(Random("floor", shape.channels)),
          ToFloats(Random("p", count)),      ToFloats(Random("q", count)),
          ToFloats(Random("r", count))};
}

TEST(ChannelKernelsTest, MapsAndSumsMatchPlainLoopsInEveryLayout) {
  for (const NormShape& shape : kShapes) {
    const Tables t = MakeTables(shape);
    const Tensor x = Inputs(shape);
    const Tensor d_y = Random("d", static_cast<int64_t>(x.size()));
    for (const bool floored : {false, true}) {
      for (const GradientTerm term : {GradientTerm::kDeviation, GradientTerm::kSign}) {
        if (floored && term == GradientTerm::kSign) {
          continue;
        }
        const auto planes = static_cast<size_t>(shape.batch * shape.channels);
        Tensor y(x.size()), d_x(x.size()), sum_g(planes), sum_gx(planes), sum_floored(planes);
        for (int64_t n = 0; n < shape.batch; ++n) {
          for (int64_t c = 0; c < shape.channels; ++c) {
            const auto k = static_cast<size_t>(n / 2 * shape.channels + c);
            const auto plane = static_cast<size_t>(n * shape.channels + c);
            for (int64_t a = 0; a < shape.area; ++a) {
              const auto i = static_cast<size_t>(shape.at(n, c, a));
              const double deviation = x[i] - static_cast<double>(t.shift[k]);
              const double z =
                  static_cast<double>(t.scale[k]) * deviation + static_cast<double>(t.offset[k]);
              const auto floor = static_cast<double>(t.floor[static_cast<size_t>(c)]);
              const bool cut = floored && z <= floor;
              const double g = cut ? 0 : d_y[i];
              const double h = term == GradientTerm::kDeviation ? deviation : x[i] > 0 ? 1 : -1;
              y[i] = cut ? floor : z;
              sum_g[plane] += g;
              sum_gx[plane] += g * deviation;
              sum_floored[plane] += d_y[i] - g;
              d_x[i] = static_cast<double>(t.p[k]) * g + static_cast<double>(t.q[k]) * h +
                       static_cast<double>(t.r[k]);
            }
          }
        }
        for (const ChannelBlocking& layout : LayoutsOf(shape)) {
          SCOPED_TRACE(::testing::Message() << Describe(layout) << " floored " << floored);
          const ChannelAffine affine = t.affine(floored);
          const ChannelGradient gradient = {t.p.data(), t.q.data(), t.r.data(), term};
          const std::vector<float> packed_x = Pack(layout, x);
          std::vector<float> packed_d = Pack(layout, d_y);
          std::vector<float> out(packed_x.size(), 7);
          ApplyAffine(layout, affine, packed_x.data(), out.data());
          EXPECT_LT(RelativeError(Unpack(layout, out), y), kFloatTolerance);
          Tensor g(planes), gx(planes), cut(planes);
          SumGradients(layout, affine, packed_x.data(), packed_d.data(),
                       {g.data(), gx.data(), floored ? cut.data() : nullptr});
          EXPECT_LT(RelativeError(g, sum_g), kFloatTolerance);
          EXPECT_LT(RelativeError(gx, sum_gx), kFloatTolerance);
          if (floored) {
            EXPECT_LT(RelativeError(cut, sum_floored), kFloatTolerance);
          }
          ApplyGradient(layout, affine, gradient, packed_x.data(), packed_d.data(), out.data());
          EXPECT_LT(RelativeError(Unpack(layout, out), d_x), kFloatTolerance);
          // In place as well.
          ApplyGradient(layout, affine, gradient, packed_x.data(), packed_d.data(),
                        packed_d.data());
          EXPECT_EQ(packed_d, out);
        }
      }
    }
  }
}

TEST(ChannelKernelsTest, TheFloorKeepsNan) {
  const float kZero = 0;
  const float kOne = 1;
  const float x[] = {-1, std::numeric_limits<float>::quiet_NaN(), 2};
  float y[3];
  ApplyAffine({1, 1, 3, 1}, {&kZero, &kOne, &kZero, 1, &kZero}, x, y);
  EXPECT_EQ(y[0], 0);
  EXPECT_TRUE(std::isnan(y[1]));
  EXPECT_EQ(y[2], 2);
}

TEST(ChannelKernelsTest, FindsTheFirstMagnitude) {
  const NormShape shape = {2, 19, 6};
  Tensor x = Inputs(shape);
  x[static_cast<size_t>(shape.at(1, 17, 3))] = -50;
  x[static_cast<size_t>(shape.at(1, 17, 5))] = 50;
  for (const ChannelBlocking& layout : LayoutsOf(shape)) {
    const std::vector<float> packed = Pack(layout, x);
    const int64_t at = FindMagnitude(layout, 1, 17, 50, packed.data());
    ASSERT_GE(at, 0);
    EXPECT_EQ(packed[static_cast<size_t>(at)], -50);
    EXPECT_EQ(FindMagnitude(layout, 0, 17, 50, packed.data()), -1);
  }
}

TEST(ChannelKernelsTest, ResultsDoNotDependOnThreads) {
  const NormShape shape = {3, 37, 500};
  const Tables t = MakeTables(shape);
  const Tensor x = Inputs(shape), d_y = Random("d", 3 * 37 * 500);
  const int threads = omp_get_max_threads();
  for (const ChannelBlocking& layout : LayoutsOf(shape)) {
    const std::vector<float> packed_x = Pack(layout, x), packed_d = Pack(layout, d_y);
    std::vector<std::pair<Tensor, std::vector<float>>> results;
    for (const int count : {1, 3}) {
      omp_set_num_threads(count);
      Tensor sums(4 * 111);
      std::vector<float> d_x(packed_x.size());
      ComputeMoments(layout, ChannelStatistic::kCentredSquares, packed_x.data(), sums.data(),
                     sums.data() + 111);
      SumGradients(layout, t.affine(false), packed_x.data(), packed_d.data(),
                   {sums.data() + 222, sums.data() + 333, nullptr});
      ApplyGradient(layout, t.affine(false), {t.p.data(), t.q.data(), t.r.data()}, packed_x.data(),
                    packed_d.data(), d_x.data());
      // The padding of d_x must not be compared as NaN.
      results.emplace_back(sums, d_x);
    }
    omp_set_num_threads(threads);
    EXPECT_EQ(results[0], results[1]) << Describe(layout);
  }
}

}  // namespace
}  // namespace normlab::engine
