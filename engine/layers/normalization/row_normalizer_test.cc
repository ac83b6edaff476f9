#include "engine/layers/normalization/row_normalizer.h"

#include <omp.h>

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

#include "engine/layers/normalization/testing.h"
#include "engine/layers/reference_normalizers.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using reference::Divisor;
using reference::NormShape;
using reference::Tensor;
using testing::Inputs;
using testing::kFloatTolerance;
using testing::Random;
using testing::RelativeError;
using testing::Scratch;
using testing::ToFloats;
using testing::ToTensor;

constexpr double kGradientTolerance = 3e-5;  // what is left of d_y after two projections

struct Case {
  int64_t rows, columns, groups;
};
// Rows below and above a tile, groups across the borders of tiles; the last two in parallel.
const Case kCases[] = {{3, 5, 1},   {2, 100, 1},  {7, 12, 3},    {5, 130, 10},
                       {4, 301, 1}, {33, 264, 8}, {70, 512, 32}, {3, 20000, 1}};

void Check(const Case& c, bool centred, bool affine, bool relu, double offset) {
  SCOPED_TRACE(::testing::Message()
               << c.rows << "x" << c.columns << " in " << c.groups << " groups, centred " << centred
               << " affine " << affine << " relu " << relu);
  const NormShape shape = {c.rows, c.columns, 1};
  const Tensor x = Inputs(shape, offset), d_y = Random("d", c.rows * c.columns);
  reference::SetNormalizer expected = {shape, reference::GroupSets(shape, c.groups), centred,
                                       centred ? Divisor::kDeviation : Divisor::kRootMeanSquare,
                                       1e-3};
  const std::vector<float> gamma = ToFloats(Random("gamma", c.columns));
  const std::vector<float> beta = ToFloats(Random("beta", c.columns));
  std::vector<float> d_gamma(gamma.size(), 77), d_beta(gamma.size(), 77);
  NormalizerTensors tensors = {.d_gamma = d_gamma.data(), .d_beta = d_beta.data()};
  if (affine) {
    expected.gamma = ToTensor(gamma);
    expected.beta = ToTensor(beta);
    tensors.gamma = gamma.data();
    tensors.beta = beta.data();
  }
  if (relu) {
    expected.tau = Tensor(gamma.size(), 0.0);
  }
  RowNormalizer normalizer(
      c.rows, c.columns,
      {.formula = {centred, centred ? ScaleKind::kDeviation : ScaleKind::kRootMeanSquare, 1e-3},
       .groups = c.groups,
       .relu = relu},
      tensors);
  const std::vector<float> x_floats = ToFloats(x);
  std::vector<float> d_floats = ToFloats(d_y), y(x.size());
  normalizer.Forward(x_floats.data(), y.data(), Scratch(normalizer.scratch_bytes()).data());
  EXPECT_LT(RelativeError(ToTensor(y), reference::Forward(expected, x)), kFloatTolerance);
  const reference::NormalizerGradients d = reference::Backward(expected, x, d_y);
  normalizer.Backward(x_floats.data(), d_floats.data(), y.data(),
                      Scratch(normalizer.scratch_bytes()).data());
  EXPECT_LT(RelativeError(ToTensor(y), d.d_x), kGradientTolerance);
  EXPECT_LT(RelativeError(ToTensor(d_gamma), d.d_gamma), kFloatTolerance);
  EXPECT_LT(RelativeError(ToTensor(d_beta), d.d_beta), kFloatTolerance);
  normalizer.Backward(x_floats.data(), d_floats.data(), d_floats.data(),
                      Scratch(normalizer.scratch_bytes()).data());
  EXPECT_EQ(d_floats, y) << "in place";
}

TEST(RowNormalizerTest, MatchesTheReference) {
  for (const Case& c : kCases) {
    for (const bool affine : {true, false}) {
      for (const bool relu : {true, false}) {
        Check(c, /*centred=*/true, affine, relu, 0);
        if (c.groups == 1) {
          Check(c, /*centred=*/false, affine, relu, 0);
        }
      }
    }
  }
}

TEST(RowNormalizerTest, AnOffsetOf1000DoesNotCancel) {
  for (const Case& c : kCases) {
    Check(c, /*centred=*/true, /*affine=*/true, /*relu=*/false, 1000);
  }
}

TEST(RowNormalizerTest, WhatIsNotFinitePassesTheRelu) {
  for (const bool relu : {false, true}) {
    RowNormalizer normalizer(2, 5, {.relu = relu}, {});
    std::vector<float> x(10, 1.0F), y(10);
    x[7] = std::numeric_limits<float>::quiet_NaN();
    x[3] = 2;
    normalizer.Forward(x.data(), y.data(), Scratch(normalizer.scratch_bytes()).data());
    EXPECT_FALSE(std::isnan(y[3]));
    EXPECT_TRUE(std::isnan(y[7]));
  }
}

TEST(RowNormalizerTest, ResultsDoNotDependOnThreads) {
  const int threads = omp_get_max_threads();
  const std::vector<float> x = ToFloats(Inputs({70, 512, 1}));
  const std::vector<float> d_y = ToFloats(Random("d", 70 * 512));
  std::vector<std::vector<float>> results;
  for (const int count : {1, 3}) {
    omp_set_num_threads(count);
    std::vector<float> all(x.size()), d_x(x.size()), d_gamma(512), d_beta(512);
    RowNormalizer normalizer(70, 512, {.groups = 4},
                             {.d_gamma = d_gamma.data(), .d_beta = d_beta.data()});
    normalizer.Forward(x.data(), all.data(), Scratch(normalizer.scratch_bytes()).data());
    normalizer.Backward(x.data(), d_y.data(), d_x.data(),
                        Scratch(normalizer.scratch_bytes()).data());
    for (const auto* more : {&d_x, &d_gamma, &d_beta}) {
      all.insert(all.end(), more->begin(), more->end());
    }
    results.push_back(all);
  }
  omp_set_num_threads(threads);
  EXPECT_EQ(results[0], results[1]);
}

}  // namespace
}  // namespace normlab::engine
