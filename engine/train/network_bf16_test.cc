// Networks that compute in bf16.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/dnnl/runtime.h"
#include "engine/train/network_test_support.h"

namespace normlab::engine {
namespace {

using ::testing::HasSubstr;

constexpr char kNoBf16[] = "no bf16 kernels here";

double RelativeDistance(absl::Span<const float> a, absl::Span<const float> b) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  return std::sqrt(difference / norm);
}

TEST(NetworkTest, Bf16StaysCloseToF32) {
  // About 10 roundings of 2^-9 each on the way to and from a layer add up in the root of squares to
  // 0.6%; ReLU and maximum pooling decide otherwise where two numbers are that close, each time for
  // the whole value.
  constexpr double kLossTolerance = 0.02;
  constexpr double kGradientTolerance = 0.15;
  for (const Graph& graph : {Mlp(), Cnn(6, 16), SmallVgg()}) {
    ModelState f32(graph);
    ModelState bf16(graph);
    Randomize(f32, graph);
    Randomize(bf16, graph);
    auto in_f32 = Network::Plan(graph, f32, {.batch_size = 24});
    auto in_bf16 = Network::Plan(graph, bf16, {.batch_size = 24, .type = DataType::kBf16});
    ASSERT_TRUE(in_f32.ok()) << in_f32.status();
    if (absl::IsUnimplemented(in_bf16.status())) {
      ASSERT_FALSE(HasBf16Kernels()) << in_bf16.status();
      GTEST_SKIP() << kNoBf16;
    }
    ASSERT_TRUE(in_bf16.ok()) << in_bf16.status();
    FillBatch(**in_f32, 3);
    FillBatch(**in_bf16, 3);
    const double loss = (*in_f32)->Forward().loss;
    EXPECT_NEAR((*in_bf16)->Forward().loss, loss, kLossTolerance * loss);
    (*in_f32)->Backward();
    (*in_bf16)->Backward();
    const double distance = RelativeDistance(bf16.gradients.span(), f32.gradients.span());
    EXPECT_LT(distance, kGradientTolerance);
    EXPECT_GT(distance, 0) << "it is computed in bf16";
  }
}

TEST(NetworkTest, Bf16Trains) {
  for (const Graph& graph : {Mlp(), Cnn(5, 16)}) {
    ModelState model(graph);
    Randomize(model, graph);
    auto training =
        Network::Plan(graph, model, {.batch_size = 30, .type = DataType::kBf16, .threads = 1});
    auto evaluation = Network::Plan(
        graph, model,
        {.batch_size = 60, .mode = Mode::kEvaluation, .type = DataType::kBf16, .threads = 1});
    if (absl::IsUnimplemented(training.status())) {
      ASSERT_FALSE(HasBf16Kernels()) << training.status();
      GTEST_SKIP() << kNoBf16;
    }
    ASSERT_TRUE(training.ok() && evaluation.ok());
    FillBatch(**evaluation, 1000);
    const double before = (*evaluation)->Forward().loss;
    for (uint64_t step = 0; step < 120; ++step) {
      (*training)->ParametersChanged();
      FillBatch(**training, step);
      (*training)->Forward();
      (*training)->Backward();
      for (int64_t i = 0; i < model.parameters.size(); ++i) {
        model.parameters.data()[i] -= 0.2F * model.gradients.data()[i];
      }
    }
    (*evaluation)->ParametersChanged();
    EXPECT_LT((*evaluation)->Forward().loss, 0.5 * before);
  }
}

TEST(NetworkTest, WithoutBf16KernelsThePrecisionIsNamed) {
  if (HasBf16Kernels()) {
    GTEST_SKIP() << "this machine has bf16 kernels";
  }
  const Graph graph = Cnn(5, 8);
  ModelState model(graph);
  const auto network = Network::Plan(graph, model, {.batch_size = 4, .type = DataType::kBf16});
  if (network.ok()) {
    GTEST_SKIP() << "oneDNN emulates bf16 here";
  }
  EXPECT_EQ(network.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(network.status().message()), HasSubstr("conv1"));
  EXPECT_THAT(std::string(network.status().message()), HasSubstr("precision"));
}

}  // namespace
}  // namespace normlab::engine
