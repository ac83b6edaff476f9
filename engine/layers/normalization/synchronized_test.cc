// Normalizers over the batches of several ranks, which are threads here: statistics, outputs, gradients and running
// statistics are those of one rank that has the union of the batches.
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/layers/reference.h"
#include "engine/layers/testing.h"
#include "engine/parallel/testing.h"

namespace normlab::engine {
namespace {

using testing::HarnessOptions;
using testing::kFloatTolerance;
using testing::LayerHarness;
using testing::Random;
using testing::RelativeError;
using testing::RunRanks;
using testing::Tensor;

// What is left of d_y after its mean and its projection on xh are taken away; see batch_norm_test.cc.
constexpr double kGradientTolerance = 3e-5;

// Examples of each rank: k = 2, 3, 4, all unequal, some of one example alone.
const std::vector<std::vector<int64_t>> kShares = {{3, 2},    {1, 6},       {4, 1, 3},
                                                   {5, 4, 4}, {2, 5, 1, 3}, {1, 1, 1, 2}};
const std::vector<Dims> kInputs = {{7}, {33}, {272}, {5, 3, 4}, {16, 2, 3}, {17, 1, 1}};

struct Passes {
  Tensor y, d_x;
  Tensor d_gamma, d_beta;  // sums over the ranks
  Tensor running_mean, running_var;
  bool saw_nan = false;
};

bool SameBits(const Tensor& a, const Tensor& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
}

class Synchronized {
 public:
  Synchronized(Dims in, NodeKind kind, std::vector<int64_t> shares, double offset = 0)
      : in_(std::move(in)), kind_(std::move(kind)), shares_(std::move(shares)) {
    batch_ = std::accumulate(shares_.begin(), shares_.end(), int64_t{0});
    const int64_t values = ElementCount(in_);
    x_ = Random("x", batch_ * values);
    const int64_t area = values / in_[0];
    for (size_t i = 0; i < x_.size(); ++i) {
      const auto channel = static_cast<int64_t>(i) / area % in_[0];
      const auto example = static_cast<int64_t>(i) / values;
      // Other means and scales in every channel and, so that ranks differ, example.
      x_[i] = static_cast<float>(x_[i] * (0.5 + static_cast<double>(channel % 7) / 3) +
                                 static_cast<double>(channel % 5) +
                                 0.5 * static_cast<double>(example) + offset);
    }
    d_y_ = Random("d_y", batch_ * values);
    gamma_ = Random("gamma", in_[0]);
    beta_ = Random("beta", in_[0]);
  }

  // The reference's shape of the union.
  reference::NormShape shape() const { return {batch_, in_[0], ElementCount(in_) / in_[0]}; }
  Tensor& x() { return x_; }
  const Tensor& d_y() const { return d_y_; }
  const Tensor& gamma() const { return gamma_; }
  const Tensor& beta() const { return beta_; }

  // One forward and backward pass with the union on one rank.
  Passes Alone(bool relu = false) const {
    Passes run;
    HarnessOptions options;
    if (relu) {
      options.next = ActivationKind::kRelu;
    }
    LayerHarness layer(in_, kind_, batch_, options);
    EXPECT_TRUE(layer.status().ok()) << layer.status();
    Pass(layer, x_, d_y_, run);
    return run;
  }

  // The same with every rank's share, and what they have in common checked.
  Passes Shared(bool relu = false) const {
    const int ranks = static_cast<int>(shares_.size());
    std::vector<Passes> runs(shares_.size());
    RunRanks(ranks, [&](Communicator& communicator) {
      const auto rank = static_cast<size_t>(communicator.rank());
      HarnessOptions options;
      options.plan.statistics = &communicator;
      if (relu) {
        options.next = ActivationKind::kRelu;
      }
      LayerHarness layer(in_, kind_, shares_[rank], options);
      ASSERT_TRUE(layer.status().ok()) << layer.status();
      Pass(layer, Share(x_, rank), Share(d_y_, rank), runs[rank]);
    });
    Passes all = runs[0];
    for (size_t rank = 1; rank < runs.size(); ++rank) {
      const Passes& run = runs[rank];
      all.y.insert(all.y.end(), run.y.begin(), run.y.end());
      all.d_x.insert(all.d_x.end(), run.d_x.begin(), run.d_x.end());
      for (size_t c = 0; c < all.d_beta.size(); ++c) {
        all.d_beta[c] += run.d_beta[c];
      }
      for (size_t c = 0; c < all.d_gamma.size(); ++c) {
        all.d_gamma[c] += run.d_gamma[c];
      }
      // Bit for bit.
      EXPECT_TRUE(SameBits(run.running_mean, all.running_mean)) << "rank " << rank;
      EXPECT_TRUE(SameBits(run.running_var, all.running_var)) << "rank " << rank;
      EXPECT_EQ(run.saw_nan, all.saw_nan) << "rank " << rank;
    }
    return all;
  }

 private:
  Tensor Share(const Tensor& all, size_t rank) const {
    const int64_t values = ElementCount(in_);
    const int64_t first = std::accumulate(
        shares_.begin(), shares_.begin() + static_cast<std::ptrdiff_t>(rank), int64_t{0});
    return Tensor(all.begin() + first * values, all.begin() + (first + shares_[rank]) * values);
  }

  void Pass(LayerHarness& layer, const Tensor& x, const Tensor& d_y, Passes& run) const {
    const bool mean_only = std::holds_alternative<MeanOnlyBatchNormNode>(kind_);
    const bool lp = std::holds_alternative<LpBatchNormNode>(kind_);
    const char* scale = lp ? "running_scale" : "running_var";
    if (!mean_only) {
      layer.Set("weight", gamma_);
      layer.Set(scale, Tensor(static_cast<size_t>(in_[0]), 1.5));
    }
    layer.Set("bias", beta_);
    layer.Set("running_mean", Tensor(static_cast<size_t>(in_[0]), 0.25));
    run.y = layer.Forward(x);
    run.d_x = layer.Backward(d_y);
    if (!mean_only) {
      run.d_gamma = layer.Gradient("weight");
      run.running_var = layer.Get(scale);
    }
    run.d_beta = layer.Gradient("bias");
    run.running_mean = layer.Get("running_mean");
    run.saw_nan = layer.saw_nan();
  }

  const Dims in_;
  const NodeKind kind_;
  const std::vector<int64_t> shares_;
  int64_t batch_ = 0;
  Tensor x_, d_y_, gamma_, beta_;
};

std::string Describe(const Dims& in, const std::vector<int64_t>& shares) {
  std::string text = DimsToString(in) + ", shares";
  for (const int64_t share : shares) {
    text += " " + std::to_string(share);
  }
  return text;
}

TEST(SynchronizedTest, BatchNormOverRanksIsBatchNormOnTheUnion) {
  for (const Dims& in : kInputs) {
    for (const std::vector<int64_t>& shares : kShares) {
      SCOPED_TRACE(Describe(in, shares));
      const BatchNormNode node = {.epsilon = 1e-3, .running_update_rate = 0.3};
      Synchronized layer(in, node, shares);
      const Passes run = layer.Shared();
      const reference::NormShape shape = layer.shape();
      const reference::Statistics batch = reference::BatchStatistics(shape, layer.x());
      EXPECT_LT(RelativeError(run.y, reference::Normalize(shape, node.epsilon, layer.x(), batch,
                                                          layer.gamma(), layer.beta())),
                kFloatTolerance);
      const reference::NormGradients expected =
          reference::BatchNormBackward(shape, node.epsilon, layer.x(), layer.gamma(), layer.d_y());
      EXPECT_LT(RelativeError(run.d_x, expected.d_x), kGradientTolerance);
      EXPECT_LT(RelativeError(run.d_gamma, expected.d_gamma), kGradientTolerance);
      EXPECT_LT(RelativeError(run.d_beta, expected.d_beta), kFloatTolerance);
      reference::Statistics running = {Tensor(static_cast<size_t>(in[0]), 0.25),
                                       Tensor(static_cast<size_t>(in[0]), 1.5)};
      reference::UpdateRunning(shape, node.running_update_rate, batch, running);
      EXPECT_LT(RelativeError(run.running_mean, running.mean), kFloatTolerance);
      EXPECT_LT(RelativeError(run.running_var, running.var), kFloatTolerance);
      EXPECT_FALSE(run.saw_nan);
    }
  }
}

// Sums of squares in float would lose all digits of the variance here: (1e3)^2 against 1.
TEST(SynchronizedTest, MeansFarFromZeroCancelNothing) {
  Synchronized layer({6, 4, 3}, BatchNormNode{.epsilon = 0}, {3, 1, 4}, /*offset=*/1000);
  const Passes run = layer.Shared();
  const reference::NormShape shape = layer.shape();
  const reference::Statistics batch = reference::BatchStatistics(shape, layer.x());
  // Inputs of 1,000 are known to 6e-5 only, and deviations are near 1.
  constexpr double kInputRounding = 1e-4;
  EXPECT_LT(RelativeError(run.y, reference::Normalize(shape, 0, layer.x(), batch, layer.gamma(),
                                                      layer.beta())),
            kInputRounding);
  EXPECT_LT(RelativeError(run.running_var,
                          [&] {
                            reference::Statistics running = {Tensor(6, 0.25), Tensor(6, 1.5)};
                            reference::UpdateRunning(shape, 0.1, batch, running);
                            return running.var;
                          }()),
            kFloatTolerance);
}

TEST(SynchronizedTest, EveryNormalizerWithBatchStatisticsEqualsItselfOnTheUnion) {
  const BatchNormNode batch = {.epsilon = 1e-3, .running_update_rate = 0.3};
  const std::vector<std::pair<std::string, NodeKind>> kinds = {
      {"renorm", BatchRenormNode{.batch = batch, .r_max = 1.5, .d_max = 0.5}},
      {"l_1", LpBatchNormNode{.power = LpBatchNormNode::Power::kOne, .batch = batch}},
      {"l_2", LpBatchNormNode{.power = LpBatchNormNode::Power::kTwo, .batch = batch}},
      {"l_inf", LpBatchNormNode{.power = LpBatchNormNode::Power::kInfinity, .batch = batch}},
      {"mean_only", MeanOnlyBatchNormNode{.running_update_rate = 0.3}}};
  for (const auto& [name, kind] : kinds) {
    for (const Dims& in : kInputs) {
      for (const std::vector<int64_t>& shares : kShares) {
        for (const bool relu : {false, true}) {
          SCOPED_TRACE(name + " " + Describe(in, shares) + (relu ? " relu" : ""));
          const Synchronized layer(in, kind, shares);
          const Passes shared = layer.Shared(relu);
          const Passes alone = layer.Alone(relu);
          EXPECT_LT(RelativeError(shared.y, alone.y), kFloatTolerance);
          EXPECT_LT(RelativeError(shared.d_x, alone.d_x), kGradientTolerance);
          EXPECT_LT(RelativeError(shared.d_gamma, alone.d_gamma), kGradientTolerance);
          EXPECT_LT(RelativeError(shared.d_beta, alone.d_beta), kFloatTolerance);
          EXPECT_LT(RelativeError(shared.running_mean, alone.running_mean), kFloatTolerance);
          EXPECT_LT(RelativeError(shared.running_var, alone.running_var), kFloatTolerance);
        }
      }
    }
  }
}

// The gradient of the largest magnitude goes to one place, also when two ranks have it.
TEST(SynchronizedTest, OfEqualLargestMagnitudesTheFirstRanksCounts) {
  const LpBatchNormNode node = {.power = LpBatchNormNode::Power::kInfinity};
  Synchronized layer({3}, node, {2, 3, 2});
  for (const size_t example : {3, 4, 6}) {  // of the second and the third rank
    layer.x()[example * 3 + 1] = -50;
  }
  EXPECT_LT(RelativeError(layer.Shared().d_x, layer.Alone().d_x), kGradientTolerance);
}

TEST(SynchronizedTest, ANanOfOneRankIsSeenByAll) {
  Synchronized layer({4, 3, 2}, BatchNormNode(), {2, 1, 3});
  layer.x().back() = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(layer.Shared().saw_nan);
}

TEST(SynchronizedTest, GhostBatchesAreRefused) {
  RunRanks(2, [](Communicator& communicator) {
    HarnessOptions options;
    options.plan.statistics = &communicator;
    LayerHarness layer({3}, GhostBatchNormNode{.size = 2}, 4, options);
    EXPECT_THAT(std::string(layer.status().message()),
                ::testing::HasSubstr("ghost batches are parts of one rank's batch"));
  });
}

}  // namespace
}  // namespace normlab::engine
