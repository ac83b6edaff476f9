#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

#include "engine/layers/elementwise.h"
#include "engine/layers/reference.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using testing::kFloatTolerance;
using testing::LayerHarness;
using testing::Random;
using testing::RelativeError;
using testing::Tensor;

constexpr ActivationKind kKinds[] = {
    ActivationKind::kIdentity,  ActivationKind::kRelu, ActivationKind::kSigmoid,
    ActivationKind::kTanh,      ActivationKind::kElu,  ActivationKind::kSelu,
    ActivationKind::kLeakyRelu, ActivationKind::kGelu, ActivationKind::kSilu};

TEST(ActivationTest, MatchesReference) {
  // Own loops, then oneDNN.
  const Dims inputs[] = {{1}, {37}, {3, 5, 7}, {65, 9, 11}, {4099}};
  for (const Dims& in : inputs) {
    for (const int64_t batch : {1, 7}) {
      for (const ActivationKind kind : kKinds) {
        SCOPED_TRACE(::testing::Message()
                     << batch << " x " << DimsToString(in) << " kind " << static_cast<int>(kind));
        LayerHarness harness(in, ActivationNode{kind}, batch);
        ASSERT_TRUE(harness.status().ok()) << harness.status();
        Tensor x = Random("x", harness.x_count());
        for (double& v : x) {
          v = static_cast<float>(3 * v);
        }
        const Tensor d_y = Random("d", harness.x_count());
        EXPECT_LT(RelativeError(harness.Forward(x), reference::ActivationForward(kind, x)),
                  kFloatTolerance);
        EXPECT_LT(RelativeError(harness.Backward(d_y), reference::ActivationBackward(kind, x, d_y)),
                  kFloatTolerance);
      }
    }
  }
}

TEST(ActivationTest, LoopsAreAccurateEverywhere) {
  // Three units in the last place of float.
  constexpr double kUlps = 3 * 1.2e-7;
  std::vector<float> x;
  for (double v = -120; v < 120; v += 0.0137) {
    x.push_back(static_cast<float>(v));
  }
  for (double v = 1e-8; v < 1; v *= 1.7) {
    x.push_back(static_cast<float>(v));
    x.push_back(static_cast<float>(-v));
  }
  std::vector<float> y(x.size());
  const auto count = static_cast<int64_t>(x.size());
  ActivationForward(ActivationKind::kTanh, count, x.data(), y.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::tanh(static_cast<double>(x[i]));
    ASSERT_NEAR(y[i], exact, kUlps * std::abs(exact)) << x[i];
  }
  ActivationForward(ActivationKind::kSigmoid, count, x.data(), y.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = 1 / (1 + std::exp(-static_cast<double>(x[i])));
    // Below e^-87 floats are denormal.
    ASSERT_NEAR(y[i], exact, kUlps * exact + 1e-37) << x[i];
  }
  Exponentials(count, x.data(), y.data());
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] < 88) {
      const double exact = std::exp(static_cast<double>(x[i]));
      ASSERT_NEAR(y[i], exact, kUlps * exact + 1.3e-38) << x[i];
    }
  }
}

TEST(ActivationTest, NanStaysNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const ActivationKind kind : kKinds) {
    for (const int64_t count : {1, 3, 35}) {
      std::vector<float> x(static_cast<size_t>(count), nan);
      ActivationForward(kind, count, x.data(), x.data());
      for (const float v : x) {
        EXPECT_TRUE(std::isnan(v)) << static_cast<int>(kind);
      }
    }
  }
}

// Also through oneDNN's kernels, which take over for large tensors, and wherever it stands.
TEST(ActivationTest, NanInALargeTensorIsNotLost) {
  constexpr int64_t kBatch = 41;
  constexpr int64_t kWidth = 1001;
  static_assert(kBatch * kWidth > kSmallTensorElements);
  for (const ActivationKind kind : kKinds) {
    LayerHarness harness({kWidth}, ActivationNode{kind}, kBatch);
    ASSERT_TRUE(harness.status().ok()) << harness.status();
    for (const int64_t place : {int64_t{0}, int64_t{20000}, kBatch * kWidth - 1}) {
      Tensor x = Random("x", kBatch * kWidth);
      x[place] = std::numeric_limits<double>::quiet_NaN();
      const Tensor y = harness.Forward(x);
      EXPECT_TRUE(harness.saw_nan() ||
                  std::any_of(y.begin(), y.end(), [](double v) { return std::isnan(v); }))
          << static_cast<int>(kind) << " at " << place;
    }
  }
}

}  // namespace
}  // namespace normlab::engine
