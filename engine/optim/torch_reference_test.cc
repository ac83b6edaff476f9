// Optimizers and schedules against what PyTorch computed (torch_reference.py).
#include "engine/optim/torch_reference.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "engine/graph/graph.h"
#include "engine/optim/optimizer.h"
#include "engine/optim/schedule.h"
#include "engine/spec/resolve.h"
#include "engine/spec/validate.h"

namespace normlab::engine {
namespace {

namespace torch = torch_reference;

// Both round every operation to float (PyTorch fuses some multiply-adds, we never do): five steps
// of at most ten operations on numbers below 4, each off by 2^-23 at most.
constexpr double kTolerance = 5 * 10 * 4 * 1.2e-7 / 4;
// Rates are in double on both sides; PyTorch's cosine is a recursion over the steps.
constexpr double kRateTolerance = 1e-14;

v1::JobSpec Resolved(const std::string& text) {
  v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "model { mlp {} } data { mnist {} } " + text, &spec))
      << text;
  EXPECT_TRUE(Validate(spec).empty()) << text;
  return Resolve(spec);
}

// One weight tensor of 7 and a bias of 3, as in the script: a linear layer of 7 inputs has one
// output, so the bias of 3 is that of a second layer, whose weights stay 0.
struct Problem {
  Problem() : graph({torch::kWeights}) {
    EXPECT_TRUE(graph.Add("a", LinearNode{.out = 1, .bias = false}).ok());
    EXPECT_TRUE(graph.Add("b", LinearNode{.out = torch::kBiases, .bias = true}).ok());
    parameters.resize(graph.parameter_floats());
    gradients.resize(graph.parameter_floats());
    for (int i = 0; i < torch::kWeights + torch::kBiases; ++i) {
      parameters[Place(i)] = static_cast<float>(torch::kStart[i]);
    }
  }

  size_t Place(int i) const {
    const ParameterSpec& spec = graph.parameters()[i < torch::kWeights ? 0 : 2];
    return static_cast<size_t>(spec.offset + (i < torch::kWeights ? i : i - torch::kWeights));
  }

  void ComputeGradients() {
    for (int i = 0; i < torch::kWeights + torch::kBiases; ++i) {
      gradients[Place(i)] = static_cast<float>(torch::kCurvature[i]) *
                            (parameters[Place(i)] - static_cast<float>(torch::kCentre));
    }
  }

  Graph graph;
  std::vector<float> parameters;
  std::vector<float> gradients;
};

struct Case {
  const char* optimizer;  // fields of Optimizer
  const torch::Trajectory& expected;
};

const Case kCases[] = {
    {"sgd {}", torch::kSgd},
    {"sgd { weight_decay: 0.05 }", torch::kSgdDecay},
    {"sgd { learning_rate: 0.05 momentum: 0.9 }", torch::kMomentum},
    {"sgd { learning_rate: 0.05 momentum: 0.9 weight_decay: 0.05 }", torch::kMomentumDecay},
    {"sgd { learning_rate: 0.05 momentum: 0.8 weight_decay: 0.05 nesterov: true }",
     torch::kNesterov},
    {"adam { learning_rate: 0.1 }", torch::kAdam},
    {"adam { learning_rate: 0.1 beta1: 0.8 beta2: 0.95 epsilon: 1e-3 weight_decay: 0.05 }",
     torch::kAdamDecay},
    {"adamw { learning_rate: 0.1 weight_decay: 0.05 }", torch::kAdamW},
    {"rmsprop {}", torch::kRmsProp},
    {"rmsprop { alpha: 0.9 momentum: 0.7 weight_decay: 0.05 }", torch::kRmsPropMomentum},
    {"rmsprop { alpha: 0.9 epsilon: 1e-4 centered: true }", torch::kRmsPropCentered},
    {"rmsprop { alpha: 0.95 momentum: 0.5 centered: true weight_decay: 0.05 }", torch::kRmsPropAll},
    {"sgd { learning_rate: 0.05 momentum: 0.9 weight_decay: 0.05 } clipping { global_norm: 2 }",
     torch::kMomentumClipNorm},
    {"sgd { learning_rate: 0.05 momentum: 0.9 weight_decay: 0.05 } clipping { value: 0.75 }",
     torch::kMomentumClipValue},
    {"sgd { learning_rate: 0.05 momentum: 0.9 weight_decay: 0.05 } decay_weights_only: true",
     torch::kMomentumWeightsOnly},
    {"adam { learning_rate: 0.1 beta1: 0.8 beta2: 0.95 epsilon: 1e-3 weight_decay: 0.05 } "
     "decay_weights_only: true",
     torch::kAdamWeightsOnly},
    {"adamw { learning_rate: 0.1 weight_decay: 0.05 } decay_weights_only: true",
     torch::kAdamWWeightsOnly},
    {"rmsprop { alpha: 0.95 momentum: 0.5 centered: true weight_decay: 0.05 } "
     "decay_weights_only: true",
     torch::kRmsPropWeightsOnly},
};

// The largest difference of a parameter from PyTorch's over all steps.
double Distance(const std::string& optimizer_text, const torch::Trajectory& expected) {
  const v1::JobSpec resolved = Resolved("optimizer { " + optimizer_text + " }");
  Problem problem;
  auto optimizer = MakeOptimizer(resolved, problem.graph);
  EXPECT_TRUE(optimizer.ok()) << optimizer.status();
  const RunLength length{.steps_per_epoch = 1, .total_steps = torch::kSteps};
  double distance = 0;
  for (int step = 0; step < torch::kSteps; ++step) {
    problem.ComputeGradients();
    const std::vector<float> before = problem.gradients;
    EXPECT_TRUE((*optimizer)
                    ->Step(LearningRateAt(resolved, step, length), problem.gradients,
                           absl::MakeSpan(problem.parameters)));
    EXPECT_EQ(problem.gradients, before) << "the gradient must only be read";
    for (int i = 0; i < torch::kWeights + torch::kBiases; ++i) {
      distance = std::max(
          distance, std::abs(problem.parameters[problem.Place(i)] - expected.values[step][i]));
    }
  }
  for (size_t i = 0; i < problem.parameters.size(); ++i) {
    bool used = false;
    for (int k = 0; k < torch::kWeights + torch::kBiases; ++k) {
      used = used || problem.Place(k) == i;
    }
    EXPECT_TRUE(used || problem.parameters[i] == 0.0F) << "gap " << i;
  }
  return distance;
}

TEST(TorchOptimizerTest, FiveStepsAreThoseOfTorch) {
  for (const Case& test : kCases) {
    EXPECT_LT(Distance(test.optimizer, test.expected), kTolerance) << test.optimizer;
  }
}

// That the tolerance tells every option apart: each case misses every other case's numbers.
TEST(TorchOptimizerTest, NoTwoOptimizersAgreeWithinTheTolerance) {
  for (const Case& test : kCases) {
    for (const Case& other : kCases) {
      if (&test != &other) {
        EXPECT_GT(Distance(test.optimizer, other.expected), 20 * kTolerance)
            << test.optimizer << " and " << other.optimizer;
      }
    }
  }
}

template <size_t N>
void ExpectRates(const std::string& schedule,
                 const double (&expected)[N],
                 int64_t steps_per_epoch = 1) {
  const v1::JobSpec resolved =
      Resolved("optimizer { sgd { learning_rate: 0.5 } } schedule { " + schedule + " }");
  const RunLength length{.steps_per_epoch = steps_per_epoch, .total_steps = N};
  for (size_t step = 0; step < N; ++step) {
    EXPECT_NEAR(LearningRateAt(resolved, static_cast<int64_t>(step), length), expected[step],
                kRateTolerance)
        << schedule << " step " << step;
  }
}

TEST(TorchScheduleTest, StepIsMultiStepLr) {
  ExpectRates("step { milestone_steps: [2, 3, 7] factor: 0.3 }", torch::kStepRates);
}

TEST(TorchScheduleTest, CosineIsCosineAnnealingLr) {
  ExpectRates("cosine { final_factor: 0.2 }", torch::kCosineRates);
}

TEST(TorchScheduleTest, OneCycleIsOneCycleLr) {
  ExpectRates("one_cycle {}", torch::kOneCycleRates);
  ExpectRates("one_cycle { warmup_share: 0.45 start_divisor: 4 final_divisor: 10 }",
              torch::kOneCycleOddRates);
  ExpectRates("one_cycle { warmup_share: 0 }", torch::kOneCycleNoWarmupRates);
  ExpectRates("one_cycle { warmup_share: 1 }", torch::kOneCycleAllWarmupRates);
  ExpectRates("one_cycle {}", torch::kOneCycleShortRates);
}

}  // namespace
}  // namespace normlab::engine
