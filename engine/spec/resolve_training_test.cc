// Defaults of optimizers, schedules and initializers.
#include <string>

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "engine/spec/resolve.h"
#include "engine/spec/testing.h"

namespace normlab::engine {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::ParseSpec;

void ExpectResolves(const std::string& text, const std::string& expected) {
  const v1::JobSpec resolved = Resolve(ParseSpec(text));
  const v1::JobSpec wanted = ParseSpec(expected);
  const auto equal = [](const google::protobuf::Message& a, const google::protobuf::Message& b) {
    return MessageDifferencer::Equals(a, b);
  };
  EXPECT_TRUE(equal(resolved.optimizer(), wanted.optimizer())) << resolved.DebugString();
  EXPECT_TRUE(equal(resolved.schedule(), wanted.schedule())) << resolved.DebugString();
  EXPECT_TRUE(equal(resolved.initializer(), wanted.initializer())) << resolved.DebugString();
  EXPECT_TRUE(equal(Resolve(resolved), resolved)) << "not idempotent";
}

TEST(ResolveTrainingTest, WritesOutTheDefaultsOfEveryKind) {
  const std::string plain = " schedule { constant {} } initializer { pytorch_default {} scale: 1 }";
  ExpectResolves("", "optimizer { sgd { learning_rate: 0.1 } }" + plain);
  ExpectResolves("optimizer { clipping { value: 2 } }",
                 "optimizer { sgd { learning_rate: 0.1 } clipping { value: 2 } }" + plain);
  ExpectResolves(
      "optimizer { adam {} }",
      "optimizer { adam { learning_rate: 1e-3 beta1: 0.9 beta2: 0.999 epsilon: 1e-8 } }" + plain);
  ExpectResolves("optimizer { adamw {} }",
                 "optimizer { adamw { learning_rate: 1e-3 beta1: 0.9 beta2: 0.999 epsilon: 1e-8 "
                 "weight_decay: 0.01 } }" +
                     plain);
  ExpectResolves("optimizer { rmsprop {} }",
                 "optimizer { rmsprop { learning_rate: 0.01 alpha: 0.99 epsilon: 1e-8 } }" + plain);
  const std::string sgd = "optimizer { sgd { learning_rate: 0.1 } } ";
  const std::string init = " initializer { pytorch_default {} scale: 1 }";
  ExpectResolves("schedule { warmup_steps: 5 }",
                 sgd + "schedule { constant {} warmup_steps: 5 }" + init);
  ExpectResolves("schedule { step { milestone_epochs: 3 } }",
                 sgd + "schedule { step { milestone_epochs: 3 factor: 0.1 } }" + init);
  ExpectResolves("schedule { cosine {} }", sgd + "schedule { cosine {} }" + init);
  ExpectResolves("schedule { one_cycle {} }",
                 sgd +
                     "schedule { one_cycle { warmup_share: 0.3 start_divisor: 25 "
                     "final_divisor: 10000 } }" +
                     init);
  const std::string constant = sgd + "schedule { constant {} } ";
  ExpectResolves("initializer { fan_in_normal {} }",
                 constant + "initializer { fan_in_normal { gain: 1 } scale: 1 }");
  ExpectResolves("initializer { normal {} }",
                 constant + "initializer { normal { std: 0.01 } scale: 1 }");
  ExpectResolves("initializer { orthogonal {} }",
                 constant + "initializer { orthogonal {} scale: 1 }");
}

TEST(ResolveTrainingTest, DefaultsThatDependOnTheNormalizer) {
  const std::string schedule = " schedule { constant {} }";
  for (const char* kind : {"fixup", "skip_init"}) {
    ExpectResolves(
        std::string("normalization { ") + kind + " {} }",
        "optimizer { sgd { learning_rate: 0.1 } } initializer { he_normal {} scale: 1 }" +
            schedule);
  }
  ExpectResolves(
      "normalization { fixup {} } initializer { orthogonal {} }",
      "optimizer { sgd { learning_rate: 0.1 } } initializer { orthogonal {} scale: 1 }" + schedule);
  const std::string plain = schedule + " initializer { pytorch_default {} scale: 1 }";
  ExpectResolves("normalization { weight {} }",
                 "optimizer { sgd { learning_rate: 0.01 } }" + plain);
  ExpectResolves("normalization_overrides { layers: 'fc2' normalization { weight {} } }",
                 "optimizer { sgd { learning_rate: 0.01 } }" + plain);
  for (const char* summed :
       {"loss: SUM_SQUARED_ERROR", "model { deep_linear {} } data { linear_regression {} }"}) {
    ExpectResolves(summed, "optimizer { sgd { learning_rate: 1e-6 } }" + plain);
  }
  ExpectResolves("normalization { weight {} } optimizer { sgd { learning_rate: 0.5 } }",
                 "optimizer { sgd { learning_rate: 0.5 } }" + plain);
}

TEST(ResolveTrainingTest, KeepsWhatWasSetAlsoWhenItIsZero) {
  for (const std::string optimizer :
       {"adam { learning_rate: 0 beta1: 0 beta2: 0 epsilon: 1e-3 weight_decay: 1 }",
        "adamw { learning_rate: 0 beta1: 0 beta2: 0 epsilon: 1 weight_decay: 0 }",
        "rmsprop { learning_rate: 0 alpha: 0 epsilon: 1 momentum: 0.5 centered: true }",
        "sgd { learning_rate: 0 momentum: 0.5 nesterov: true } decay_weights_only: true"}) {
    for (const std::string schedule :
         {"step { milestone_steps: 2 factor: 0 }", "cosine { final_factor: 0.5 }",
          "one_cycle { warmup_share: 0 start_divisor: 1 final_divisor: 1 }"}) {
      const std::string text = "optimizer { " + optimizer + " } schedule { " + schedule +
                               " } initializer { normal { std: 0 } scale: 0 }";
      ExpectResolves(text, text);
    }
  }
}

}  // namespace
}  // namespace normlab::engine
