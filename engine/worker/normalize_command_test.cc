#include "engine/worker/normalize_command.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

namespace normlab::engine {
namespace {

v1::Tensor MakeTensor(const std::vector<int64_t>& dims, const std::vector<double>& values) {
  v1::Tensor tensor;
  tensor.mutable_dims()->Add(dims.begin(), dims.end());
  for (const double value : values) {
    tensor.add_values(static_cast<float>(value));
  }
  return tensor;
}

std::vector<double> Values(const v1::Tensor& tensor) {
  return {tensor.values().begin(), tensor.values().end()};
}

std::vector<int64_t> DimsOf(const v1::Tensor& tensor) {
  return {tensor.dims().begin(), tensor.dims().end()};
}

void ExpectNear(const v1::Tensor& actual, const std::vector<double>& expected, double tolerance) {
  const std::vector<double> values = Values(actual);
  ASSERT_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_NEAR(values[i], expected[i], tolerance) << "place " << i;
  }
}

std::vector<std::string> Fields(const v1::NormalizeResult& result) {
  std::vector<std::string> fields;
  for (const v1::SpecViolation& violation : result.violations()) {
    fields.push_back(violation.field());
    EXPECT_FALSE(violation.description().empty());
  }
  EXPECT_FALSE(!fields.empty() && result.has_response());
  return fields;
}

using Names = std::vector<std::string>;

// Sums of at most 20 floats of size 3.
constexpr double kTolerance = 3e-6;

// [4, 1], the example of popular write-ups: its variance is 1.25.
v1::NormalizeRequest Column() {
  v1::NormalizeRequest request;
  request.mutable_normalizer()->mutable_batch();
  *request.mutable_input() = MakeTensor({4, 1}, {-1.5, -0.5, 0.5, 1.5});
  return request;
}

TEST(NormalizeCommandTest, BatchNormOfTheColumnThatWriteUpsGetWrong) {
  v1::NormalizeRequest request = Column();
  (*request.mutable_parameters())["weight"] = MakeTensor({1}, {2});
  (*request.mutable_parameters())["bias"] = MakeTensor({1}, {3});
  *request.mutable_output_gradient() = MakeTensor({4, 1}, {1, 0, 0, 0});
  const v1::NormalizeResult result = Normalize(request);
  ASSERT_EQ(Fields(result), Names{});
  const v1::NormalizeResponse& response = result.response();
  const double s = std::sqrt(1.25 + 1e-5);
  std::vector<double> y, d_x;
  // d_x = gamma/s (g - mean(g) - xh mean(g xh)), by hand.
  for (const double x : {-1.5, -0.5, 0.5, 1.5}) {
    y.push_back(2 * x / s + 3);
    d_x.push_back(2 / s * ((x == -1.5 ? 1.0 : 0.0) - 0.25 - x / s * (-1.5 / s) / 4));
  }
  EXPECT_EQ(DimsOf(response.output()), (std::vector<int64_t>{4, 1}));
  ExpectNear(response.output(), y, kTolerance);
  ExpectNear(response.input_gradient(), d_x, kTolerance);
  ExpectNear(response.parameter_gradients().at("weight"), {-1.5 / s}, kTolerance);
  ExpectNear(response.parameter_gradients().at("bias"), {1}, kTolerance);
  EXPECT_EQ(Values(response.statistics().at("mean")), std::vector<double>{0});
  EXPECT_EQ(Values(response.statistics().at("var")), std::vector<double>{1.25});
  // 0.9*1 + 0.1*1.25*4/3.
  ExpectNear(response.statistics().at("running_var"), {0.9 + 0.1 * 1.25 * 4 / 3}, kTolerance);
  ExpectNear(response.statistics().at("running_mean"), {0}, kTolerance);
  EXPECT_FALSE(response.implementation().empty());
}

TEST(NormalizeCommandTest, ImagesAreNormalizedPerChannelOverExamplesAndPixels) {
  v1::NormalizeRequest request;
  request.mutable_normalizer()->mutable_batch()->set_affine(false);
  std::vector<double> x;
  for (int i = 0; i < 2 * 3 * 2 * 5; ++i) {
    x.push_back(std::sin(i) * (1 + i / 10 % 3) + i / 10 % 3);
  }
  *request.mutable_input() = MakeTensor({2, 3, 2, 5}, x);
  const v1::NormalizeResult result = Normalize(request);
  ASSERT_EQ(Fields(result), Names{});
  std::vector<double> y(x.size());
  std::vector<double> variances;
  for (size_t c = 0; c < 3; ++c) {
    double mean = 0, var = 0;
    for (size_t n = 0; n < 2; ++n) {
      for (size_t p = 0; p < 10; ++p) {
        mean += x[(n * 3 + c) * 10 + p] / 20;
      }
    }
    for (size_t n = 0; n < 2; ++n) {
      for (size_t p = 0; p < 10; ++p) {
        var += std::pow(x[(n * 3 + c) * 10 + p] - mean, 2) / 20;
      }
    }
    variances.push_back(var);
    for (size_t n = 0; n < 2; ++n) {
      for (size_t p = 0; p < 10; ++p) {
        y[(n * 3 + c) * 10 + p] = (x[(n * 3 + c) * 10 + p] - mean) / std::sqrt(var + 1e-5);
      }
    }
  }
  ExpectNear(result.response().output(), y, kTolerance);
  ExpectNear(result.response().statistics().at("var"), variances, kTolerance);
  EXPECT_FALSE(result.response().has_input_gradient());
  EXPECT_TRUE(result.response().parameter_gradients().empty());
}

TEST(NormalizeCommandTest, InferenceUsesTheRunningStatisticsAndLeavesThem) {
  v1::NormalizeRequest request = Column();
  request.set_statistics(v1::Statistics::INFERENCE);
  (*request.mutable_parameters())["running_mean"] = MakeTensor({1}, {0.5});
  (*request.mutable_parameters())["running_var"] = MakeTensor({1}, {4});
  const v1::NormalizeResult result = Normalize(request);
  ASSERT_EQ(Fields(result), Names{});
  std::vector<double> y;
  for (const double x : {-1.5, -0.5, 0.5, 1.5}) {
    y.push_back((x - 0.5) / std::sqrt(4 + 1e-5));
  }
  ExpectNear(result.response().output(), y, kTolerance);
  EXPECT_EQ(Values(result.response().statistics().at("running_mean")), std::vector<double>{0.5});
  EXPECT_EQ(Values(result.response().statistics().at("running_var")), std::vector<double>{4});
  EXPECT_EQ(result.response().statistics().count("mean"), 0U) << "no batch statistics were taken";
}

TEST(NormalizeCommandTest, NoneIsTheIdentity) {
  v1::NormalizeRequest request = Column();
  request.clear_normalizer();
  *request.mutable_output_gradient() = MakeTensor({4, 1}, {1, 2, 3, 4});
  const v1::NormalizeResult result = Normalize(request);
  ASSERT_EQ(Fields(result), Names{});
  EXPECT_EQ(Values(result.response().output()), Values(request.input()));
  EXPECT_EQ(Values(result.response().input_gradient()), Values(request.output_gradient()));
  (*request.mutable_parameters())["weight"] = MakeTensor({1}, {2});
  EXPECT_EQ(Fields(Normalize(request)), Names{"parameters[weight]"});
}

TEST(NormalizeCommandTest, WhatIsNotFiniteIsComputedWith) {
  v1::NormalizeRequest request;
  request.mutable_normalizer()->mutable_batch();
  *request.mutable_input() = MakeTensor({2, 2}, {INFINITY, 1, 2, 3});
  const v1::NormalizeResult result = Normalize(request);
  ASSERT_EQ(Fields(result), Names{});
  EXPECT_TRUE(std::isnan(result.response().output().values(0)));
  EXPECT_FALSE(std::isnan(result.response().output().values(1))) << "another channel";
}

TEST(NormalizeCommandTest, ViolationsNameTheField) {
  v1::NormalizeRequest request = Column();
  (*request.mutable_parameters())["weight"] = MakeTensor({2}, {1, 1});
  (*request.mutable_parameters())["gamma"] = MakeTensor({1}, {1});
  EXPECT_EQ(Fields(Normalize(request)), (Names{"parameters[gamma]", "parameters[weight].dims"}));

  request = Column();
  *request.mutable_input() = MakeTensor({1, 4}, {1, 2, 3, 4});
  EXPECT_EQ(Fields(Normalize(request)), Names{"input.dims"}) << "one value per channel";

  request.mutable_normalizer()->mutable_group()->set_groups(3);
  EXPECT_EQ(Fields(Normalize(request)), Names{"normalizer.group"}) << "3 does not divide 4";

  request.mutable_normalizer()->mutable_ghost_batch()->set_ghost_size(3);
  EXPECT_EQ(Fields(Normalize(request)), Names{"normalizer.ghost_batch.ghost_size"});

  for (const bool fixup : {true, false}) {
    fixup ? (void)request.mutable_normalizer()->mutable_fixup()
          : (void)request.mutable_normalizer()->mutable_skip_init();
    EXPECT_EQ(Fields(Normalize(request)),
              Names{fixup ? "normalizer.fixup" : "normalizer.skip_init"});
  }
}

TEST(NormalizeCommandTest, WeightNormOfGivenGains) {
  v1::NormalizeRequest request;
  request.mutable_normalizer()->mutable_weight();
  // |v| = 5 and 13.
  *request.mutable_input() = MakeTensor({2, 2}, {3, 4, -5, 12});
  v1::NormalizeResult result = Normalize(request);
  ASSERT_EQ(Fields(result), Names{});
  ExpectNear(result.response().output(), {3, 4, -5, 12}, 1e-5);  // gains start at |v|
  EXPECT_EQ(Values(result.response().statistics().at("norm")), (std::vector<double>{5, 13}));

  (*request.mutable_parameters())["weight_g"] = MakeTensor({2}, {10, -1});
  *request.mutable_output_gradient() = MakeTensor({2, 2}, {1, 0, 1, 1});
  result = Normalize(request);
  ASSERT_EQ(Fields(result), Names{});
  ExpectNear(result.response().output(), {6, 8, 5.0 / 13, -12.0 / 13}, kTolerance);
  // d_g = <d_w, v>/|v|; d_v = g/|v| (d_w - v <d_w, v>/|v|^2).
  ExpectNear(result.response().parameter_gradients().at("weight_g"), {0.6, 7.0 / 13}, kTolerance);
  EXPECT_EQ(DimsOf(result.response().parameter_gradients().at("weight_g")),
            (std::vector<int64_t>{2, 1}));
  ExpectNear(result.response().input_gradient(),
             {2 * (1 - 9.0 / 25), 2 * (-12.0 / 25), -1.0 / 13 * (1 + 35.0 / 169),
              -1.0 / 13 * (1 - 84.0 / 169)},
             kTolerance);

  (*request.mutable_parameters())["weight_g"] = MakeTensor({3}, {1, 1, 1});
  EXPECT_EQ(Fields(Normalize(request)), Names{"parameters[weight_g].dims"});
  (*request.mutable_parameters())["bias"] = MakeTensor({2}, {1, 1});
  EXPECT_EQ(Fields(Normalize(request)), Names{"parameters[bias]"});
}

TEST(NormalizeCommandTest, WeightStandardizationOfFilters) {
  v1::NormalizeRequest request;
  request.mutable_normalizer()->mutable_weight_standardization();
  // One filter of 2 inputs, 1x2: mean 4, unbiased variance (9 + 1 + 1 + 9)/3.
  *request.mutable_input() = MakeTensor({1, 2, 1, 2}, {1, 3, 5, 7});
  *request.mutable_output_gradient() = MakeTensor({1, 2, 1, 2}, {1, 0, 0, 0});
  const v1::NormalizeResult result = Normalize(request);
  ASSERT_EQ(Fields(result), Names{});
  const double std = std::sqrt(20.0 / 3);
  const double s = std + 1e-5;
  ExpectNear(result.response().output(), {-3 / s, -1 / s, 1 / s, 3 / s}, kTolerance);
  ExpectNear(result.response().statistics().at("mean"), {4}, kTolerance);
  ExpectNear(result.response().statistics().at("std"), {std}, kTolerance);
  std::vector<double> d_v;
  for (const double c : {-3.0, -1.0, 1.0, 3.0}) {
    d_v.push_back((c == -3 ? 1 / s : 0) - 0.25 / s - c * -3 / (s * s * std * 3));
  }
  ExpectNear(result.response().input_gradient(), d_v, kTolerance);
  EXPECT_TRUE(result.response().parameter_gradients().empty());
}

// Every kind of the contract, with gradients in both modes; what the numbers are is checked by
// tests/integration/normalize_test.py.
TEST(NormalizeCommandTest, EveryKindIsComputedAndShowsItsStatistics) {
  const std::map<std::string, Names> shown = {
      {"none", {}},
      {"batch", {"mean", "running_mean", "running_var", "var"}},
      {"noisy_batch", {"mean", "running_mean", "running_var", "var"}},
      {"layer", {"mean", "var"}},
      {"group", {"mean", "var"}},
      {"instance", {"mean", "var"}},
      {"weight", {"norm"}},
      {"rms", {"mean_square"}},
      {"weight_standardization", {"mean", "std"}},
      {"batch_renorm", {"mean", "running_mean", "running_var", "var"}},
      {"ghost_batch", {"mean", "running_mean", "running_var", "var"}},
      {"l1_batch", {"mean", "running_mean", "running_scale", "scale"}},
      {"l2_batch", {"mean", "running_mean", "running_scale", "scale"}},
      {"linf_batch", {"mean", "running_mean", "running_scale", "scale"}},
      {"filter_response", {"mean_square"}},
      {"dyt", {}},
      {"mean_only_batch", {"mean", "running_mean"}},
      {"frozen_batch", {"running_mean", "running_var"}}};
  std::vector<double> x, d_y;
  for (int i = 0; i < 4 * 6 * 3 * 5; ++i) {
    x.push_back(std::sin(2.0 * i));
    d_y.push_back(std::cos(3.0 * i));
  }
  const auto* kinds = v1::Normalizer::descriptor()->FindOneofByName("kind");
  EXPECT_EQ(static_cast<int>(shown.size()), kinds->field_count() - 2) << "but fixup and skip_init";
  for (const auto& [kind, statistics] : shown) {
    v1::NormalizeRequest request;
    v1::Normalizer& normalizer = *request.mutable_normalizer();
    normalizer.GetReflection()->MutableMessage(&normalizer,
                                               v1::Normalizer::descriptor()->FindFieldByName(kind));
    *request.mutable_input() = MakeTensor({4, 6, 3, 5}, x);
    *request.mutable_output_gradient() = MakeTensor({4, 6, 3, 5}, d_y);
    for (const auto mode : {v1::Statistics::TRAINING, v1::Statistics::INFERENCE}) {
      request.set_statistics(mode);
      const v1::NormalizeResult result = Normalize(request);
      ASSERT_EQ(Fields(result), Names{}) << kind;
      ASSERT_EQ(result.failure(), "") << kind;
      const v1::NormalizeResponse& response = result.response();
      EXPECT_EQ(response.output().values_size(), static_cast<int>(x.size())) << kind;
      EXPECT_EQ(response.input_gradient().values_size(), static_cast<int>(x.size())) << kind;
      EXPECT_FALSE(response.implementation().empty()) << kind;
      for (const float value : response.output().values()) {
        ASSERT_TRUE(std::isfinite(value)) << kind;
      }
      if (mode == v1::Statistics::TRAINING) {
        Names names;
        for (const auto& [name, tensor] : response.statistics()) {
          names.push_back(name);
        }
        std::sort(names.begin(), names.end());
        EXPECT_EQ(names, statistics) << kind;
      }
    }
  }
}

TEST(NormalizeCommandTest, SizesOfOneDoNotMatterInParameters) {
  v1::NormalizeRequest request = Column();
  for (const std::vector<int64_t>& dims :
       {std::vector<int64_t>{}, std::vector<int64_t>{1}, std::vector<int64_t>{1, 1}}) {
    (*request.mutable_parameters())["weight"] = MakeTensor(dims, {2});
    EXPECT_EQ(Fields(Normalize(request)), Names{});
  }
}

}  // namespace
}  // namespace normlab::engine
