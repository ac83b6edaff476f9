// Optimizers against formulas in double, and what all of them promise.
#include "engine/optim/optimizer.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/random.h"
#include "engine/optim/adam.h"
#include "engine/optim/rmsprop.h"
#include "engine/optim/sgd.h"

namespace normlab::engine {
namespace {

// Enough for several threads, and neither a multiple of a piece nor of a vector.
constexpr int64_t kLarge = (1 << 16) + 12345;

std::vector<float> Normals(const std::string& name, int64_t count) {
  const common::RandomStream random(1, name);
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    values[static_cast<size_t>(i)] = static_cast<float>(random.Normal(0, i));
  }
  return values;
}

// State of one parameter in double; what it means is the formula's business.
struct Reference {
  double w = 0;
  double a = 0;
  double b = 0;
  double c = 0;
};
// One update of one parameter by gradient g at step t = 1, 2, ...
using Formula = std::function<void(Reference&, double g, double decay, int t)>;

struct Kind {
  std::string name;
  std::function<std::unique_ptr<Optimizer>(const UpdateScope&)> make;
  Formula formula;
};

constexpr double kRate = 0.05;
constexpr double kDecay = 0.02;

std::vector<Kind> Kinds() {
  std::vector<Kind> kinds;
  for (const double momentum : {0.0, 0.9}) {
    for (const bool nesterov : {false, true}) {
      if (nesterov && momentum == 0) {
        continue;
      }
      kinds.push_back({absl::StrCat("sgd ", momentum, nesterov ? " nesterov" : ""),
                       [=](const UpdateScope& scope) -> std::unique_ptr<Optimizer> {
                         return *Sgd::Create({momentum, kDecay, nesterov}, scope);
                       },
                       [=](Reference& p, double g, double decay, int) {
                         const double d = g + decay * p.w;
                         p.a = momentum * p.a + d;
                         p.w -= kRate * (nesterov ? d + momentum * p.a : p.a);
                       }});
    }
  }
  for (const bool decoupled : {false, true}) {
    kinds.push_back({decoupled ? "adamw" : "adam",
                     [=](const UpdateScope& scope) -> std::unique_ptr<Optimizer> {
                       return *Adam::Create({0.8, 0.95, 1e-3, kDecay, decoupled}, scope);
                     },
                     [=](Reference& p, double g, double decay, int t) {
                       const double d = decoupled ? g : g + decay * p.w;
                       p.a = 0.8 * p.a + 0.2 * d;
                       p.b = 0.95 * p.b + 0.05 * d * d;
                       const double mean = p.a / (1 - std::pow(0.8, t));
                       const double square = p.b / (1 - std::pow(0.95, t));
                       const double shrink = decoupled ? kRate * decay * p.w : 0;
                       p.w -= shrink + kRate * mean / (std::sqrt(square) + 1e-3);
                     }});
  }
  for (const double momentum : {0.0, 0.7}) {
    for (const bool centered : {false, true}) {
      kinds.push_back({absl::StrCat("rmsprop ", momentum, centered ? " centered" : ""),
                       [=](const UpdateScope& scope) -> std::unique_ptr<Optimizer> {
                         return *RmsProp::Create({0.9, 1e-3, momentum, kDecay, centered}, scope);
                       },
                       [=](Reference& p, double g, double decay, int) {
                         const double d = g + decay * p.w;
                         p.a = 0.9 * p.a + 0.1 * d * d;
                         p.b = 0.9 * p.b + 0.1 * d;
                         const double variance = p.a - (centered ? p.b * p.b : 0);
                         p.c = momentum * p.c + d / (std::sqrt(variance) + 1e-3);
                         p.w -= kRate * p.c;
                       }});
    }
  }
  return kinds;
}

bool Decays(const UpdateScope& scope, int64_t i) {
  return std::none_of(
      scope.without_decay.begin(), scope.without_decay.end(),
      [i](const FloatRange& range) { return i >= range.offset && i < range.offset + range.count; });
}

// What the optimizer is meant to see of gradient `g`.
std::vector<double> Clipped(const UpdateScope& scope, const std::vector<float>& g) {
  std::vector<double> seen(g.begin(), g.end());
  if (scope.clip_norm > 0) {
    double square = 0;
    for (const double value : seen) {
      square += value * value;
    }
    const double factor = std::min(1.0, scope.clip_norm / (std::sqrt(square) + 1e-6));
    for (double& value : seen) {
      value *= factor;
    }
  }
  if (scope.clip_value > 0) {
    for (double& value : seen) {
      value = std::clamp(value, -scope.clip_value, scope.clip_value);
    }
  }
  return seen;
}

void ExpectMatchesDouble(const Kind& kind, const UpdateScope& scope, int steps) {
  SCOPED_TRACE(absl::StrCat(kind.name, ", ", scope.floats, " floats, clip ", scope.clip_norm, " ",
                            scope.clip_value));
  const auto optimizer = kind.make(scope);
  std::vector<float> w = Normals("w", scope.floats);
  std::vector<Reference> expected(w.size());
  for (size_t i = 0; i < w.size(); ++i) {
    expected[i].w = w[i];
  }
  for (int step = 0; step < steps; ++step) {
    const std::vector<float> g = Normals(absl::StrCat("g", step), scope.floats);
    const std::vector<float> before = g;
    ASSERT_TRUE(optimizer->Step(kRate, g, absl::MakeSpan(w)));
    ASSERT_EQ(g, before) << "the gradient must only be read";
    const std::vector<double> seen = Clipped(scope, g);
    for (size_t i = 0; i < w.size(); ++i) {
      const double decay = Decays(scope, static_cast<int64_t>(i)) ? kDecay : 0;
      kind.formula(expected[i], seen[i], decay, step + 1);
    }
  }
  // Every step rounds some ten numbers of order 10; a centred variance near 0 is the difference of
  // two such, whose root divides: hence the factor beyond that.
  const double tolerance = 300 * std::ldexp(1.0, -23) * steps;
  for (size_t i = 0; i < w.size(); ++i) {
    ASSERT_NEAR(w[i], expected[i].w, tolerance) << i;
  }
}

TEST(OptimizerTest, MatchesADoubleReference) {
  for (const Kind& kind : Kinds()) {
    for (const int64_t count : {1, 17, 1003}) {
      ExpectMatchesDouble(kind, {.floats = count}, 10);
    }
  }
}

TEST(OptimizerTest, LargeArenasAreUpdatedWhole) {
  for (const Kind& kind : Kinds()) {
    ExpectMatchesDouble(kind, {.floats = kLarge}, 2);
  }
}

TEST(OptimizerTest, RangesWithoutDecayAndClippingMatchTheReferenceToo) {
  // Ranges at both ends, next to each other and across pieces.
  const std::vector<FloatRange> ranges = {{0, 16}, {48, 1}, {49, 7}, {4000, 9000}, {kLarge - 3, 3}};
  for (const Kind& kind : Kinds()) {
    ExpectMatchesDouble(kind, {.floats = kLarge, .without_decay = ranges}, 2);
    // The norm of kLarge standard normal numbers is sqrt(kLarge) = 279.
    ExpectMatchesDouble(kind, {.floats = kLarge, .without_decay = ranges, .clip_norm = 30}, 2);
    ExpectMatchesDouble(kind, {.floats = 1003, .clip_norm = 1e4}, 3);  // longer than it is
    ExpectMatchesDouble(kind, {.floats = 1003, .clip_value = 0.5}, 3);
  }
}

// Exactly representable numbers: any other order of operations or a missing term gives others.
TEST(SgdTest, HandCase) {
  const auto run = [](bool nesterov, std::vector<float> expected_w) {
    auto sgd =
        Sgd::Create({.momentum = 0.5, .weight_decay = 0.25, .nesterov = nesterov}, {.floats = 2});
    ASSERT_TRUE(sgd.ok());
    std::vector<OptimizerSlot> slots = (*sgd)->slots();
    ASSERT_EQ(slots.size(), 1U);
    EXPECT_EQ(slots[0].name, "momentum_buffer");
    slots[0].values[0] = 4.0F;
    slots[0].values[1] = 0.5F;
    std::vector<float> w = {1.0F, -2.0F};
    const std::vector<float> g = {2.0F, 8.0F};
    EXPECT_TRUE((*sgd)->Step(0.125, g, absl::MakeSpan(w)));
    // d = 2.25 and 7.5; v = 4.25 and 7.75.
    EXPECT_EQ(slots[0].values, (std::vector<float>{4.25F, 7.75F}));
    EXPECT_EQ(w, expected_w);
  };
  run(false, {1.0F - 0.53125F, -2.0F - 0.96875F});
  run(true, {1.0F - 0.125F * (2.25F + 2.125F), -2.0F - 0.125F * (7.5F + 3.875F)});
}

// The first update of Adam is learning_rate*sign(g), whatever the gradient.
TEST(AdamTest, TheFirstStepHasTheSizeOfTheLearningRate) {
  auto adam = Adam::Create({}, {.floats = 4});
  ASSERT_TRUE(adam.ok());
  std::vector<float> w = {0, 0, 0, 0};
  const std::vector<float> g = {1e-3F, -5.0F, 1e4F, 0.0F};
  EXPECT_TRUE((*adam)->Step(0.25, g, absl::MakeSpan(w)));
  EXPECT_NEAR(w[0], -0.25, 1e-5);  // epsilon is 1e-5 of this gradient
  EXPECT_NEAR(w[1], 0.25, 1e-6);
  EXPECT_NEAR(w[2], -0.25, 1e-6);
  EXPECT_EQ(w[3], 0.0F);
}

TEST(AdamTest, AdamWShrinksWeightsWithoutAGradientAndAdamMovesThem) {
  const std::vector<float> g = {0.0F};
  std::vector<float> w = {8.0F};
  auto adamw = Adam::Create({.weight_decay = 0.5, .decoupled_decay = true}, {.floats = 1});
  EXPECT_TRUE((*adamw)->Step(0.25, g, absl::MakeSpan(w)));
  EXPECT_EQ(w[0], 7.0F);
  w = {8.0F};
  auto adam = Adam::Create({.weight_decay = 0.5}, {.floats = 1});
  EXPECT_TRUE((*adam)->Step(0.25, g, absl::MakeSpan(w)));
  EXPECT_NEAR(w[0], 7.75, 1e-6);
}

// s - a*a of thousands of equal gradients is 0 but for rounding: PyTorch 1.13 takes the root of
// what is then negative.
TEST(RmsPropTest, CenteredStaysFiniteUnderEqualGradients) {
  auto rmsprop = RmsProp::Create({.alpha = 0.5, .centered = true}, {.floats = 9});
  ASSERT_TRUE(rmsprop.ok());
  std::vector<float> w(9, 0.0F);
  const std::vector<float> g = {0.1F, 0.3F, 0.7F, 1.1F, 1.3F, 1.7F, 1.9F, 2.3F, 2.9F};
  for (int step = 0; step < 200; ++step) {
    ASSERT_TRUE((*rmsprop)->Step(1e-12, g, absl::MakeSpan(w))) << step;
  }
}

TEST(OptimizerTest, LearningRateZeroChangesNoWeightButTheState) {
  for (const Kind& kind : Kinds()) {
    const auto optimizer = kind.make({.floats = 3});
    const std::vector<float> start = {1.5F, -2.5F, 1e-30F};
    std::vector<float> w = start;
    EXPECT_TRUE(optimizer->Step(0, std::vector<float>{3.0F, -1.0F, 2.0F}, absl::MakeSpan(w)));
    EXPECT_EQ(w, start) << kind.name;
    for (const OptimizerSlot& slot : optimizer->slots()) {
      EXPECT_NE(slot.values[0], 0.0F) << kind.name << " " << slot.name;
    }
  }
}

TEST(OptimizerTest, TellsWhetherEveryParameterIsFinite) {
  for (const Kind& kind : Kinds()) {
    // One thread, and a part of every thread's.
    for (const int64_t count : {int64_t{17}, kLarge}) {
      for (const int64_t place : {int64_t{0}, count / 2, count - 1}) {
        const auto optimizer = kind.make({.floats = count});
        std::vector<float> w(static_cast<size_t>(count), 1.0F);
        std::vector<float> g(static_cast<size_t>(count), 0.5F);
        EXPECT_TRUE(optimizer->Step(kRate, g, absl::MakeSpan(w))) << kind.name;
        g[static_cast<size_t>(place)] = std::nanf("");
        EXPECT_FALSE(optimizer->Step(kRate, g, absl::MakeSpan(w))) << kind.name << " " << place;
      }
    }
  }
}

TEST(OptimizerTest, ClippingHidesNoGradientThatIsNotFinite) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    for (const Kind& kind : Kinds()) {
      const auto by_norm = kind.make({.floats = 5, .clip_norm = 1});
      std::vector<float> w(5, 1.0F);
      std::vector<float> g = {1.0F, 2.0F, bad, 3.0F, 4.0F};
      EXPECT_FALSE(by_norm->Step(kRate, g, absl::MakeSpan(w))) << kind.name << " " << bad;
    }
  }
  const auto by_value = Kinds()[0].make({.floats = 2, .clip_value = 1});
  std::vector<float> w = {1.0F, 1.0F};
  EXPECT_FALSE(by_value->Step(kRate, std::vector<float>{0.0F, std::nanf("")}, absl::MakeSpan(w)));
}

TEST(OptimizerTest, TheSameBitsForEveryNumberOfThreads) {
  const int threads_before = omp_get_max_threads();
  for (const Kind& kind : Kinds()) {
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 3}) {
      omp_set_num_threads(threads);
      const auto optimizer =
          kind.make({.floats = kLarge, .without_decay = {{5000, 123}}, .clip_norm = 2});
      std::vector<float> w = Normals("w", kLarge);
      for (int step = 0; step < 2; ++step) {
        optimizer->Step(kRate, Normals(absl::StrCat("g", step), kLarge), absl::MakeSpan(w));
      }
      results.push_back(std::move(w));
    }
    EXPECT_EQ(results[0], results[1]) << kind.name;
    EXPECT_EQ(results[0], results[2]) << kind.name;
  }
  omp_set_num_threads(threads_before);
}

TEST(OptimizerTest, GoesOnFromItsSlotsAndCountersBitForBit) {
  constexpr int64_t kCount = 103;
  for (const Kind& kind : Kinds()) {
    const UpdateScope scope = {.floats = kCount, .clip_norm = 5};
    const auto whole = kind.make(scope);
    std::vector<float> w = Normals("w", kCount);
    const auto step = [&](Optimizer& optimizer, std::vector<float>& parameters, int number) {
      optimizer.Step(kRate, Normals(absl::StrCat("g", number), kCount), absl::MakeSpan(parameters));
    };
    for (int number = 0; number < 3; ++number) {
      step(*whole, w, number);
    }
    const auto resumed = kind.make(scope);
    std::vector<float> w_resumed = w;
    const auto from = whole->slots();
    const auto to = resumed->slots();
    ASSERT_EQ(from.size(), to.size());
    for (size_t i = 0; i < from.size(); ++i) {
      EXPECT_EQ(from[i].name, to[i].name);
      std::copy(from[i].values.begin(), from[i].values.end(), to[i].values.begin());
    }
    const auto from_counters = whole->counters();
    const auto to_counters = resumed->counters();
    ASSERT_EQ(from_counters.size(), to_counters.size());
    for (size_t i = 0; i < from_counters.size(); ++i) {
      *to_counters[i].value = *from_counters[i].value;
    }
    for (int number = 3; number < 6; ++number) {
      step(*whole, w, number);
      step(*resumed, w_resumed, number);
    }
    EXPECT_EQ(w, w_resumed) << kind.name;
  }
}

}  // namespace
}  // namespace normlab::engine
