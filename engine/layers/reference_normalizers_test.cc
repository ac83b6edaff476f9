// The reference itself: hand cases, central differences, and the identities that hold in double.
#include "engine/layers/reference_normalizers.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/layers/normalization/testing.h"
#include "engine/layers/testing.h"

namespace normlab::engine::reference {
namespace {

using testing::CentralDifference;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using testing::Inputs;
using testing::kDifferenceTolerance;
using ::testing::Pointwise;
using testing::Random;
using testing::RelativeError;

constexpr double kDoubleTolerance = 1e-10;

struct Kind {
  const char* name;
  bool centred;
  Divisor divisor;
};
const Kind kKinds[] = {
    {"mean only", true, Divisor::kOne},       {"deviation", true, Divisor::kDeviation},
    {"rms", false, Divisor::kRootMeanSquare}, {"l1", true, Divisor::kMeanAbsolute},
    {"l2", true, Divisor::kRootMeanSquare},   {"linf", true, Divisor::kMaximumAbsolute},
};

struct Partition {
  const char* name;
  std::vector<Set> sets;
};
std::vector<Partition> PartitionsOf(const NormShape& shape) {
  return {{"batch", BatchSets(shape, shape.batch)},
          {"ghost", BatchSets(shape, shape.batch / 2)},
          {"layer", GroupSets(shape, 1)},
          {"group", GroupSets(shape, shape.channels / 3)},
          {"instance", GroupSets(shape, shape.channels)}};
}

// All gradients of one normalizer against central differences.
void CheckGradients(const SetNormalizer& normalizer, const Tensor& x, const Tensor& d_y) {
  const NormalizerGradients d = Backward(normalizer, x, d_y);
  EXPECT_LT(
      RelativeError(d.d_x, CentralDifference(
                               [&](const Tensor& v) { return Forward(normalizer, v); }, x, d_y)),
      kDifferenceTolerance);
  const auto parameter = [&](Tensor SetNormalizer::*which) {
    return CentralDifference(
        [&](const Tensor& v) {
          SetNormalizer moved = normalizer;
          moved.*which = v;
          return Forward(moved, x);
        },
        normalizer.*which, d_y);
  };
  EXPECT_LT(RelativeError(d.d_gamma, parameter(&SetNormalizer::gamma)), kDifferenceTolerance);
  EXPECT_LT(RelativeError(d.d_beta, parameter(&SetNormalizer::beta)), kDifferenceTolerance);
  if (!normalizer.tau.empty()) {
    EXPECT_LT(RelativeError(d.d_tau, parameter(&SetNormalizer::tau)), kDifferenceTolerance);
  }
}

TEST(ReferenceNormalizersTest, HandCases) {
  // One channel, two examples of two values: mean 3, deviations -2 -1 1 2.
  const NormShape shape = {2, 1, 2};
  const Tensor x = {1, 2, 4, 5};
  const auto run = [&](Kind kind, std::vector<Set> sets) {
    return Forward({shape, std::move(sets), kind.centred, kind.divisor}, x);
  };
  const std::vector<Set> batch = BatchSets(shape, 2);
  const double s = std::sqrt(2.5);
  EXPECT_THAT(run(kKinds[0], batch), ElementsAre(-2, -1, 1, 2));
  EXPECT_THAT(run(kKinds[1], batch), Pointwise(DoubleNear(1e-15), {-2 / s, -1 / s, 1 / s, 2 / s}));
  const double rms = std::sqrt(11.5);
  EXPECT_THAT(run(kKinds[2], batch),
              Pointwise(DoubleNear(1e-15), {1 / rms, 2 / rms, 4 / rms, 5 / rms}));
  EXPECT_THAT(run(kKinds[3], batch),
              Pointwise(DoubleNear(1e-15), {-2. / 3, -1. / 3, 1. / 3, 2. / 3}));
  EXPECT_THAT(run(kKinds[4], batch),
              Pointwise(DoubleNear(1e-15), {-2 / rms, -1 / rms, 1 / rms, 2 / rms}));
  EXPECT_THAT(run(kKinds[5], batch), Pointwise(DoubleNear(1e-15), {-.4, -.2, .2, .4}));
  EXPECT_THAT(run(kKinds[1], GroupSets(shape, 1)), ElementsAre(-1, 1, -1, 1));
  EXPECT_THAT(run(kKinds[1], BatchSets(shape, 1)), ElementsAre(-1, 1, -1, 1));
}

TEST(ReferenceNormalizersTest, SetsCoverTheRightPlaces) {
  const NormShape shape = {2, 4, 2};
  EXPECT_THAT(BatchSets(shape, 2)[1], ElementsAre(2, 3, 10, 11));
  EXPECT_THAT(BatchSets(shape, 1)[5], ElementsAre(10, 11));
  EXPECT_THAT(GroupSets(shape, 2)[1], ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(GroupSets(shape, 1)[1].size(), 8);
}

TEST(ReferenceNormalizersTest, GradientsAreCentralDifferences) {
  const NormShape shape = {4, 6, 3};
  const Tensor x = Inputs(shape), d_y = Random("d", 72);
  for (const Kind& kind : kKinds) {
    for (const Partition& partition : PartitionsOf(shape)) {
      SCOPED_TRACE(::testing::Message() << kind.name << " " << partition.name);
      SetNormalizer normalizer = {shape, partition.sets, kind.centred, kind.divisor, 1e-3};
      normalizer.gamma = Random("gamma", 6);
      normalizer.beta = Random("beta", 6);
      CheckGradients(normalizer, x, d_y);
      normalizer.tau = Random("tau", 6);
      CheckGradients(normalizer, x, d_y);
    }
  }
}

TEST(ReferenceNormalizersTest, GradientsWithConstantsAreCentralDifferences) {
  const NormShape shape = {3, 5, 4};
  const Tensor x = Inputs(shape), d_y = Random("d", 60);
  const Statistics running = {Random("mean", 5), {0.5, 1, 2, 1.5, 0.7}};
  SetNormalizer normalizer = {shape, BatchSets(shape, 3), true, Divisor::kDeviation, 1e-3};
  normalizer.gamma = Random("gamma", 5);
  normalizer.beta = Random("beta", 5);
  normalizer.renorm = RenormOf(normalizer, x, running, 1.2, 0.4);
  CheckGradients(normalizer, x, d_y);
  normalizer.renorm.clear();
  normalizer.given = running;
  CheckGradients(normalizer, x, d_y);
}

TEST(ReferenceNormalizersTest, RenormClipsBothWays) {
  const NormShape shape = {4, 3, 1};
  // Deviations 1, 8 and 1/8 times the running one; means 0, 9 and -9 off.
  const Tensor base = {-1, 1, -1, 1};
  Tensor x(12);
  for (size_t n = 0; n < 4; ++n) {
    x[n * 3] = base[n];
    x[n * 3 + 1] = 9 + 8 * base[n];
    x[n * 3 + 2] = -9 + base[n] / 8;
  }
  const SetNormalizer normalizer = {shape, BatchSets(shape, 4)};
  const auto renorm = RenormOf(normalizer, x, {{0, 0, 0}, {1, 1, 1}}, 3, 5);
  EXPECT_DOUBLE_EQ(renorm[0].r, 1);
  EXPECT_DOUBLE_EQ(renorm[0].d, 0);
  EXPECT_DOUBLE_EQ(renorm[1].r, 3);
  EXPECT_DOUBLE_EQ(renorm[1].d, 5);
  EXPECT_DOUBLE_EQ(renorm[2].r, 1.0 / 3);
  EXPECT_DOUBLE_EQ(renorm[2].d, -5);
}

TEST(ReferenceNormalizersTest, OneUpdateOfRunningStatistics) {
  const NormShape shape = {4, 2, 3};
  const Tensor x = Inputs(shape);
  const Statistics batch = BatchStatistics(shape, x);
  const SetNormalizer normalizer = {shape, BatchSets(shape, 4)};
  const Statistics updated = UpdatedRunning(normalizer, x, 0.1, {{0, 0}, {1, 1}});
  for (size_t c = 0; c < 2; ++c) {
    EXPECT_NEAR(updated.mean[c], 0.1 * batch.mean[c], kDoubleTolerance);
    EXPECT_NEAR(updated.var[c], 0.9 + 0.1 * batch.var[c] * 12 / 11, kDoubleTolerance);
  }
}

TEST(ReferenceNormalizersTest, FamiliesMeetWhereTheyShould) {
  const NormShape shape = {4, 6, 5};
  const Tensor x = Inputs(shape), d_y = Random("d", 120);
  SetNormalizer batch = {shape, BatchSets(shape, 4), true, Divisor::kDeviation, 1e-5};
  batch.gamma = Random("gamma", 6);
  batch.beta = Random("beta", 6);
  const Statistics statistics = BatchStatistics(shape, x);
  EXPECT_LT(RelativeError(Forward(batch, x),
                          Normalize(shape, 1e-5, x, statistics, batch.gamma, batch.beta)),
            kDoubleTolerance);
  EXPECT_LT(RelativeError(Backward(batch, x, d_y).d_x,
                          BatchNormBackward(shape, 1e-5, x, batch.gamma, d_y).d_x),
            kDoubleTolerance);
  SetNormalizer renorm = batch;
  renorm.renorm = RenormOf(batch, x, {Random("m", 6), Tensor(6, 3)}, 1, 0);
  EXPECT_EQ(Forward(renorm, x), Forward(batch, x));
  EXPECT_EQ(Backward(renorm, x, d_y).d_x, Backward(batch, x, d_y).d_x);
}

TEST(ReferenceNormalizersTest, IdentitiesOfSets) {
  const NormShape shape = {4, 6, 5};
  const Tensor x = Inputs(shape), d_y = Random("d", 120);
  for (const Partition& partition : PartitionsOf(shape)) {
    for (const double epsilon : {0.0, 1e-5, 0.5}) {
      SCOPED_TRACE(::testing::Message() << partition.name << " " << epsilon);
      SetNormalizer normalizer = {shape, partition.sets, true, Divisor::kDeviation, epsilon};
      const Tensor xh = Forward(normalizer, x);
      normalizer.gamma = Random("gamma", 6);
      const Tensor d_x = Backward(normalizer, x, d_y).d_x;
      for (const Set& set : partition.sets) {
        double sum = 0, sum_xh = 0, squares = 0, mean = 0, var = 0;
        for (const int64_t i : set) {
          const auto at = static_cast<size_t>(i);
          sum += d_x[at];
          sum_xh += d_x[at] * xh[at];
          squares += xh[at] * xh[at];
          mean += x[at] / static_cast<double>(set.size());
        }
        for (const int64_t i : set) {
          var += std::pow(x[static_cast<size_t>(i)] - mean, 2) / static_cast<double>(set.size());
        }
        EXPECT_NEAR(sum, 0, kDoubleTolerance);
        EXPECT_NEAR(squares, static_cast<double>(set.size()) * var / (var + epsilon),
                    kDoubleTolerance);
        if (epsilon == 0) {
          EXPECT_NEAR(sum_xh, 0, kDoubleTolerance);
        }
      }
    }
  }
}

// Santurkar et al.: |grad_y|^2 with BN <= (gamma/s)^2 (|g|^2 - <1,g>^2/m - <g,xh>^2/m); an equality
// at epsilon 0.
TEST(ReferenceNormalizersTest, Theorem41IsAnEqualityWithoutEpsilon) {
  const NormShape shape = {7, 3, 1};
  const Tensor x = Inputs(shape), g = Random("g", 21), gamma = {1.5, -2, 0.5};
  for (const double epsilon : {0.0, 0.3}) {
    SetNormalizer normalizer = {shape, BatchSets(shape, 7), true, Divisor::kDeviation, epsilon};
    const Tensor xh = Forward(normalizer, x);
    normalizer.gamma = gamma;
    const Tensor d_x = Backward(normalizer, x, g).d_x;
    const Statistics statistics = BatchStatistics(shape, x);
    for (size_t c = 0; c < 3; ++c) {
      double left = 0, g2 = 0, sum = 0, along = 0;
      for (size_t n = 0; n < 7; ++n) {
        const size_t i = n * 3 + c;
        left += d_x[i] * d_x[i];
        g2 += g[i] * g[i];
        sum += g[i];
        along += g[i] * xh[i];
      }
      const double right = gamma[c] * gamma[c] / (statistics.var[c] + epsilon) *
                           (g2 - sum * sum / 7 - along * along / 7);
      if (epsilon == 0) {
        EXPECT_NEAR(left, right, kDoubleTolerance * right);
      } else {
        EXPECT_GT(std::abs(left - right), 1e-3 * right) << "then it is none";
      }
    }
  }
}

TEST(ReferenceNormalizersTest, DynamicTanhGradientsAreCentralDifferences) {
  const NormShape shape = {3, 4, 2};
  const Tensor x = Inputs(shape), d_y = Random("d", 24);
  const Tensor gamma = Random("gamma", 4), beta = Random("beta", 4);
  const DynamicTanhGradients d = DynamicTanhBackward(shape, 0.7, gamma, x, d_y);
  const auto difference = [&](const auto& forward, const Tensor& at) {
    return CentralDifference(forward, at, d_y);
  };
  EXPECT_LT(
      RelativeError(
          d.d_x,
          difference(
              [&](const Tensor& v) { return DynamicTanhForward(shape, 0.7, gamma, beta, v); }, x)),
      kDifferenceTolerance);
  EXPECT_LT(
      RelativeError(
          d.d_gamma,
          difference([&](const Tensor& v) { return DynamicTanhForward(shape, 0.7, v, beta, x); },
                     gamma)),
      kDifferenceTolerance);
  EXPECT_LT(
      RelativeError(
          d.d_beta,
          difference([&](const Tensor& v) { return DynamicTanhForward(shape, 0.7, gamma, v, x); },
                     beta)),
      kDifferenceTolerance);
  EXPECT_LT(RelativeError({d.d_alpha}, difference(
                                           [&](const Tensor& v) {
                                             return DynamicTanhForward(shape, v[0], gamma, beta, x);
                                           },
                                           {0.7})),
            kDifferenceTolerance);
}

TEST(ReferenceNormalizersTest, WeightsByHandAndGradients) {
  EXPECT_THAT(WeightNormForward(2, {3, 4, 0, 2}, {10, -1}), ElementsAre(6, 8, 0, -1));
  // Mean 3, unbiased variance 20/3 (of four values).
  const double s = std::sqrt(20.0 / 3) + 1e-5;
  EXPECT_THAT(WeightStandardizationForward(1, {0, 2, 4, 6}),
              Pointwise(DoubleNear(1e-15), {-3 / s, -1 / s, 1 / s, 3 / s}));
  const Tensor v = Random("v", 21), g = Random("g", 3), d_w = Random("d", 21);
  const WeightNormGradients d = WeightNormBackward(3, v, g, d_w);
  EXPECT_LT(RelativeError(d.d_v,
                          CentralDifference(
                              [&](const Tensor& u) { return WeightNormForward(3, u, g); }, v, d_w)),
            kDifferenceTolerance);
  EXPECT_LT(RelativeError(d.d_g,
                          CentralDifference(
                              [&](const Tensor& u) { return WeightNormForward(3, v, u); }, g, d_w)),
            kDifferenceTolerance);
  EXPECT_LT(RelativeError(
                WeightStandardizationBackward(3, v, d_w),
                CentralDifference(
                    [&](const Tensor& u) { return WeightStandardizationForward(3, u); }, v, d_w)),
            kDifferenceTolerance);
}

TEST(ReferenceNormalizersTest, NoiseStaysInItsRanges) {
  const NormShape shape = {5, 3, 200};
  const Noise noise = DrawNoise(3, "bn1", 9, shape, {0.5, 1.25, 0.1, 0.1});
  for (int64_t c = 0; c < 3; ++c) {
    double lowest = 9, highest = -9, mean = 0;
    for (int64_t n = 0; n < 5; ++n) {
      for (int64_t a = 0; a < 200; ++a) {
        const auto i = static_cast<size_t>(shape.at(n, c, a));
        lowest = std::min(lowest, noise.shift[i]);
        highest = std::max(highest, noise.shift[i]);
        mean += noise.scale[i] / 1000;
      }
    }
    EXPECT_GE(lowest, -0.6);
    EXPECT_LE(highest, 0.6);
    EXPECT_LE(highest - lowest, 0.2);
    EXPECT_GT(highest - lowest, 0.195) << "1,000 uniforms come near both ends";
    // Four standard errors, 0.1/sqrt(1000) each.
    EXPECT_GT(mean, 1 - 0.0127);
    EXPECT_LT(mean, 1.25 + 0.0127);
  }
}

}  // namespace
}  // namespace normlab::engine::reference
