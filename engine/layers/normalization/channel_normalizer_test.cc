#include "engine/layers/normalization/channel_normalizer.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/layers/normalization/testing.h"
#include "engine/layers/reference_normalizers.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using reference::Divisor;
using reference::NormShape;
using reference::Tensor;
using testing::Describe;
using testing::FloatsOf;
using testing::Inputs;
using testing::kFloatTolerance;
using testing::LayoutsOf;
using testing::Pack;
using testing::Random;
using testing::RelativeError;
using testing::Scratch;
using testing::ToFloats;
using testing::ToTensor;
using testing::Unpack;

// d_x is what is left of d_y after its mean and its projection on xh are taken away.
constexpr double kGradientTolerance = 3e-5;

struct Case {
  std::string name;
  ChannelNormalizerOptions options;
  reference::SetNormalizer reference;
};

Divisor DivisorOf(ScaleKind kind) {
  switch (kind) {
    case ScaleKind::kOne:
      return Divisor::kOne;
    case ScaleKind::kDeviation:
      return Divisor::kDeviation;
    case ScaleKind::kRootMeanSquare:
      return Divisor::kRootMeanSquare;
    case ScaleKind::kMeanAbsolute:
      return Divisor::kMeanAbsolute;
    case ScaleKind::kMaximumAbsolute:
      return Divisor::kMaximumAbsolute;
  }
  return Divisor::kOne;
}

Case MakeCase(const char* name,
              const NormShape& shape,
              NormalizerFormula formula,
              int64_t examples,
              int64_t channels) {
  Case result = {name, {.formula = formula}, {shape}};
  result.options.examples_per_set = examples;
  result.options.channels_per_set = channels;
  result.reference.sets = examples == 1 && shape.batch > 1
                              ? reference::GroupSets(shape, shape.channels / channels)
                              : reference::BatchSets(shape, examples);
  result.reference.centred = formula.centred;
  result.reference.divisor = DivisorOf(formula.scale);
  result.reference.epsilon = formula.epsilon;
  return result;
}

// Every normalizer that this class computes.
std::vector<Case> CasesOf(const NormShape& s) {
  constexpr double kEpsilon = 1e-3;
  const NormalizerFormula deviation = {true, ScaleKind::kDeviation, kEpsilon};
  std::vector<Case> cases = {
      MakeCase("batch", s, deviation, s.batch, 1),
      MakeCase("ghost batch", s, deviation, s.batch / 2, 1),
      MakeCase("l1 batch", s, {true, ScaleKind::kMeanAbsolute, kEpsilon}, s.batch, 1),
      MakeCase("l2 batch", s, {true, ScaleKind::kRootMeanSquare, kEpsilon}, s.batch, 1),
      MakeCase("linf batch", s, {true, ScaleKind::kMaximumAbsolute, kEpsilon}, s.batch, 1),
      MakeCase("mean-only batch", s, {true, ScaleKind::kOne, 0}, s.batch, 1),
  };
  if (s.area > 1) {
    for (const int64_t size : {int64_t{1}, s.channels / 2, s.channels}) {
      cases.push_back(MakeCase("group", s, deviation, 1, size));
    }
    cases.push_back(
        MakeCase("rms", s, {false, ScaleKind::kRootMeanSquare, kEpsilon}, 1, s.channels));
  }
  cases.push_back(
      MakeCase("filter response", s, {false, ScaleKind::kRootMeanSquare, kEpsilon}, 1, 1));
  return cases;
}

// Even batches (ghosts) and channels (groups): the numbers are still unequal and odd where they may.
const NormShape kShapes[] = {{4, 6, 7},   {6, 34, 3},   {10, 18, 1},
                             {2, 132, 5}, {4, 22, 400}, {50, 302, 1}};

struct Parameters {
  std::vector<float> gamma, beta, tau, running_mean, running_var;
  std::vector<float> d_gamma, d_beta, d_tau;

  explicit Parameters(int64_t channels)
      : gamma(ToFloats(Random("gamma", channels))),
        beta(ToFloats(Random("beta", channels))),
        tau(ToFloats(Random("tau", channels))),
        running_mean(ToFloats(Random("running", channels))),
        running_var(gamma.size()),
        d_gamma(gamma.size(), 77),
        d_beta(gamma.size(), 77),
        d_tau(gamma.size(), 77) {
    for (size_t c = 0; c < gamma.size(); ++c) {
      running_var[c] = 0.5F + running_mean[c] * running_mean[c];
    }
  }
  reference::Statistics running() const { return {ToTensor(running_mean), ToTensor(running_var)}; }
  NormalizerTensors all() {
    return {gamma.data(),  beta.data(),  tau.data(),          d_gamma.data(),
            d_beta.data(), d_tau.data(), running_mean.data(), running_var.data()};
  }
};

// Forward and backward of one case in every layout.
void Check(const Case& c, const Tensor& x) {
  const NormShape& shape = c.reference.shape;
  const Tensor d_y = Random("d", static_cast<int64_t>(x.size()));
  const Tensor y = reference::Forward(c.reference, x);
  const reference::NormalizerGradients d = reference::Backward(c.reference, x, d_y);
  for (const ChannelBlocking& layout : LayoutsOf(shape)) {
    SCOPED_TRACE(::testing::Message() << c.name << " " << Describe(layout));
    Parameters parameters(shape.channels);
    NormalizerTensors tensors = parameters.all();
    if (c.reference.gamma.empty()) {
      tensors = {.d_gamma = tensors.d_gamma,
                 .d_beta = tensors.d_beta,
                 .running_mean = tensors.running_mean,
                 .running_var = tensors.running_var};
    }
    ChannelNormalizer normalizer(layout, c.options, tensors);
    const std::vector<float> packed_x = Pack(layout, x);
    std::vector<float> packed_d = Pack(layout, d_y);
    std::vector<float> out(packed_x.size(), 7);
    normalizer.Forward(packed_x.data(), out.data(),
                       Scratch(normalizer.forward_scratch_bytes()).data());
    EXPECT_LT(RelativeError(Unpack(layout, out), y), kFloatTolerance);
    normalizer.Backward(packed_x.data(), packed_d.data(), out.data(),
                        Scratch(normalizer.backward_scratch_bytes()).data());
    EXPECT_LT(RelativeError(Unpack(layout, out), d.d_x), kGradientTolerance);
    EXPECT_LT(RelativeError(ToTensor(parameters.d_gamma), d.d_gamma), kFloatTolerance);
    EXPECT_LT(RelativeError(ToTensor(parameters.d_beta), d.d_beta), kFloatTolerance);
    if (tensors.d_tau != nullptr && c.options.floor == OutputFloor::kTau) {
      EXPECT_LT(RelativeError(ToTensor(parameters.d_tau), d.d_tau), kFloatTolerance);
    }
    // In place, and a second time: nothing is left over from the first.
    normalizer.Backward(packed_x.data(), packed_d.data(), packed_d.data(),
                        Scratch(normalizer.backward_scratch_bytes()).data());
    EXPECT_LT(RelativeError(Unpack(layout, packed_d), d.d_x), kGradientTolerance);
  }
}

TEST(ChannelNormalizerTest, EveryNormalizerMatchesItsReferenceInEveryLayout) {
  for (const NormShape& shape : kShapes) {
    const Tensor x = Inputs(shape);
    for (Case& c : CasesOf(shape)) {
      Check(c, x);
      const Parameters parameters(shape.channels);
      c.reference.gamma = ToTensor(parameters.gamma);
      c.reference.beta = ToTensor(parameters.beta);
      Check(c, x);
    }
  }
}

TEST(ChannelNormalizerTest, AReluInTheSamePassEqualsTwoSteps) {
  for (const NormShape& shape : kShapes) {
    const Tensor x = Inputs(shape);
    for (Case& c : CasesOf(shape)) {
      if (c.options.formula.scale == ScaleKind::kMeanAbsolute) {
        continue;  // is not fused
      }
      const Parameters parameters(shape.channels);
      c.options.floor = OutputFloor::kZero;
      c.reference.gamma = ToTensor(parameters.gamma);
      c.reference.beta = ToTensor(parameters.beta);
      c.reference.tau = Tensor(parameters.tau.size(), 0.0);
      Check(c, x);
    }
  }
}

TEST(ChannelNormalizerTest, FilterResponseHasALearnedThreshold) {
  for (const NormShape& shape : kShapes) {
    Case c = MakeCase("filter response", shape, {false, ScaleKind::kRootMeanSquare, 1e-3}, 1, 1);
    const Parameters parameters(shape.channels);
    c.options.floor = OutputFloor::kTau;
    c.reference.gamma = ToTensor(parameters.gamma);
    c.reference.beta = ToTensor(parameters.beta);
    c.reference.tau = ToTensor(parameters.tau);
    Check(c, Inputs(shape));
  }
}

TEST(ChannelNormalizerTest, BatchRenormMatchesItsReference) {
  for (const NormShape& shape : kShapes) {
    const Tensor x = Inputs(shape);
    Case c = MakeCase("renorm", shape, {true, ScaleKind::kDeviation, 1e-3}, shape.batch, 1);
    const Parameters parameters(shape.channels);
    // Limits inside the spread of the statistics: some channels are clipped, some are not.
    const CorrectionLimits limits = {1.3, 0.5};
    c.options.renorm = limits;
    c.reference.gamma = ToTensor(parameters.gamma);
    c.reference.beta = ToTensor(parameters.beta);
    c.reference.renorm =
        reference::RenormOf(c.reference, x, parameters.running(), limits.r_max, limits.d_max);
    const auto free = std::count_if(
        c.reference.renorm.begin(), c.reference.renorm.end(),
        [](const reference::Renorm& r) { return std::abs(r.d) < 0.5 && r.r < 1.3 && r.r > 0.77; });
    if (shape.channels > 100) {
      EXPECT_GT(free, 0);
    }
    EXPECT_LT(free, shape.channels);
    Check(c, x);
  }
}

TEST(ChannelNormalizerTest, GivenStatisticsAreUsedAndLeftAlone) {
  for (const NormShape& shape : kShapes) {
    const Tensor x = Inputs(shape);
    for (Case& c : CasesOf(shape)) {
      if (c.options.examples_per_set != shape.batch) {
        continue;  // no running statistics
      }
      Parameters parameters(shape.channels);
      c.options.given_statistics = true;
      c.reference.gamma = ToTensor(parameters.gamma);
      c.reference.beta = ToTensor(parameters.beta);
      c.reference.given = parameters.running();
      Check(c, x);
      const std::vector<float> mean = parameters.running_mean, var = parameters.running_var;
      ChannelNormalizer normalizer({shape.batch, shape.channels, shape.area, 1}, c.options,
                                   parameters.all());
      std::vector<float> y(x.size());
      normalizer.Forward(ToFloats(x).data(), y.data(),
                         Scratch(normalizer.forward_scratch_bytes()).data());
      EXPECT_EQ(parameters.running_mean, mean);
      EXPECT_EQ(parameters.running_var, var);
    }
  }
}

TEST(ChannelNormalizerTest, RunningStatisticsMoveOnceAStep) {
  constexpr double kRate = 0.3;
  for (const NormShape& shape : kShapes) {
    const Tensor x = Inputs(shape);
    for (Case& c : CasesOf(shape)) {
      if (c.options.channels_per_set != 1 || c.options.examples_per_set == 1) {
        continue;
      }
      for (const ChannelBlocking& layout : LayoutsOf(shape)) {
        SCOPED_TRACE(::testing::Message() << c.name << " " << Describe(layout));
        Parameters parameters(shape.channels);
        const reference::Statistics expected =
            reference::UpdatedRunning(c.reference, x, kRate, parameters.running());
        c.options.running_update_rate = kRate;
        NormalizerTensors tensors = parameters.all();
        const bool has_scale = c.options.formula.scale != ScaleKind::kOne;
        tensors.running_var = has_scale ? tensors.running_var : nullptr;
        ChannelNormalizer normalizer(layout, c.options, tensors);
        std::vector<float> y(static_cast<size_t>(FloatsOf(layout)));
        normalizer.Forward(Pack(layout, x).data(), y.data(),
                           Scratch(normalizer.forward_scratch_bytes()).data());
        EXPECT_LT(RelativeError(ToTensor(parameters.running_mean), expected.mean), kFloatTolerance);
        if (has_scale) {
          EXPECT_LT(RelativeError(ToTensor(parameters.running_var), expected.var), kFloatTolerance);
        }
      }
    }
  }
}

TEST(ChannelNormalizerTest, RenormUsesTheRunningValuesFromBeforeItsUpdate) {
  const NormShape shape = {4, 1, 1};
  const float x[] = {-1, 1, -1, 1};  // deviation 1, mean 0
  float mean = 0, var = 4, y[4];
  ChannelNormalizer normalizer({4, 1, 1, 1},
                               {.formula = {.epsilon = 0},
                                .examples_per_set = 4,
                                .running_update_rate = 1,
                                .renorm = CorrectionLimits{3, 5}},
                               {.running_mean = &mean, .running_var = &var});
  normalizer.Forward(x, y, Scratch(normalizer.forward_scratch_bytes()).data());
  EXPECT_EQ(y[1], 0.5F) << "r = 1/2 by the old running deviation";
  EXPECT_FLOAT_EQ(var, 4.0F / 3);
  (void)shape;
}

TEST(ChannelNormalizerTest, AnOffsetOf1000DoesNotCancel) {
  // The inputs are rounded to float there (3e-5), reference and kernel see the same ones.
  for (const NormShape& shape : {NormShape{4, 6, 70}, NormShape{10, 18, 1}}) {
    for (Case& c : CasesOf(shape)) {
      if (!c.options.formula.centred) {
        continue;
      }
      Check(c, Inputs(shape, 1000));
    }
  }
}

TEST(ChannelNormalizerTest, AConstantSetGivesBetaEvenWithoutEpsilon) {
  for (const int64_t area : {int64_t{1}, int64_t{9}}) {
    const NormShape shape = {4, 6, area};
    for (Case& c : CasesOf(shape)) {
      if (!c.options.formula.centred) {
        continue;
      }
      c.options.formula.epsilon = 0;
      Parameters parameters(6);
      ChannelNormalizer normalizer({4, 6, area, 6}, c.options, parameters.all());
      std::vector<float> x(static_cast<size_t>(24 * area), 0.1F), y(x.size());
      normalizer.Forward(x.data(), y.data(), Scratch(normalizer.forward_scratch_bytes()).data());
      for (size_t i = 0; i < y.size(); ++i) {
        EXPECT_EQ(y[i], parameters.beta[i % 6]) << c.name;
      }
    }
  }
}

TEST(ChannelNormalizerTest, StatisticsAreThoseOfTheSets) {
  const NormShape shape = {4, 6, 7};
  const Tensor x = Inputs(shape);
  const Case c = MakeCase("ghost", shape, {}, 2, 1);
  ChannelNormalizer normalizer({4, 6, 7, 8}, c.options, {});
  std::vector<float> y(4 * 8 * 7);
  normalizer.Forward(Pack({4, 6, 7, 8}, x).data(), y.data(),
                     Scratch(normalizer.forward_scratch_bytes()).data());
  ASSERT_EQ(normalizer.statistics().size(), 12U);
  for (size_t k = 0; k < 12; ++k) {
    double mean = 0, var = 0;
    for (const int64_t i : c.reference.sets[k]) {
      mean += x[static_cast<size_t>(i)] / 14;
    }
    for (const int64_t i : c.reference.sets[k]) {
      var += std::pow(x[static_cast<size_t>(i)] - mean, 2) / 14;
    }
    EXPECT_NEAR(normalizer.statistics()[k].mean, mean, 1e-6);
    EXPECT_NEAR(normalizer.statistics()[k].magnitude, var, 1e-6);
  }
}

TEST(ChannelNormalizerTest, ResultsDoNotDependOnThreads) {
  const NormShape shape = {8, 600, 9};  // large tables and tensors: every loop is parallel
  const Tensor x = Inputs(shape), d_y = Random("d", 8 * 600 * 9);
  const int threads = omp_get_max_threads();
  for (const Case& c : CasesOf(shape)) {
    std::vector<std::vector<float>> results;
    for (const int count : {1, 3}) {
      omp_set_num_threads(count);
      Parameters parameters(shape.channels);
      const ChannelBlocking layout = {8, 600, 9, 16};
      ChannelNormalizer normalizer(layout, c.options, parameters.all());
      const std::vector<float> packed_x = Pack(layout, x), packed_d = Pack(layout, d_y);
      std::vector<float> all(packed_x.size()), d_x(packed_x.size());
      normalizer.Forward(packed_x.data(), all.data(),
                         Scratch(normalizer.forward_scratch_bytes()).data());
      normalizer.Backward(packed_x.data(), packed_d.data(), d_x.data(),
                          Scratch(normalizer.backward_scratch_bytes()).data());
      for (const auto* more : {&d_x, &parameters.d_gamma, &parameters.running_var}) {
        all.insert(all.end(), more->begin(), more->end());
      }
      results.push_back(all);
    }
    omp_set_num_threads(threads);
    EXPECT_EQ(results[0], results[1]) << c.name;
  }
}

}  // namespace
}  // namespace normlab::engine
