#include "engine/spec/resolve.h"

#include <string>

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "engine/spec/testing.h"

namespace normlab::engine {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::ParseSpec;

void ExpectResolves(const std::string& text, const std::string& expected) {
  const v1::JobSpec resolved = Resolve(ParseSpec(text));
  EXPECT_TRUE(MessageDifferencer::Equals(resolved, ParseSpec(expected))) << resolved.DebugString();
  EXPECT_TRUE(MessageDifferencer::Equals(Resolve(resolved), resolved)) << "not idempotent";
}

TEST(ResolveTest, WritesOutEveryDefaultOfAnMlp) {
  ExpectResolves("model { mlp {} } data { fashion_mnist {} }", R"(
    model { mlp { hidden: [100, 100, 100] depth: 3 activation: RELU } }
    normalization { none {} }
    data { fashion_mnist { path: "fashion-mnist" } scaling: STANDARDIZE last_batch: DROP shuffle: true }
    initializer { pytorch_default {} scale: 1 }
    optimizer { sgd { learning_rate: 0.1 } }
    schedule { constant {} }
    batch_size: 64
    epochs: 1
    evaluation { every_epochs: 1 batch_size: 256 }
    checkpoint { every_time { seconds: 300 } }
    threads: 1
    precision: F32
    convolution_algorithm: AUTO)");
}

TEST(ResolveTest, WritesOutTheDefaultBlocksOfACnn) {
  const std::string block =
      "kernel: 3 stride: 1 padding: 1 pooling { kind: MAX window: 2 stride: 2 }";
  const v1::JobSpec resolved = Resolve(ParseSpec("model { cnn {} } normalization { batch {} }"));
  EXPECT_TRUE(MessageDifferencer::Equals(
      resolved.model(), ParseSpec("model { cnn { activation: RELU blocks { channels: 16 " + block +
                                  " } blocks { channels: 32 " + block + " } } }")
                            .model()))
      << resolved.DebugString();
  EXPECT_TRUE(MessageDifferencer::Equals(
      resolved.normalization(),
      ParseSpec("normalization { batch { epsilon: 1e-5 running_update_rate: 0.1 affine: true }"
                " placement: BEFORE_ACTIVATION }")
          .normalization()));
}

TEST(ResolveTest, KeepsWhatWasSet) {
  const std::string explicit_spec = R"(
    display_name: "mine"
    model { mlp { hidden: [7] depth: 1 activation: TANH } }
    normalization { batch { epsilon: 0 running_update_rate: 1 affine: false }
                    placement: AFTER_ACTIVATION }
    data { mnist { path: "/x" } scaling: NONE last_batch: KEEP shuffle: false train_limit: 3 }
    initializer { he_uniform {} scale: 0 }
    optimizer { sgd { learning_rate: 0 momentum: 0.5 } }
    schedule { constant {} }
    batch_size: 5 steps: 9
    evaluation { every_steps: 4 every_epochs: 0 batch_size: 3 }
    checkpoint { every_steps: 2 every_time {} }
    threads: 2 seed: 11 priority: -4 labels { key: "a" value: "b" } max_retries: 1
    time_limit { seconds: 5 }
    precision: F32 convolution_algorithm: DIRECT)";
  ExpectResolves(explicit_spec, explicit_spec);
}

TEST(ResolveTest, DepthZeroStaysALinearClassifier) {
  const v1::JobSpec resolved = Resolve(ParseSpec("model { mlp { depth: 0 } }"));
  EXPECT_EQ(resolved.model().mlp().hidden_size(), 0);
  EXPECT_EQ(Resolve(resolved).model().mlp().hidden_size(), 0);
}

TEST(ResolveTest, DepthTimesWidthBecomesHidden) {
  const v1::JobSpec resolved = Resolve(ParseSpec("model { mlp { depth: 2 width: 7 } }"));
  ASSERT_EQ(resolved.model().mlp().hidden_size(), 2);
  EXPECT_EQ(resolved.model().mlp().hidden(1), 7);
}

TEST(ResolveTest, EvaluationByStepsTurnsEpochsOff) {
  EXPECT_EQ(Resolve(ParseSpec("evaluation { every_steps: 5 }")).evaluation().every_epochs(), 0);
}

TEST(ResolveTest, AnAbsurdDepthIsNotExpanded) {
  EXPECT_EQ(Resolve(ParseSpec("model { mlp { depth: 2000000000 } }")).model().mlp().hidden_size(),
            0);
}

TEST(ResolveTest, WritesOutTheDefaultsOfEveryDataSource) {
  const auto data = [](const std::string& text) {
    return Resolve(ParseSpec("data { " + text + " }")).data();
  };
  const auto expect = [&](const std::string& text, const std::string& expected) {
    const v1::Data resolved = data(text);
    EXPECT_TRUE(MessageDifferencer::Equals(
        resolved, ParseSpec("data { " + expected + " last_batch: DROP shuffle: true }").data()))
        << resolved.DebugString();
    EXPECT_TRUE(MessageDifferencer::Equals(data(resolved.ShortDebugString()), resolved));
  };
  expect("cifar10 {}", "cifar10 { path: 'cifar-10-batches-bin' } scaling: STANDARDIZE");
  expect("cifar100 {}", "cifar100 { path: 'cifar-100-binary' } scaling: STANDARDIZE");
  expect("arrays { path: 'a' }", "arrays { path: 'a' } scaling: STANDARDIZE");
  expect("gaussian_classes {}",
         "gaussian_classes { classes: 10 dims: 100 train_examples: 10000 test_examples: 2000 "
         "separation: 3 } scaling: NONE");
  expect("linear_regression { outputs: 3 }",
         "linear_regression { inputs: 10 outputs: 3 train_examples: 1000 test_examples: 1000 } "
         "scaling: NONE");
  EXPECT_EQ(data("linear_regression {} scaling: STANDARDIZE").scaling(), v1::Scaling::STANDARDIZE);
  EXPECT_EQ(data("gaussian_classes { separation: 0 }").gaussian_classes().separation(), 0);
}

}  // namespace
}  // namespace normlab::engine
