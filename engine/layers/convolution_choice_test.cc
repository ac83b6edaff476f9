#include "engine/layers/convolution_choice.h"

#include <cstdint>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normlab::engine {
namespace {

constexpr ConvolutionPass kPasses[] = {ConvolutionPass::kForward, ConvolutionPass::kBackwardData,
                                       ConvolutionPass::kBackwardWeights};
constexpr ConvolutionChoice kDirectF32 = {ConvAlgorithm::kDirect, DataType::kF32};
constexpr ConvolutionChoice kDirectBf16 = {ConvAlgorithm::kDirect, DataType::kBf16};
constexpr ConvolutionChoice kWinograd = {ConvAlgorithm::kWinograd, DataType::kF32};

struct Shape {
  int64_t in, out, size, kernel = 3, stride = 1, groups = 1;
};

ConvolutionProblem ProblemOf(const Shape& shape, DataType type = DataType::kF32) {
  const int64_t out_size = (shape.size - 1) / shape.stride + 1;
  ConvolutionProblem problem;
  problem.x = {128, shape.in, shape.size, shape.size};
  problem.w = {shape.out, shape.in, shape.kernel, shape.kernel};
  if (shape.groups > 1) {
    problem.w = {shape.groups, shape.out / shape.groups, shape.in / shape.groups, shape.kernel,
                 shape.kernel};
  }
  problem.y = {128, shape.out, out_size, out_size};
  problem.geometry = {.kernel = shape.kernel, .stride = shape.stride, .padding = shape.kernel / 2};
  problem.type = type;
  return problem;
}

TEST(ConvolutionChoiceTest, CountsOperations) {
  // 128 * 64 * 8 * 8 outputs of 32 * 9 products.
  EXPECT_EQ(ProblemOf({32, 64, 8}).operations(), 2.0 * 128 * 64 * 64 * 32 * 9);
  EXPECT_EQ(ProblemOf({32, 64, 8, 3, 1, 4}).operations(), 2.0 * 128 * 64 * 64 * 8 * 9);
}

TEST(ConvolutionChoiceTest, WhereThereIsNoChoice) {
  const Shape shapes[] = {{64, 64, 8, 5},       {64, 64, 8, 1}, {64, 64, 8, 3, 2},
                          {64, 64, 8, 3, 1, 2}, {3, 64, 32},    {64, 15, 8}};
  for (const Shape& shape : shapes) {
    for (const ConvolutionPass pass : kPasses) {
      EXPECT_EQ(ChooseConvolution(ProblemOf(shape), pass, true), kDirectF32);
      EXPECT_EQ(ConvolutionCandidates(ProblemOf(shape), pass, true).size(), 1u);
    }
  }
  for (const ConvolutionPass pass : kPasses) {
    EXPECT_EQ(ChooseConvolution(ProblemOf({64, 64, 8}), pass, false), kDirectF32);
    EXPECT_EQ(ChooseConvolution(ProblemOf({64, 64, 2}, DataType::kBf16), pass, false), kDirectBf16);
  }
}

TEST(ConvolutionChoiceTest, WinogradFromThirtyTwoChannelsAndWholeTilesOn) {
  for (const ConvolutionPass pass : kPasses) {
    EXPECT_EQ(ChooseConvolution(ProblemOf({3, 64, 32}), pass, true), kDirectF32);
    EXPECT_EQ(ChooseConvolution(ProblemOf({16, 16, 32}), pass, true),
              pass == ConvolutionPass::kBackwardWeights ? kWinograd : kDirectF32);
    EXPECT_EQ(ChooseConvolution(ProblemOf({15, 64, 32}), pass, true), kDirectF32);
    EXPECT_EQ(ChooseConvolution(ProblemOf({32, 32, 16}), pass, true), kWinograd);
    EXPECT_EQ(ChooseConvolution(ProblemOf({512, 512, 4}), pass, true), kWinograd);
  }
  const ConvolutionProblem small = ProblemOf({512, 512, 2});
  EXPECT_EQ(ChooseConvolution(small, ConvolutionPass::kForward, true), kDirectF32);
  EXPECT_EQ(ChooseConvolution(small, ConvolutionPass::kBackwardData, true), kDirectF32);
  EXPECT_EQ(ChooseConvolution(small, ConvolutionPass::kBackwardWeights, true), kWinograd);
}

TEST(ConvolutionChoiceTest, Bf16LeavesOnlySmallGradientsOfWeightsToFloat) {
  for (const ConvolutionPass pass : {ConvolutionPass::kForward, ConvolutionPass::kBackwardData}) {
    for (const int64_t size : {2, 4, 8}) {
      EXPECT_EQ(ChooseConvolution(ProblemOf({512, 512, size}, DataType::kBf16), pass, true),
                kDirectBf16);
    }
  }
  const auto gradient = [](int64_t size) {
    return ChooseConvolution(ProblemOf({256, 512, size}, DataType::kBf16),
                             ConvolutionPass::kBackwardWeights, true);
  };
  EXPECT_EQ(gradient(8), kDirectBf16);
  EXPECT_EQ(gradient(4), kWinograd);
  EXPECT_EQ(gradient(2), kWinograd);
}

TEST(ConvolutionChoiceTest, TheRulePicksACandidate) {
  for (const bool winograd : {true, false}) {
    for (const DataType type : {DataType::kF32, DataType::kBf16}) {
      for (const int64_t channels : {3, 16, 40, 512}) {
        for (const int64_t size : {1, 2, 4, 7, 32}) {
          for (const ConvolutionPass pass : kPasses) {
            const ConvolutionProblem problem = ProblemOf({channels, channels, size}, type);
            EXPECT_THAT(ConvolutionCandidates(problem, pass, winograd),
                        ::testing::Contains(ChooseConvolution(problem, pass, winograd)));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace normlab::engine
