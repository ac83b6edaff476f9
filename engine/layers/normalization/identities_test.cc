// What any correct normalizer satisfies, on the float kernels themselves.
#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/layers/normalization/channel_normalizer.h"
#include "engine/layers/normalization/row_normalizer.h"
#include "engine/layers/normalization/testing.h"
#include "engine/layers/reference_normalizers.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using reference::NormShape;
using reference::Tensor;
using ::testing::ElementsAre;
using testing::Inputs;
using testing::Pack;
using testing::Random;
using testing::RelativeError;
using testing::Scratch;
using testing::ToFloats;
using testing::ToTensor;
using testing::Unpack;

// Sums over a set are compared with the sum of the magnitudes of their terms: what is left are
// rounding errors of float factors, half a unit (6e-8) each.
constexpr double kSumTolerance = 1e-6;

struct Result {
  Tensor y, d_x;
};

Result RunBoth(const ChannelBlocking& layout,
               const ChannelNormalizerOptions& options,
               const Tensor& x,
               const Tensor& d_y,
               const NormalizerTensors& tensors = {}) {
  ChannelNormalizer normalizer(layout, options, tensors);
  const std::vector<float> packed_x = Pack(layout, x), packed_d = Pack(layout, d_y);
  std::vector<float> y(packed_x.size()), d_x(packed_x.size());
  normalizer.Forward(packed_x.data(), y.data(), Scratch(normalizer.forward_scratch_bytes()).data());
  normalizer.Backward(packed_x.data(), packed_d.data(), d_x.data(),
                      Scratch(normalizer.backward_scratch_bytes()).data());
  return {Unpack(layout, y), Unpack(layout, d_x)};
}

ChannelNormalizerOptions Options(int64_t examples, int64_t channels, double epsilon) {
  return {
      .formula = {.epsilon = epsilon}, .examples_per_set = examples, .channels_per_set = channels};
}

TEST(NormalizerIdentitiesTest, GradientsOfASetSumToZeroAndDoNotFollowTheOutput) {
  const NormShape shape = {4, 6, 35};
  const ChannelBlocking layout = {4, 6, 35, 8};
  const Tensor x = Inputs(shape), d_y = Random("d", 840);
  struct Partition {
    int64_t examples, channels;
    std::vector<reference::Set> sets;
  };
  const Partition partitions[] = {{4, 1, reference::BatchSets(shape, 4)},
                                  {2, 1, reference::BatchSets(shape, 2)},
                                  {1, 6, reference::GroupSets(shape, 1)},
                                  {1, 2, reference::GroupSets(shape, 3)},
                                  {1, 1, reference::GroupSets(shape, 6)}};
  for (const Partition& partition : partitions) {
    for (const double epsilon : {0.0, 1e-5, 0.5}) {
      SCOPED_TRACE(::testing::Message()
                   << partition.examples << " " << partition.channels << " " << epsilon);
      const Result result =
          RunBoth(layout, Options(partition.examples, partition.channels, epsilon), x, d_y);
      for (const reference::Set& set : partition.sets) {
        const auto m = static_cast<double>(set.size());
        double sum = 0, size = 0, along = 0, along_size = 0, squares = 0, mean = 0, var = 0;
        for (const int64_t i : set) {
          const auto at = static_cast<size_t>(i);
          sum += result.d_x[at];
          size += std::abs(result.d_x[at]);
          along += result.d_x[at] * result.y[at];
          along_size += std::abs(result.d_x[at] * result.y[at]);
          squares += result.y[at] * result.y[at];
          mean += x[at] / m;
        }
        for (const int64_t i : set) {
          var += std::pow(x[static_cast<size_t>(i)] - mean, 2) / m;
        }
        EXPECT_LT(std::abs(sum), kSumTolerance * size);
        EXPECT_NEAR(squares / (m * var / (var + epsilon)), 1, kSumTolerance);
        if (epsilon == 0) {
          EXPECT_LT(std::abs(along), kSumTolerance * along_size);
        }
      }
    }
  }
}

TEST(NormalizerIdentitiesTest, TwoValuesBecomePlusMinusOneAndHaveNoGradient) {
  // A dyadic example, so that float arithmetic is exact: mean 3, deviation 2.
  const Result batch = RunBoth({2, 1, 1, 1}, Options(2, 1, 0), {1, 5}, {8, 2});
  EXPECT_THAT(batch.y, ElementsAre(-1, 1));
  EXPECT_THAT(batch.d_x, ElementsAre(0, 0));
  const Result instance = RunBoth({1, 1, 2, 1}, Options(1, 1, 0), {1, 5}, {8, 2});
  EXPECT_THAT(instance.y, ElementsAre(-1, 1));
  EXPECT_THAT(instance.d_x, ElementsAre(0, 0));
  RowNormalizer rows(1, 2, {.formula = {.epsilon = 0}}, {});
  const float x[] = {1, 5}, d_y[] = {8, 2};
  float y[2], d_x[2];
  rows.Forward(x, y, Scratch(rows.scratch_bytes()).data());
  rows.Backward(x, d_y, d_x, Scratch(rows.scratch_bytes()).data());
  EXPECT_THAT(y, ElementsAre(-1, 1));
  EXPECT_THAT(d_x, ElementsAre(0, 0));
}

TEST(NormalizerIdentitiesTest, OneGhostIsBatchNormAndRenormWithoutRoomIsToo) {
  for (const int64_t area : {int64_t{1}, int64_t{15}}) {
    const NormShape shape = {6, 9, area};
    const ChannelBlocking layout = {6, 9, area, 9};
    const Tensor x = Inputs(shape), d_y = Random("d", 54 * area);
    const Result batch = RunBoth(layout, Options(6, 1, 1e-5), x, d_y);
    std::vector<float> mean = ToFloats(Random("mean", 9)), var(9, 3.0F);
    ChannelNormalizerOptions renorm = Options(6, 1, 1e-5);
    renorm.renorm = CorrectionLimits{1, 0};
    const Result renormed =
        RunBoth(layout, renorm, x, d_y, {.running_mean = mean.data(), .running_var = var.data()});
    EXPECT_EQ(renormed.y, batch.y);
    EXPECT_EQ(renormed.d_x, batch.d_x);
    // Each half of a ghost batch of two is batch norm of that half.
    const Result ghosts = RunBoth(layout, Options(3, 1, 1e-5), x, d_y);
    const auto half = static_cast<std::ptrdiff_t>(27 * area);
    ChannelBlocking three = layout;
    three.batch = 3;
    const Result second = RunBoth(three, Options(3, 1, 1e-5), Tensor(x.begin() + half, x.end()),
                                  Tensor(d_y.begin() + half, d_y.end()));
    EXPECT_EQ(Tensor(ghosts.y.begin() + half, ghosts.y.end()), second.y);
    EXPECT_EQ(Tensor(ghosts.d_x.begin() + half, ghosts.d_x.end()), second.d_x);
  }
}

TEST(NormalizerIdentitiesTest, OneUpdateFromZeroAndOne) {
  const NormShape shape = {4, 3, 5};
  const Tensor x = Inputs(shape);
  const reference::Statistics batch = reference::BatchStatistics(shape, x);
  std::vector<float> mean(3, 0.0F), var(3, 1.0F);
  RunBoth({4, 3, 5, 1}, Options(4, 1, 1e-5), x, x,
          {.running_mean = mean.data(), .running_var = var.data()});
  for (size_t c = 0; c < 3; ++c) {
    EXPECT_NEAR(static_cast<double>(mean[c]), 0.1 * batch.mean[c], 1e-7);
    EXPECT_NEAR(static_cast<double>(var[c]), 0.9 + 0.1 * batch.var[c] * 20 / 19, 3e-7);
  }
}

TEST(NormalizerIdentitiesTest, RowsAreGroupsOfPixels) {
  // A dense group norm without gamma is instance norm of an image whose channels are the groups.
  const Tensor x = Random("x", 4 * 60), d_y = Random("d", 4 * 60);
  const Result instance = RunBoth({4, 5, 12, 1}, Options(1, 1, 1e-5), x, d_y);
  RowNormalizer rows(4, 60, {.groups = 5}, {});
  std::vector<float> y(240), d_x(240);
  rows.Forward(ToFloats(x).data(), y.data(), Scratch(rows.scratch_bytes()).data());
  rows.Backward(ToFloats(x).data(), ToFloats(d_y).data(), d_x.data(),
                Scratch(rows.scratch_bytes()).data());
  EXPECT_LT(RelativeError(ToTensor(y), instance.y), 1e-6);
  EXPECT_LT(RelativeError(ToTensor(d_x), instance.d_x), 1e-6);
}

TEST(NormalizerIdentitiesTest, WeightsBeforeABatchNormAreOrthogonalToTheirGradient) {
  // y = BN(W u): scaling a row of W changes nothing, so <w, grad> = 0 at epsilon 0.
  constexpr int64_t kBatch = 33, kIn = 7, kOut = 5;
  const Tensor u = Random("u", kBatch * kIn), w = Random("w", kOut * kIn);
  const Tensor d_y = Random("d", kBatch * kOut);
  const Tensor t = reference::LinearForward({kBatch, kIn, kOut}, u, w, {});
  const Result result = RunBoth({kBatch, kOut, 1, kOut}, Options(kBatch, 1, 0), t, d_y);
  const Tensor d_w = reference::LinearBackward({kBatch, kIn, kOut}, u, w, result.d_x).d_w;
  for (size_t o = 0; o < kOut; ++o) {
    double dot = 0, size = 0;
    for (size_t i = 0; i < kIn; ++i) {
      dot += w[o * kIn + i] * d_w[o * kIn + i];
      size += std::abs(w[o * kIn + i] * d_w[o * kIn + i]);
    }
    EXPECT_LT(std::abs(dot), 3 * kSumTolerance * size);
  }
}

TEST(NormalizerIdentitiesTest, AGradientThatIgnoresStatisticsIsFarOutsideTheTolerance) {
  const NormShape shape = {4, 6, 35};
  const Tensor x = Inputs(shape), d_y = Random("d", 840);
  const Result right = RunBoth({4, 6, 35, 8}, Options(4, 1, 1e-5), x, d_y);
  reference::SetNormalizer wrong = {shape, reference::BatchSets(shape, 4)};
  wrong.given = reference::BatchStatistics(shape, x);
  EXPECT_GT(RelativeError(reference::Backward(wrong, x, d_y).d_x, right.d_x), 0.01);
}

}  // namespace
}  // namespace normlab::engine
