// The reference itself: hand cases, and its gradients against central differences.
#include "engine/layers/reference.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/layers/testing.h"

namespace normlab::engine::reference {
namespace {

using testing::CentralDifference;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using testing::kDifferenceTolerance;
using ::testing::Pointwise;
using testing::Random;
using testing::RelativeError;

TEST(ReferenceTest, LinearByHand) {
  // Two inputs, three outputs, one example.
  EXPECT_THAT(LinearForward({1, 2, 3}, {5, 7}, {1, 0, 0, 1, 2, -1}, {10, 20, 30}),
              ElementsAre(15, 27, 33));
}

TEST(ReferenceTest, LinearGradientsAreCentralDifferences) {
  const LinearShape shape = {3, 4, 2};
  const Tensor x = Random("x", 12), w = Random("w", 8), b = Random("b", 2), d_y = Random("d", 6);
  const WeightGradients d = LinearBackward(shape, x, w, d_y);
  EXPECT_LT(RelativeError(
                d.d_x, CentralDifference(
                           [&](const Tensor& v) { return LinearForward(shape, v, w, b); }, x, d_y)),
            kDifferenceTolerance);
  EXPECT_LT(RelativeError(
                d.d_w, CentralDifference(
                           [&](const Tensor& v) { return LinearForward(shape, x, v, b); }, w, d_y)),
            kDifferenceTolerance);
  EXPECT_LT(RelativeError(
                d.d_b, CentralDifference(
                           [&](const Tensor& v) { return LinearForward(shape, x, w, v); }, b, d_y)),
            kDifferenceTolerance);
}

TEST(ReferenceTest, ConvolutionByHand) {
  // A 2x3 image, a 2x2 kernel that takes the lower left value, padding 1: the image moved up and
  // right.
  const ConvShape shape = {{1, 1, 2, 3}, 1, 2, 1, 1};
  EXPECT_THAT(ConvForward(shape, {1, 2, 3, 4, 5, 6}, {0, 0, 1, 0}, {0.5}),
              ElementsAre(0.5, 1.5, 2.5, 3.5, 0.5, 4.5, 5.5, 6.5, 0.5, 0.5, 0.5, 0.5));
}

TEST(ReferenceTest, ConvolutionGradientsAreCentralDifferences) {
  const ConvShape shape = {{2, 3, 5, 4}, 2, 3, 2, 1};
  const Tensor x = Random("x", shape.in.count()), w = Random("w", 2 * 3 * 9), b = Random("b", 2);
  const Tensor d_y = Random("d", shape.out().count());
  const WeightGradients d = ConvBackward(shape, x, w, d_y);
  EXPECT_LT(RelativeError(
                d.d_x, CentralDifference(
                           [&](const Tensor& v) { return ConvForward(shape, v, w, b); }, x, d_y)),
            kDifferenceTolerance);
  EXPECT_LT(RelativeError(
                d.d_w, CentralDifference(
                           [&](const Tensor& v) { return ConvForward(shape, x, v, b); }, w, d_y)),
            kDifferenceTolerance);
  EXPECT_LT(RelativeError(
                d.d_b, CentralDifference(
                           [&](const Tensor& v) { return ConvForward(shape, x, w, v); }, b, d_y)),
            kDifferenceTolerance);
}

TEST(ReferenceTest, BatchNormByHand) {
  // Mean 0, biased variance 1.25.
  const NormShape shape = {4, 1, 1};
  const Tensor x = {-1.5, -0.5, 0.5, 1.5};
  const Statistics statistics = BatchStatistics(shape, x);
  EXPECT_THAT(statistics.mean, ElementsAre(0));
  EXPECT_THAT(statistics.var, ElementsAre(1.25));
  const double s = std::sqrt(1.25);
  EXPECT_THAT(Normalize(shape, 0, x, statistics, {2}, {3}),
              Pointwise(DoubleNear(1e-15), {3 - 3 / s, 3 - 1 / s, 3 + 1 / s, 3 + 3 / s}));
}

TEST(ReferenceTest, BatchNormGradientsAreCentralDifferences) {
  const NormShape shape = {3, 2, 4};
  constexpr double kEpsilon = 1e-3;
  const Tensor x = Random("x", 24), gamma = Random("g", 2), beta = Random("b", 2),
               d_y = Random("d", 24);
  const auto forward = [&](const Tensor& x_in, const Tensor& g, const Tensor& b) {
    return Normalize(shape, kEpsilon, x_in, BatchStatistics(shape, x_in), g, b);
  };
  const NormGradients d = BatchNormBackward(shape, kEpsilon, x, gamma, d_y);
  EXPECT_LT(
      RelativeError(d.d_x, CentralDifference(
                               [&](const Tensor& v) { return forward(v, gamma, beta); }, x, d_y)),
      kDifferenceTolerance);
  EXPECT_LT(RelativeError(d.d_gamma,
                          CentralDifference([&](const Tensor& v) { return forward(x, v, beta); },
                                            gamma, d_y)),
            kDifferenceTolerance);
  EXPECT_LT(RelativeError(d.d_beta,
                          CentralDifference([&](const Tensor& v) { return forward(x, gamma, v); },
                                            beta, d_y)),
            kDifferenceTolerance);
}

TEST(ReferenceTest, BatchNormIdentities) {
  constexpr double kDoubleTolerance = 1e-10;
  const NormShape shape = {5, 3, 7};
  const auto m = static_cast<double>(shape.set());
  for (const double epsilon : {0.0, 1e-5, 0.5}) {
    const Tensor x = Random("x", 105), d_y = Random("d", 105);
    const Statistics statistics = BatchStatistics(shape, x);
    const Tensor xh = Normalize(shape, epsilon, x, statistics, {}, {});
    const Tensor d_x = BatchNormBackward(shape, epsilon, x, {1.5, -2, 0.5}, d_y).d_x;
    for (int64_t c = 0; c < 3; ++c) {
      double sum = 0, sum_xh = 0, squares = 0;
      for (int64_t n = 0; n < 5; ++n) {
        for (int64_t a = 0; a < 7; ++a) {
          const auto i = static_cast<size_t>(shape.at(n, c, a));
          sum += d_x[i];
          sum_xh += d_x[i] * xh[i];
          squares += xh[i] * xh[i];
        }
      }
      const double var = statistics.var[static_cast<size_t>(c)];
      EXPECT_NEAR(sum, 0, kDoubleTolerance);
      EXPECT_NEAR(squares, m * var / (var + epsilon), kDoubleTolerance * m);
      if (epsilon == 0) {
        EXPECT_NEAR(sum_xh, 0, kDoubleTolerance);
      }
    }
  }
}

TEST(ReferenceTest, ActivationGradientsAreCentralDifferences) {
  for (const ActivationKind kind : {ActivationKind::kIdentity, ActivationKind::kRelu,
                                    ActivationKind::kSigmoid, ActivationKind::kTanh}) {
    const Tensor x = Random("x", 11), d_y = Random("d", 11);
    EXPECT_LT(
        RelativeError(
            ActivationBackward(kind, x, d_y),
            CentralDifference([&](const Tensor& v) { return ActivationForward(kind, v); }, x, d_y)),
        kDifferenceTolerance);
  }
}

TEST(ReferenceTest, PoolByHandAndGradients) {
  const PoolShape by_hand = {{1, 1, 2, 5}, PoolKind::kMax, 2, 3};
  const Tensor image = {1, 2, 9, 3, 4, 5, 0, 9, 8, 7};
  EXPECT_THAT(PoolForward(by_hand, image), ElementsAre(5, 8));
  EXPECT_THAT(PoolForward({by_hand.in, PoolKind::kAverage, 2, 3}, image), ElementsAre(2, 5.5));
  for (const PoolKind kind : {PoolKind::kMax, PoolKind::kAverage}) {
    const PoolShape shape = {{2, 3, 7, 5}, kind, 3, 2};
    const Tensor x = Random("x", shape.in.count()), d_y = Random("d", shape.out().count());
    EXPECT_LT(RelativeError(PoolBackward(shape, x, d_y),
                            CentralDifference(
                                [&](const Tensor& v) { return PoolForward(shape, v); }, x, d_y)),
              kDifferenceTolerance);
  }
}

TEST(ReferenceTest, CrossEntropyByHandAndGradient) {
  const Loss equal = SoftmaxCrossEntropy(2, 10, Tensor(20, 4.0), {0, 3});
  EXPECT_NEAR(equal.mean, std::log(10), 1e-15);
  EXPECT_EQ(equal.correct, 1) << "the first of equal logits is the answer";
  const Tensor logits = Random("x", 15);
  const std::vector<int32_t> labels = {4, 0, 2};
  const auto loss = [&](const Tensor& v) {
    return Tensor{SoftmaxCrossEntropy(3, 5, v, labels).mean};
  };
  EXPECT_LT(RelativeError(SoftmaxCrossEntropy(3, 5, logits, labels).d_logits,
                          CentralDifference(loss, logits, {1})),
            kDifferenceTolerance);
}

}  // namespace
}  // namespace normlab::engine::reference
