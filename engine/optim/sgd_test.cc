#include "engine/optim/sgd.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "common/random.h"
#include "engine/spec/resolve.h"

namespace normlab::engine {
namespace {

std::vector<float> Normals(const char* name, int64_t count) {
  const common::RandomStream random(1, name);
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(random.Normal(0, i));
  }
  return values;
}

// Steps of both, then the distance of the parameters from a run in double.
void ExpectMatchesDouble(SgdOptions options, double learning_rate, int64_t count, int steps) {
  auto sgd = Sgd::Create(options, count);
  ASSERT_TRUE(sgd.ok());
  std::vector<float> w = Normals("w", count);
  std::vector<double> w_double(w.begin(), w.end());
  std::vector<double> v_double(count);
  for (int step = 0; step < steps; ++step) {
    const std::vector<float> g = Normals(absl::StrCat("g", step).c_str(), count);
    const std::vector<float> g_before = g;
    (*sgd)->Step(learning_rate, g, absl::MakeSpan(w));
    EXPECT_EQ(g, g_before);
    for (int64_t i = 0; i < count; ++i) {
      v_double[i] = options.momentum * v_double[i] + g[i] + options.weight_decay * w_double[i];
      w_double[i] -= learning_rate * v_double[i];
    }
  }
  // A handful of roundings of numbers of order 10 per step.
  const double tolerance = 10 * std::ldexp(1.0, -23) * steps;
  for (int64_t i = 0; i < count; ++i) {
    ASSERT_NEAR(w[i], w_double[i], tolerance) << i;
  }
}

TEST(SgdTest, MatchesADoubleReference) {
  for (const int64_t count : {1, 17, 1003}) {
    ExpectMatchesDouble({}, 0.1, count, 10);
    ExpectMatchesDouble({.momentum = 0.9}, 0.1, count, 10);
    ExpectMatchesDouble({.momentum = 0.5, .weight_decay = 0.01}, 0.3, count, 10);
    ExpectMatchesDouble({.weight_decay = 0.3}, 0.1, count, 10);
  }
}

TEST(SgdTest, LargeArenasAreUpdatedWhole) {
  ExpectMatchesDouble({.momentum = 0.9, .weight_decay = 1e-3}, 0.1, (1 << 20) + 12345, 2);
}

// Exactly representable numbers: any other order of operations or a missing term gives others.
TEST(SgdTest, HandCase) {
  std::vector<float> w = {1.0F, -2.0F};
  std::vector<float> v = {4.0F, 0.5F};
  const std::vector<float> g = {2.0F, 8.0F};
  SgdUpdate({.momentum = 0.5, .weight_decay = 0.25}, 0.125, g, absl::MakeSpan(v),
            absl::MakeSpan(w));
  EXPECT_EQ(v, (std::vector<float>{4.25F, 7.75F}));
  EXPECT_EQ(w, (std::vector<float>{1.0F - 0.53125F, -2.0F - 0.96875F}));
}

TEST(SgdTest, LearningRateZeroChangesNoWeightButKeepsVelocity) {
  std::vector<float> w = {1.5F};
  std::vector<float> v = {0.0F};
  SgdUpdate({.momentum = 0.5}, 0, std::vector<float>{3.0F}, absl::MakeSpan(v), absl::MakeSpan(w));
  EXPECT_EQ(w[0], 1.5F);
  EXPECT_EQ(v[0], 3.0F);
}

TEST(SgdTest, TellsWhetherEveryParameterIsFinite) {
  for (const double momentum : {0.0, 0.9}) {
    // One thread, and a part of every thread's.
    for (const int64_t count : {17, 100003}) {
      auto sgd = Sgd::Create({.momentum = momentum}, count);
      ASSERT_TRUE(sgd.ok());
      const std::vector<float> start(count, 2e38F);
      for (const int64_t place : {int64_t{0}, count / 2, count - 1}) {
        std::vector<float> w = start;
        std::vector<float> g(count, 0.0F);
        EXPECT_TRUE((*sgd)->Step(1, g, absl::MakeSpan(w)));
        g[place] = -2e38F;
        EXPECT_FALSE((*sgd)->Step(1, g, absl::MakeSpan(w))) << place;
        sgd = Sgd::Create({.momentum = momentum}, count);
        w = start;
        g[place] = std::nanf("");
        EXPECT_FALSE((*sgd)->Step(1, g, absl::MakeSpan(w))) << place;
        sgd = Sgd::Create({.momentum = momentum}, count);
      }
    }
  }
}

TEST(MakeOptimizerTest, StateExistsOnlyWithMomentum) {
  v1::JobSpec spec;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString("model { mlp {} }", &spec));
  auto plain = MakeOptimizer(Resolve(spec), 32);
  ASSERT_TRUE(plain.ok());
  EXPECT_TRUE((*plain)->slots().empty());
  spec.mutable_optimizer()->mutable_sgd()->set_momentum(0.9);
  auto heavy = MakeOptimizer(Resolve(spec), 32);
  ASSERT_TRUE(heavy.ok());
  ASSERT_EQ((*heavy)->slots().size(), 1U);
  EXPECT_EQ((*heavy)->slots()[0].values.size(), 32U);
  EXPECT_EQ(LearningRateAt(Resolve(spec), 7), 0.1);
}

}  // namespace
}  // namespace normlab::engine
