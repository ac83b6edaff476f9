#include "engine/graph/memory_estimate.h"

#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

namespace normlab::engine {
namespace {

Graph Mlp(int64_t width) {
  Graph graph({784});
  EXPECT_TRUE(graph.Add("fc1", LinearNode{width, false}).ok());
  EXPECT_TRUE(graph.Add("bn1", BatchNormNode{}).ok());
  EXPECT_TRUE(graph.Add("act1", ActivationNode{}).ok());
  EXPECT_TRUE(graph.Add("fc2", LinearNode{10, true}).ok());
  EXPECT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());
  return graph;
}

MemoryInputs Inputs(int64_t batch) {
  return {.batch_size = batch,
          .evaluation_batch_size = 100,
          .optimizer_slots = 1,
          .data_bytes = 1234,
          .threads = 2};
}

TEST(MemoryEstimateTest, GrowsWithEveryCause) {
  const MemoryEstimate base = EstimateMemory(Mlp(100), Inputs(64));
  EXPECT_EQ(base.total(), base.parameters + base.activations + base.data + base.fixed);
  EXPECT_EQ(base.data, 1234);

  const MemoryEstimate larger_batch = EstimateMemory(Mlp(100), Inputs(6400));
  EXPECT_EQ(larger_batch.parameters, base.parameters);
  // Input and every layer's output at least.
  EXPECT_GE(larger_batch.activations - base.activations, (6400 - 64) * (784 + 300 + 10) * 4);

  const MemoryEstimate wider = EstimateMemory(Mlp(1000), Inputs(64));
  // Parameters, gradients and one optimizer slot at least.
  EXPECT_GE(wider.parameters, 3 * 4 * (784 * 1000 + 1000 * 10));

  MemoryInputs more_slots = Inputs(64);
  more_slots.optimizer_slots = 3;
  EXPECT_EQ(EstimateMemory(Mlp(100), more_slots).parameters - base.parameters,
            2 * 4 * Mlp(100).parameter_floats());
  MemoryInputs more_threads = Inputs(64);
  more_threads.threads = 32;
  EXPECT_GT(EstimateMemory(Mlp(100), more_threads).total(), base.total());
}

TEST(MemoryEstimateTest, AnIncompleteLastBatchIsAPlanOfItsOwn) {
  MemoryInputs none = Inputs(6400);
  none.last_batch_size = 0;
  none.evaluation_last_batch_size = 0;
  MemoryInputs some = none;
  some.last_batch_size = 640;
  const int64_t without = EstimateMemory(Mlp(100), none).activations;
  const int64_t with = EstimateMemory(Mlp(100), some).activations;
  EXPECT_GE(with - without, 640 * (784 + 300 + 10) * 4);
  EXPECT_GT(EstimateMemory(Mlp(100), Inputs(6400)).activations, with) << "unknown counts as full";
}

TEST(MemoryEstimateTest, KnowsPrecisionAndAlgorithm) {
  Graph graph({16, 32, 32});
  ASSERT_TRUE(graph.Add("conv1", ConvNode{.out_channels = 16}).ok());
  ASSERT_TRUE(graph.Add("conv2", ConvNode{.out_channels = 64}).ok());
  ASSERT_TRUE(graph.Add("pool", GlobalAveragePoolNode{}).ok());
  ASSERT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());
  MemoryInputs inputs = Inputs(128);
  const int64_t usual = EstimateMemory(graph, inputs).activations;
  inputs.winograd = WinogradUse::kNever;
  const int64_t direct = EstimateMemory(graph, inputs).activations;
  inputs.winograd = WinogradUse::kAlways;
  EXPECT_GT(EstimateMemory(graph, inputs).activations, usual) << "also for 16 channels";
  EXPECT_LT(direct, usual);
  inputs.winograd = WinogradUse::kNever;
  inputs.bf16 = true;
  // The outputs of both layers, and their gradients, in half the bytes.
  EXPECT_LT(EstimateMemory(graph, inputs).activations, direct - 128 * 80 * 1024 * 2);
}

TEST(MemoryEstimateTest, SmallJobsAreNotAskedForMuch) {
  // A laptop must be able to run several small jobs at once.
  EXPECT_LT(EstimateMemory(Mlp(100), Inputs(64)).total(), int64_t{160} << 20);
}

TEST(MemoryEstimateTest, SaturatesInsteadOfOverflowing) {
  Graph graph({1, 1 << 18, 1 << 18});
  ASSERT_TRUE(
      graph.Add("conv1", ConvNode{.out_channels = 16, .kernel = 3, .stride = 1, .padding = 1})
          .ok());
  MemoryInputs inputs = Inputs(std::numeric_limits<int32_t>::max());
  inputs.threads = std::numeric_limits<int>::max() - 8;
  inputs.data_bytes = std::numeric_limits<int64_t>::max();
  const MemoryEstimate estimate = EstimateMemory(graph, inputs);
  EXPECT_EQ(estimate.activations, std::numeric_limits<int64_t>::max());
  EXPECT_EQ(estimate.total(), std::numeric_limits<int64_t>::max());
}

}  // namespace
}  // namespace normlab::engine
