#include "engine/spec/validate.h"

#include <cmath>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include "common/random.h"
#include "engine/spec/limits.h"
#include "engine/spec/resolve.h"
#include "engine/spec/testing.h"

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::ParseSpec;
using ::testing::SizeIs;

constexpr char kMinimal[] = "model { mlp {} } data { fashion_mnist {} }";

std::vector<std::string> Fields(const v1::JobSpec& spec) {
  std::vector<std::string> fields;
  for (const Violation& violation : Validate(spec)) {
    fields.push_back(violation.field);
  }
  return fields;
}

auto Says(const std::string& field, const std::string& part) {
  return AllOf(Field(&Violation::field, field), Field(&Violation::description, HasSubstr(part)));
}

TEST(ValidateTest, MinimalSpecsAreValidBeforeAndAfterResolve) {
  for (const char* text : {kMinimal, "model { cnn {} } data { mnist {} }"}) {
    const v1::JobSpec spec = ParseSpec(text);
    EXPECT_THAT(Validate(spec), IsEmpty());
    EXPECT_THAT(Validate(Resolve(spec)), IsEmpty());
  }
}

TEST(ValidateTest, EmptySpecNeedsModelAndData) {
  EXPECT_THAT(Fields({}), ElementsAre("model", "data"));
  EXPECT_THAT(Fields(ParseSpec("model {} data { scaling: UNIT }")), ElementsAre("model", "data"));
}

TEST(ValidateTest, ReportsEveryViolationAtOnceWithItsPath) {
  const v1::JobSpec spec = ParseSpec(R"(
    model { mlp { hidden: [10, -3, 0, 65537] } }
    normalization { batch { epsilon: -1 running_update_rate: 0 } }
    data { fashion_mnist {} train_limit: -1 test_limit: -2 }
    initializer { scale: -1 }
    optimizer { sgd { learning_rate: nan momentum: 1 weight_decay: inf } }
    batch_size: 0
    steps: 0
    evaluation { every_steps: -1 every_epochs: -1 batch_size: 0 reestimate_batches: -1 }
    checkpoint { every_steps: -5 }
    threads: 0
    priority: 101
    max_retries: -1
    time_limit { seconds: 0 }
  )");
  EXPECT_THAT(
      Fields(spec),
      ElementsAre("model.mlp.hidden[1]", "model.mlp.hidden[2]", "model.mlp.hidden[3]",
                  "normalization.batch.epsilon", "normalization.batch.running_update_rate",
                  "data.train_limit", "data.test_limit", "initializer.scale",
                  "optimizer.sgd.learning_rate", "optimizer.sgd.momentum",
                  "optimizer.sgd.weight_decay", "batch_size", "steps", "evaluation.every_steps",
                  "evaluation.every_epochs", "evaluation.batch_size",
                  "evaluation.reestimate_batches", "checkpoint.every_steps", "threads", "priority",
                  "max_retries", "time_limit"));
}

TEST(ValidateTest, DescriptionsNameTheValueTheBoundsAndWhatToDo) {
  v1::JobSpec spec = ParseSpec(kMinimal);
  spec.mutable_model()->mutable_mlp()->add_hidden(-3);
  spec.mutable_optimizer()->mutable_sgd()->set_learning_rate(std::nan(""));
  EXPECT_THAT(
      Validate(spec),
      ElementsAre(Says("model.mlp.hidden[0]", "is -3, but must be from 1 to 65536; give"),
                  Says("optimizer.sgd.learning_rate", "is NaN, but must be a finite number")));
}

TEST(ValidateTest, WordsForSlurmCannotBeAnythingElse) {
  v1::JobSpec spec = ParseSpec(kMinimal);
  v1::Slurm& slurm = *spec.mutable_slurm();
  slurm.set_partition("gpu-a,cpu_2");
  slurm.set_account("ml.group/7");
  slurm.set_constraint("[(intel|amd)*2&avx512]");
  slurm.set_qos("normal");
  slurm.mutable_time_limit()->set_seconds(60);
  EXPECT_THAT(Fields(spec), ElementsAre());
  slurm.set_partition("work --uid=0");
  slurm.set_account("a;b");
  slurm.set_constraint("$(id)");
  slurm.set_qos(std::string(201, 'q'));
  slurm.mutable_time_limit()->set_seconds(59);
  EXPECT_THAT(Fields(spec), ElementsAre("slurm.partition", "slurm.account", "slurm.constraint",
                                        "slurm.qos", "slurm.time_limit"));
}

TEST(ValidateTest, CnnBlocksAreChecked) {
  const v1::JobSpec spec = ParseSpec(R"(
    model { cnn {
      blocks { kernel: 33 padding: 1 }
      blocks { channels: 8 kernel: 3 stride: 0 padding: 3 pooling { window: 0 stride: -1 } }
      blocks { channels: 4097 kernel: 5 padding: 4 }
      hidden: 0
    } }
    data { mnist {} })");
  EXPECT_THAT(
      Fields(spec),
      ElementsAre("model.cnn.blocks[0].channels", "model.cnn.blocks[0].kernel",
                  "model.cnn.blocks[1].stride", "model.cnn.blocks[1].padding",
                  "model.cnn.blocks[1].pooling.window", "model.cnn.blocks[1].pooling.stride",
                  "model.cnn.blocks[2].channels", "model.cnn.hidden[0]"));
}

TEST(ValidateTest, UnknownEnumNumbersListTheNames) {
  v1::JobSpec spec =
      ParseSpec("model { cnn { blocks { channels: 3 pooling {} } } } data { mnist {} }");
  spec.mutable_model()->mutable_cnn()->set_activation(static_cast<v1::Activation::Kind>(77));
  spec.mutable_model()->mutable_cnn()->mutable_blocks(0)->mutable_pooling()->set_kind(
      static_cast<v1::Pooling::Kind>(-1));
  spec.mutable_data()->set_scaling(static_cast<v1::Scaling::Kind>(5));
  spec.mutable_data()->set_last_batch(static_cast<v1::LastBatch::Kind>(9));
  spec.set_precision(static_cast<v1::Precision::Kind>(12));
  spec.set_convolution_algorithm(static_cast<v1::ConvolutionAlgorithm::Kind>(13));
  EXPECT_THAT(
      Validate(spec),
      ElementsAre(Says("model.cnn.blocks[0].pooling.kind", "use one of MAX, AVERAGE"),
                  Says("model.cnn.activation", "77; use one of RELU, SIGMOID, TANH"),
                  Says("data.scaling", "STANDARDIZE, UNIT"), Says("data.last_batch", "DROP, KEEP"),
                  Says("precision", "F32"), Says("convolution_algorithm", "AUTO, DIRECT")));
}

TEST(ValidateTest, EvaluationBySteps_AndByEpochsContradict) {
  EXPECT_THAT(
      Validate(ParseSpec(std::string(kMinimal) + "evaluation { every_steps: 10 every_epochs: 2 }")),
      ElementsAre(Says("evaluation.every_epochs", "keep one of the two")));
  EXPECT_THAT(
      Validate(ParseSpec(std::string(kMinimal) + "evaluation { every_steps: 10 every_epochs: 0 }")),
      IsEmpty());
}

TEST(ValidateTest, ZeroIsAllowedWhereItMeansSomething) {
  EXPECT_THAT(Validate(ParseSpec(std::string(kMinimal) +
                                 "optimizer { sgd { learning_rate: 0 } } initializer { scale: 0 }"
                                 "normalization { batch { epsilon: 0 running_update_rate: 1 } }"
                                 "seed: 4294967295 priority: -100")),
              IsEmpty());
  EXPECT_THAT(Validate(ParseSpec("model { mlp { depth: 0 } } data { mnist {} }")), IsEmpty());
}

TEST(ValidateTest, TextsAndLabels) {
  v1::JobSpec spec = ParseSpec(kMinimal);
  std::string accents;
  for (int i = 0; i < kMaxTextCharacters; ++i) {
    accents += "\xC3\xA9";  // e with acute accent: two bytes, one character
  }
  spec.set_display_name(accents);
  (*spec.mutable_labels())["a"] = "";
  (*spec.mutable_labels())["study-1_b"] = "x";
  EXPECT_THAT(Validate(spec), IsEmpty());

  spec.set_display_name(accents + "x");
  (*spec.mutable_labels())["Upper"] = "x";
  (*spec.mutable_labels())[std::string(64, 'k')] = "x";
  (*spec.mutable_labels())["esc"] = "\x1b[31m";
  EXPECT_THAT(
      Validate(spec),
      ElementsAre(Says("display_name", "201 characters"), Says("labels[\"Upper\"]", "lower-case"),
                  Says("labels[\"esc\"]", "\\x1b[31m"),
                  Says("labels[\"" + std::string(64, 'k') + "\"]", "lower-case")));
  spec = ParseSpec(kMinimal);
  for (int i = 0; i <= kMaxLabels; ++i) {
    (*spec.mutable_labels())["k" + std::to_string(i)] = "v";
  }
  EXPECT_THAT(Validate(spec), ElementsAre(Says("labels", "33 entries")));
}

TEST(ValidateTest, PathsWithZeroBytesOrAbsurdLengthAreRefused) {
  v1::JobSpec spec = ParseSpec(kMinimal);
  spec.mutable_data()->mutable_fashion_mnist()->set_path(std::string("a\0z", 3));
  EXPECT_THAT(Validate(spec), ElementsAre(Says("data.fashion_mnist.path", "a\\x00z")));
  spec.mutable_data()->mutable_mnist()->set_path(std::string(5000, 'p'));
  EXPECT_THAT(Validate(spec), ElementsAre(Says("data.mnist.path", "5000 bytes")));
}

TEST(ValidateTest, TimeLimits) {
  EXPECT_THAT(Validate(ParseSpec(std::string(kMinimal) + "time_limit { nanos: 1 }")), IsEmpty());
  for (const char* bad : {"seconds: -1", "nanos: -1", "seconds: 1 nanos: 1000000000",
                          "seconds: 9223372036854775807"}) {
    EXPECT_THAT(
        Fields(ParseSpec(std::string(kMinimal) + "time_limit { " + std::string(bad) + " }")),
        ElementsAre("time_limit"))
        << bad;
  }
}

TEST(ValidateTest, TimesBetweenCheckpoints) {
  for (const char* good : {"", "seconds: 1", "seconds: 1 nanos: 1", "seconds: 604800"}) {
    EXPECT_THAT(Validate(ParseSpec(std::string(kMinimal) + "checkpoint { every_time { " +
                                   std::string(good) + " } }")),
                IsEmpty())
        << good;
  }
  for (const char* bad :
       {"nanos: 999999999", "seconds: -1", "seconds: 5 nanos: -1", "seconds: 5 nanos: 1000000000",
        "seconds: 604800 nanos: 1", "seconds: 9223372036854775807"}) {
    EXPECT_THAT(Fields(ParseSpec(std::string(kMinimal) + "checkpoint { every_time { " +
                                 std::string(bad) + " } }")),
                ElementsAre("checkpoint.every_time"))
        << bad;
  }
}

TEST(ValidateTest, ManyViolationsAreCutWithTheirNumber) {
  v1::JobSpec spec = ParseSpec(kMinimal);
  for (int i = 0; i < 2000; ++i) {
    spec.mutable_model()->mutable_mlp()->add_hidden(0);
  }
  const auto violations = Validate(spec);
  ASSERT_THAT(violations, SizeIs(kMaxViolations + 1));
  EXPECT_EQ(violations[0].field, "model.mlp.hidden");
  EXPECT_THAT(violations.back().description, HasSubstr("901 more"));
}

TEST(ValidateTest, FieldsOfANewerContractAreNotIgnored) {
  v1::JobSpec spec = ParseSpec(kMinimal);
  v1::Normalizer& normalization = *spec.mutable_normalization();
  normalization.GetReflection()
      ->MutableUnknownFields(&normalization)
      ->AddLengthDelimited(77)
      ->assign("x");
  v1::Cnn& cnn = *spec.mutable_model()->mutable_cnn();
  cnn.add_blocks()->set_channels(1);
  v1::Pooling& pooling = *cnn.mutable_blocks(0)->mutable_pooling();
  pooling.GetReflection()->MutableUnknownFields(&pooling)->AddVarint(9, 1);
  EXPECT_THAT(Validate(spec), ElementsAre(Says("model.cnn.blocks[0].pooling", "numbers 9"),
                                          Says("normalization", "numbers 77")));
}

// Random bytes that parse as a spec: nothing may crash, and Resolve stays small.
TEST(ValidateTest, IsTotalOnRandomMessages) {
  const common::RandomStream random(20, "fuzz");
  const char* const specs[] = {
      "model { cnn {} } normalization { batch {} } data { mnist {} }",
      "model { resnet {} } normalization { ghost_batch {} } data { mnist {} }"
      "normalization_overrides { layers: \"conv1\" normalization { group {} } }",
      "model { custom { layers { linear { outputs: 3 } } layers { normalizer {} }"
      "layers { inputs: [\"fc1\", \"input\"] add {} } } } data { mnist {} }"};
  const google::protobuf::LogSilencer silencer;  // invalid UTF-8 is reported to stderr
  int parsed = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes;
    ASSERT_TRUE(Resolve(ParseSpec(specs[i % 3])).SerializeToString(&bytes));
    for (int k = 0; k < 3; ++k) {
      bytes[random.Below(bytes.size(), i, 2 * k)] =
          static_cast<char>(random.Below(256, i, 2 * k + 1));
    }
    v1::JobSpec spec;
    if (spec.ParseFromString(bytes)) {
      ++parsed;
      const v1::JobSpec resolved = Resolve(spec);
      if (Validate(spec).empty()) {
        EXPECT_THAT(Validate(resolved), IsEmpty()) << resolved.DebugString();
      }
    }
  }
  EXPECT_GT(parsed, 1000);
}

std::string WithData(const std::string& data) {
  return "model { mlp {} } data { " + data + " }";
}

TEST(ValidateTest, EveryDataSourceIsValidByDefaultBeforeAndAfterResolve) {
  for (const char* data :
       {"cifar10 {}", "cifar100 { path: 'c' }", "arrays { path: 'a.npz' }",
        "arrays { x_train: 'a' y_train: 'b' x_test: 'c' y_test: 'd' }", "gaussian_classes {}",
        "gaussian_classes { dims: 3 dims: 32 dims: 32 seed: 4 }", "linear_regression {}",
        "mnist {} augmentation { pad_and_crop: 4 flip: true cutout: 16 }"}) {
    const v1::JobSpec spec = ParseSpec(WithData(data));
    EXPECT_THAT(Validate(spec), IsEmpty()) << data;
    EXPECT_THAT(Validate(Resolve(spec)), IsEmpty()) << data;
  }
}

TEST(ValidateTest, ArraysAreOneFileOrFour) {
  EXPECT_THAT(Validate(ParseSpec(WithData("arrays {}"))),
              ElementsAre(Says("data.arrays", "names no file")));
  EXPECT_THAT(Validate(ParseSpec(WithData("arrays { path: 'a.npz' x_train: 'x.npy' }"))),
              ElementsAre(Says("data.arrays.path", "x_train is given as well")));
  EXPECT_THAT(Validate(ParseSpec(WithData("arrays { x_train: 'x' x_test: 'xt' }"))),
              ElementsAre(Says("data.arrays.y_train", "is missing"),
                          Says("data.arrays.y_test", "is missing")));
  v1::JobSpec spec =
      ParseSpec(WithData("arrays { x_train: 'a' y_train: 'b' x_test: 'c' y_test: 'd' }"));
  spec.mutable_data()->mutable_arrays()->set_y_test(std::string("d\0", 2));
  EXPECT_THAT(Validate(spec), ElementsAre(Says("data.arrays.y_test", "control characters")));
  EXPECT_THAT(Validate(ParseSpec(WithData("cifar10 { path: '" + std::string(4097, 'x') + "' }"))),
              ElementsAre(Says("data.cifar10.path", "4097 bytes")));
}

TEST(ValidateTest, SyntheticSetsHaveBounds) {
  EXPECT_THAT(Fields(ParseSpec(WithData("gaussian_classes { classes: 1 dims: 0 train_examples: 0 "
                                        "test_examples: -1 separation: -1 }"))),
              ElementsAre("data.gaussian_classes.classes", "data.gaussian_classes.separation",
                          "data.gaussian_classes.dims[0]", "data.gaussian_classes.train_examples",
                          "data.gaussian_classes.test_examples"));
  EXPECT_THAT(Validate(ParseSpec(WithData("gaussian_classes { dims: 3 dims: 4 }"))),
              ElementsAre(Says("data.gaussian_classes.dims", "has 2 sizes")));
  EXPECT_THAT(Validate(ParseSpec(WithData("gaussian_classes { dims: 4096 dims: 4097 dims: 1 }"))),
              ElementsAre(Says("data.gaussian_classes.dims[1]", "is 4097")));
  EXPECT_THAT(Validate(ParseSpec(WithData("gaussian_classes { train_examples: 1000000000 }"))),
              ElementsAre(Says("data.gaussian_classes", "fewer or smaller examples")));
  EXPECT_THAT(Validate(ParseSpec(
                  WithData("gaussian_classes { classes: 65536 dims: 65536 train_examples: 1 }"))),
              Contains(Says("data.gaussian_classes", "class means")));
  EXPECT_THAT(
      Fields(ParseSpec(WithData("linear_regression { inputs: 0 outputs: 65537 noise: nan }"))),
      ElementsAre("data.linear_regression.inputs", "data.linear_regression.outputs",
                  "data.linear_regression.noise"));
  EXPECT_THAT(Validate(ParseSpec(WithData("linear_regression { inputs: 10000 outputs: 10000 }"))),
              Contains(Says("data.linear_regression", "multiplications")));
}

TEST(ValidateTest, AugmentationHasNoNegativeSizes) {
  EXPECT_THAT(Fields(ParseSpec(WithData("mnist {} augmentation { pad_and_crop: -1 cutout: -16 }"))),
              ElementsAre("data.augmentation.pad_and_crop", "data.augmentation.cutout"));
}

}  // namespace
}  // namespace normlab::engine
