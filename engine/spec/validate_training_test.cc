// Rules of optimizers, clipping, schedules, initializers and initial weights.
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/spec/limits.h"
#include "engine/spec/resolve.h"
#include "engine/spec/testing.h"
#include "engine/spec/validate.h"

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kMinimal[] = "model { mlp {} } data { mnist {} } ";

v1::JobSpec Parse(const std::string& text) {
  return testing::ParseSpec(kMinimal + text);
}

std::vector<Violation> Check(const std::string& text) {
  return Validate(Parse(text));
}

auto Says(const std::string& field, const std::string& part) {
  return AllOf(Field(&Violation::field, field), Field(&Violation::description, HasSubstr(part)));
}

TEST(ValidateTrainingTest, EveryKindIsValidFromItsDefaultsAndAfterResolve) {
  for (const std::string text :
       {"optimizer { sgd {} }", "optimizer { adam {} }", "optimizer { adamw {} }",
        "optimizer { rmsprop {} }", "optimizer { clipping {} }",
        "optimizer { adam {} decay_weights_only: true clipping { global_norm: 1 } }", "schedule {}",
        "schedule { constant {} }", "schedule { step {} }", "schedule { cosine {} }",
        "schedule { one_cycle {} }", "initializer { lecun_normal {} }",
        "initializer { fan_in_normal {} }", "initializer { normal {} }",
        "initializer { orthogonal {} }", "initial_weights { path: 'a/b.safetensors' }"}) {
    EXPECT_THAT(Check(text), IsEmpty()) << text;
    EXPECT_THAT(Validate(Resolve(Parse(text))), IsEmpty()) << text;
  }
}

TEST(ValidateTrainingTest, ZeroAndTheEndsOfRangesAreAllowedWhereTheyMeanSomething) {
  for (const std::string text :
       {"optimizer { adam { learning_rate: 0 beta1: 0 beta2: 0 } }",
        "optimizer { adamw { weight_decay: 0 } }", "optimizer { rmsprop { alpha: 0 } }",
        "optimizer { adam { epsilon: 1e-30 } }", "schedule { step { factor: 0 } }",
        "schedule { cosine { final_factor: 1 } }", "schedule { one_cycle { warmup_share: 1 } }",
        "schedule { one_cycle { warmup_share: 0 start_divisor: 1 final_divisor: 1 } }",
        "initializer { normal { std: 0 } }", "initializer { fan_in_normal { gain: 0 } }"}) {
    EXPECT_THAT(Check(text), IsEmpty()) << text;
  }
}

TEST(ValidateTrainingTest, NumbersOutOfRangeNameTheirField) {
  for (const auto& [text, field] : std::vector<std::pair<std::string, std::string>>{
           {"optimizer { sgd { learning_rate: -1 } }", "optimizer.sgd.learning_rate"},
           {"optimizer { sgd { momentum: 1 } }", "optimizer.sgd.momentum"},
           {"optimizer { adam { learning_rate: nan } }", "optimizer.adam.learning_rate"},
           {"optimizer { adam { beta1: 1 } }", "optimizer.adam.beta1"},
           {"optimizer { adam { beta2: -0.1 } }", "optimizer.adam.beta2"},
           {"optimizer { adam { epsilon: 0 } }", "optimizer.adam.epsilon"},
           {"optimizer { adam { weight_decay: -1 } }", "optimizer.adam.weight_decay"},
           {"optimizer { adamw { learning_rate: inf } }", "optimizer.adamw.learning_rate"},
           {"optimizer { adamw { beta1: -1 } }", "optimizer.adamw.beta1"},
           {"optimizer { adamw { beta2: 1 } }", "optimizer.adamw.beta2"},
           {"optimizer { adamw { epsilon: -1 } }", "optimizer.adamw.epsilon"},
           {"optimizer { adamw { weight_decay: nan } }", "optimizer.adamw.weight_decay"},
           {"optimizer { rmsprop { learning_rate: -1 } }", "optimizer.rmsprop.learning_rate"},
           {"optimizer { rmsprop { alpha: 1 } }", "optimizer.rmsprop.alpha"},
           {"optimizer { rmsprop { epsilon: 0 } }", "optimizer.rmsprop.epsilon"},
           {"optimizer { rmsprop { momentum: 1.5 } }", "optimizer.rmsprop.momentum"},
           {"optimizer { rmsprop { weight_decay: -1 } }", "optimizer.rmsprop.weight_decay"},
           {"optimizer { clipping { global_norm: 0 } }", "optimizer.clipping.global_norm"},
           {"optimizer { clipping { value: -1 } }", "optimizer.clipping.value"},
           {"schedule { step { factor: -0.1 } }", "schedule.step.factor"},
           {"schedule { step { milestone_steps: 0 } }", "schedule.step.milestone_steps[0]"},
           {"schedule { step { milestone_epochs: -3 } }", "schedule.step.milestone_epochs[0]"},
           {"schedule { cosine { final_factor: 1.5 } }", "schedule.cosine.final_factor"},
           {"schedule { one_cycle { warmup_share: 1.5 } }", "schedule.one_cycle.warmup_share"},
           {"schedule { one_cycle { start_divisor: 0 } }", "schedule.one_cycle.start_divisor"},
           {"schedule { one_cycle { final_divisor: 0.5 } }", "schedule.one_cycle.final_divisor"},
           {"schedule { warmup_steps: -1 }", "schedule.warmup_steps"},
           {"initializer { normal { std: -1 } }", "initializer.normal.std"},
           {"initializer { fan_in_normal { gain: nan } }", "initializer.fan_in_normal.gain"},
           {"initializer { scale: inf }", "initializer.scale"},
           {"initial_weights {}", "initial_weights.path"}}) {
    EXPECT_THAT(Check(text), ElementsAre(Field(&Violation::field, field))) << text;
  }
}

TEST(ValidateTrainingTest, WhatDoesNotGoTogetherSaysWhatToDo) {
  EXPECT_THAT(Check("optimizer { sgd { nesterov: true } }"),
              ElementsAre(Says("optimizer.sgd.nesterov", "give optimizer.sgd.momentum")));
  EXPECT_THAT(Check("schedule { step { milestone_steps: 3 milestone_epochs: 1 } }"),
              ElementsAre(Says("schedule.step.milestone_epochs", "keep one of the two")));
  EXPECT_THAT(Check("schedule { step { milestone_steps: [2, 5, 5, 4] } }"),
              ElementsAre(Says("schedule.step.milestone_steps[2]", "is 5 after 5"),
                          Says("schedule.step.milestone_steps[3]", "is 4 after 5")));
  EXPECT_THAT(Check("schedule { one_cycle {} warmup_steps: 10 }"),
              ElementsAre(Says("schedule.warmup_steps", "schedule.one_cycle.warmup_share")));
}

TEST(ValidateTrainingTest, InitialWeights) {
  v1::JobSpec spec = Parse("");
  spec.mutable_initial_weights()->set_path(std::string("a\0z", 3));
  spec.mutable_initial_weights()->add_ignore("");
  spec.mutable_initial_weights()->add_ignore("head.*");
  spec.mutable_initial_weights()->add_ignore(std::string(kMaxTextCharacters + 1, 'x'));
  EXPECT_THAT(Validate(spec), ElementsAre(Says("initial_weights.path", "a\\x00z"),
                                          Says("initial_weights.ignore[0]", "is empty"),
                                          Says("initial_weights.ignore[2]", "201 characters")));
  spec.mutable_initial_weights()->set_path(std::string(kMaxPathBytes + 1, 'p'));
  spec.mutable_initial_weights()->clear_ignore();
  for (int i = 0; i <= kMaxIgnorePatterns; ++i) {
    spec.mutable_initial_weights()->add_ignore("x");
  }
  EXPECT_THAT(Validate(spec), ElementsAre(Says("initial_weights.path", "4097 bytes"),
                                          Says("initial_weights.ignore", "101 patterns")));
}

TEST(ValidateTrainingTest, UnknownLossNumbersListTheNames) {
  v1::JobSpec spec = Parse("");
  spec.set_loss(static_cast<v1::Loss::Kind>(9));
  EXPECT_THAT(Validate(spec), ElementsAre(Says("loss", "MEAN_SQUARED_ERROR")));
}

}  // namespace
}  // namespace normlab::engine
