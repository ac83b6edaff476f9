#include "engine/train/network.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/dnnl/runtime.h"
#include "engine/graph/memory_estimate.h"
#include "engine/train/network_test_support.h"

namespace normlab::engine {
namespace {

using ::testing::HasSubstr;

TEST(ModelStateTest, StartsWithIdentityStatistics) {
  const Graph graph = Mlp();
  const auto model = ModelState::Create(graph);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto state = (*model)->state.span();
  const auto& specs = graph.state();
  EXPECT_EQ(state[static_cast<size_t>(specs[0].offset)], 0);
  EXPECT_EQ(state[static_cast<size_t>(specs[1].offset + 8)], 1);
  EXPECT_EQ(state[static_cast<size_t>(specs[1].offset + 9)], 0) << "gaps stay zero";
}

TEST(NetworkTest, RefusesWhatCannotBePlannedNamingTheLayer) {
  const Graph graph = Mlp();
  ModelState model(graph);
  const auto one = Network::Plan(graph, model, {.batch_size = 1});
  EXPECT_EQ(one.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(one.status().message()), HasSubstr("bn1"));
  EXPECT_TRUE(Network::Plan(graph, model, {.batch_size = 1, .mode = Mode::kEvaluation}).ok());
  EXPECT_EQ(Network::Plan(graph, model, {.batch_size = 0}).status().code(),
            absl::StatusCode::kInvalidArgument);

  Graph without_loss({4});
  ASSERT_TRUE(without_loss.Add("fc1", LinearNode{3, true}).ok());
  ModelState other(without_loss);
  const auto refused = Network::Plan(without_loss, other, {.batch_size = 2});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("fc1"));
  EXPECT_EQ(Network::Plan(graph, other, {.batch_size = 2}).status().code(),
            absl::StatusCode::kInvalidArgument)
      << "a model of another graph";
}

TEST(NetworkTest, ATrainingPlanLearnsAndAnEvaluationPlanSeesIt) {
  for (const Graph& graph : {Mlp(), Cnn(5, 8)}) {
    ModelState model(graph);
    Randomize(model, graph);
    auto training = Network::Plan(graph, model, {.batch_size = 30, .threads = 1});
    auto remainder = Network::Plan(graph, model, {.batch_size = 7, .threads = 1});
    auto evaluation =
        Network::Plan(graph, model, {.batch_size = 60, .mode = Mode::kEvaluation, .threads = 1});
    ASSERT_TRUE(training.ok() && remainder.ok() && evaluation.ok());
    FillBatch(**evaluation, 1000);
    const double before = (*evaluation)->Forward().loss;
    for (uint64_t step = 0; step < 120; ++step) {
      Network& network = step % 5 == 4 ? **remainder : **training;
      network.ParametersChanged();
      FillBatch(network, step);
      network.Forward();
      network.Backward();
      for (int64_t i = 0; i < model.parameters.size(); ++i) {
        model.parameters.data()[i] -= 0.2F * model.gradients.data()[i];
      }
    }
    (*evaluation)->ParametersChanged();
    const BatchResult after = (*evaluation)->Forward();
    EXPECT_LT(after.loss, 0.5 * before);
    EXPECT_GT(after.correct, 50);
  }
}

TEST(NetworkTest, GradientsAreOverwrittenAndGapsStayZero) {
  for (const Graph& graph : {Mlp(), Cnn(6, 5)}) {
    ModelState model(graph);
    Randomize(model, graph);
    auto network = Network::Plan(graph, model, {.batch_size = 4});
    ASSERT_TRUE(network.ok()) << network.status();
    FillBatch(**network, 0);
    (*network)->Forward();
    (*network)->Backward();
    const std::vector<float> first(model.gradients.span().begin(), model.gradients.span().end());
    (*network)->Forward();
    (*network)->Backward();
    EXPECT_TRUE(std::equal(first.begin(), first.end(), model.gradients.data()));
    std::vector<bool> used(first.size(), false);
    for (const ParameterSpec& spec : graph.parameters()) {
      bool any = false;
      for (int64_t i = spec.offset; i < spec.offset + spec.count; ++i) {
        used[static_cast<size_t>(i)] = true;
        any |= first[static_cast<size_t>(i)] != 0;
      }
      EXPECT_TRUE(any) << spec.name << " has no gradient";
    }
    for (size_t i = 0; i < first.size(); ++i) {
      EXPECT_TRUE(used[i] || first[i] == 0) << "gap at " << i;
    }
  }
}

// Widths that oneDNN pads in its blocked layouts, and one that it does not.
TEST(NetworkTest, EpsilonZeroTrainsAtEveryWidth) {
  for (const int64_t channels : {5, 16, 20, 33}) {
    SCOPED_TRACE(channels);
    std::vector<float> gradients[2];
    int i = 0;
    for (const double epsilon : {0.0, 1e-12}) {  // variances are of order 1
      const Graph graph = Cnn(6, channels, epsilon);
      ModelState model(graph);
      Randomize(model, graph);
      auto network = Network::Plan(graph, model, {.batch_size = 4});
      ASSERT_TRUE(network.ok()) << network.status();
      FillBatch(**network, 0);
      (*network)->Forward();
      (*network)->Backward();
      gradients[i++].assign(model.gradients.span().begin(), model.gradients.span().end());
    }
    constexpr double kRounding = 1e-5;
    for (size_t k = 0; k < gradients[0].size(); ++k) {
      ASSERT_NEAR(gradients[0][k], gradients[1][k], kRounding) << k;  // fails for NaN
    }
  }
}

TEST(NetworkTest, RecordsChoicesAndSkipsTheGradientOfTheInput) {
  const Graph graph = Mlp();
  ModelState model(graph);
  auto network = Network::Plan(graph, model, {.batch_size = 4});
  ASSERT_TRUE(network.ok()) << network.status();
  std::vector<std::string> passes;
  for (const ImplementationChoice& choice : (*network)->implementations()) {
    EXPECT_FALSE(choice.implementation.empty());
    passes.push_back(choice.layer + "/" + choice.pass);
  }
  EXPECT_THAT(passes,
              ::testing::IsSupersetOf({"fc1/forward", "fc1/backward_weights", "bn1/forward",
                                       "bn1/backward", "head/backward_data", "loss/forward"}));
  EXPECT_THAT(passes, ::testing::Not(::testing::Contains("fc1/backward_data")));
}

TEST(NetworkTest, ReadsOutputsThatExist) {
  const Graph graph = Mlp();
  ModelState model(graph);
  Randomize(model, graph);
  auto fused = Network::Plan(graph, model, {.batch_size = 4});
  auto unfused = Network::Plan(graph, model, {.batch_size = 4, .unfused = true});
  ASSERT_TRUE(fused.ok() && unfused.ok());
  FillBatch(**fused, 0);
  FillBatch(**unfused, 0);
  const double loss = (*fused)->Forward().loss;
  (*unfused)->Forward();
  EXPECT_EQ((*fused)->ReadOutput("bn1").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ((*fused)->ReadOutput("bn7").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ((*unfused)->ReadOutput("bn1")->size(), 4u * 9u);
  EXPECT_EQ((*fused)->ReadOutput("act1").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ((*unfused)->ReadOutput("act1")->size(), 4u * 9u);
  EXPECT_EQ((*fused)->ReadOutput("loss")->at(0), static_cast<float>(loss));
}

TEST(NetworkTest, PlansNeedNoMoreMemoryThanEstimated) {
  struct Size {
    int64_t image, channels, batch;
  };
  struct Way {
    DataType type;
    ConvolutionPolicy convolution;
  };
  for (const Size size : {Size{6, 5, 3}, Size{16, 16, 32}, Size{28, 33, 50}, Size{9, 64, 128}}) {
    for (const Way way : {Way{DataType::kF32, ConvolutionPolicy::kAuto},
                          Way{DataType::kF32, ConvolutionPolicy::kWinograd},
                          Way{DataType::kBf16, ConvolutionPolicy::kAuto}}) {
      for (const int threads : {1, 2, 4}) {
        const Graph graph = Cnn(size.image, size.channels);
        ModelState model(graph);
        NetworkOptions options = {.batch_size = size.batch,
                                  .type = way.type,
                                  .convolution = way.convolution,
                                  .threads = threads};
        const auto training = Network::Plan(graph, model, options);
        options.mode = Mode::kEvaluation;
        options.batch_size = 2 * size.batch;
        const auto evaluation = Network::Plan(graph, model, options);
        if (way.type == DataType::kBf16 && absl::IsUnimplemented(training.status())) {
          continue;
        }
        ASSERT_TRUE(training.ok() && evaluation.ok());
        const MemoryEstimate estimate =
            EstimateMemory(graph, {.batch_size = size.batch,
                                   .evaluation_batch_size = 2 * size.batch,
                                   .last_batch_size = 0,
                                   .evaluation_last_batch_size = 0,
                                   .optimizer_slots = 0,
                                   .data_bytes = 0,
                                   .threads = threads,
                                   .bf16 = way.type == DataType::kBf16,
                                   .winograd = way.convolution == ConvolutionPolicy::kWinograd
                                                   ? WinogradUse::kAlways
                                                   : WinogradUse::kWide});
        const int64_t planned = (*training)->planned_bytes() + (*evaluation)->planned_bytes();
        EXPECT_LE(planned, estimate.activations + estimate.parameters)
            << size.image << " " << size.channels << " " << size.batch << " threads " << threads
            << " type " << static_cast<int>(way.type) << " policy "
            << static_cast<int>(way.convolution);
        // An estimate that is far too high would keep jobs from running. It does not know the
        // algorithm, and counts Winograd's scratch memory also where direct convolutions run: in each
        // plan up to 8 MiB and 4 MiB a thread.
        const int64_t for_small_nets = (2 + 2 * (8 + 4 * int64_t{threads})) << 20;
        if (way.type == DataType::kF32) {
          EXPECT_LE(estimate.activations, 5 * planned + for_small_nets);
        }
      }
    }
  }
}

TEST(NetworkTest, KeepsItsNumberOfThreads) {
  const Graph graph = Mlp();
  ModelState model(graph);
  auto network = Network::Plan(graph, model, {.batch_size = 4, .threads = 2});
  ASSERT_TRUE(network.ok()) << network.status();
  omp_set_num_threads(1);
  (*network)->Forward();
  EXPECT_EQ(omp_get_max_threads(), 2);
}

std::vector<std::string> DataReorders(const Network& network) {
  std::vector<std::string> layers;
  for (const ImplementationChoice& choice : network.implementations()) {
    if (choice.pass == "reorder") {
      layers.push_back(choice.layer);
    }
  }
  return layers;
}

TEST(NetworkTest, BlockedLayoutsAreKeptThroughTheNetwork) {
  if (!absl::StartsWith(CpuIsaName(), "AVX512")) {
    GTEST_SKIP() << "the kernels of narrower instruction sets want one layout here, one there";
  }
  const Graph graph = SmallVgg();
  ModelState model(graph);
  const auto network = Network::Plan(graph, model, {.batch_size = 16});
  ASSERT_TRUE(network.ok()) << network.status();
  EXPECT_THAT(DataReorders(**network), ::testing::IsEmpty())
      << "every layer takes data as the one before leaves it";
}

}  // namespace
}  // namespace normlab::engine
