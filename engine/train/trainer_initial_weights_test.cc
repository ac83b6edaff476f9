// Runs that begin with the weights of a file.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/train/failure.h"
#include "engine/train/model_tensors.h"
#include "engine/train/trainer.h"
#include "engine/train/trainer_test_support.h"

#include <nlohmann/json.hpp>

namespace normlab::engine {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

constexpr char kNet[] =
    "model { mlp { hidden: [13, 7] } } normalization { batch {} } batch_size: 30 "
    "optimizer { adam {} } ";

class InitialWeightsRunTest : public TrainerTest {
 protected:
  void SetUp() override {
    // Another seed's run of the same net.
    source_ = NewAttempt();
    RecordingSink sink;
    ASSERT_EQ(Run(std::string(kNet) + "seed: 77 steps: 12", sink, source_).state(),
              v1::Job::SUCCEEDED);
  }

  absl::StatusOr<std::unique_ptr<Trainer>> PlanRun(const std::string& text,
                                                   const std::string& attempt,
                                                   const std::string& resume = "") const {
    return Trainer::Plan(
        Spec(text), *data_,
        {.attempt_folder = attempt, .resume_folder = resume, .data_roots = {source_}});
  }

  std::string source_;
};

constexpr char kWeights[] = "initial_weights { path: 'final/model.safetensors' } ";

TEST_F(InitialWeightsRunTest, BeginsWithTheFilesWeightsAndSaysSo) {
  const std::string attempt = NewAttempt();
  auto trainer = PlanRun(std::string(kNet) + kWeights + "steps: 3", attempt);
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  ModelState expected((*trainer)->graph());
  const std::string bytes = *common::ReadFile(source_ + "/final/model.safetensors");
  ASSERT_TRUE(DecodeSafetensors(bytes, "final", ModelTensors((*trainer)->graph(), expected)).ok());
  EXPECT_EQ((*trainer)->model().parameters.span(), expected.parameters.span());
  EXPECT_EQ((*trainer)->model().state.span(), expected.state.span());
  RecordingSink sink;
  EXPECT_EQ((*trainer)->Run(sink, {}).state(), v1::Job::SUCCEEDED);
  EXPECT_THAT(sink.logs_, Contains(AllOf(HasSubstr("begins with 12 tensors"),
                                         HasSubstr(common::Sha256Hex(bytes)))));
  const auto manifest = nlohmann::json::parse(*common::ReadFile(attempt + "/final/manifest.json"));
  EXPECT_EQ(manifest["initial_weights_sha256"], common::Sha256Hex(bytes));
}

TEST_F(InitialWeightsRunTest, WhatIsIgnoredIsInitializedAsWithoutAFile) {
  auto plain = PlanRun(kNet, NewAttempt());
  auto trainer = PlanRun(
      std::string(kNet) + "initial_weights { path: 'final/model.safetensors' ignore: 'head.*' }",
      NewAttempt());
  ASSERT_TRUE(plain.ok());
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  for (const ParameterSpec& spec : (*trainer)->graph().parameters()) {
    const auto values = [&](const Trainer& each) {
      return each.model().parameters.span().subspan(static_cast<size_t>(spec.offset),
                                                    static_cast<size_t>(spec.count));
    };
    EXPECT_EQ(values(**trainer) == values(**plain), spec.name.rfind("head.", 0) == 0) << spec.name;
  }
}

TEST_F(InitialWeightsRunTest, ANetOfOtherShapesFailsNamingThem) {
  const auto trainer =
      PlanRun("model { mlp { hidden: [13, 8] } } normalization { batch {} } batch_size: 30 " +
                  std::string(kWeights),
              NewAttempt());
  ASSERT_FALSE(trainer.ok());
  const v1::Failure failure = ToFailure(trainer.status());
  EXPECT_EQ(failure.reason(), v1::FailureReason::CHECKPOINT_ERROR);
  EXPECT_THAT(failure.message(), AllOf(HasSubstr("\"fc2.weight\" of 7x13"), HasSubstr("8x13"),
                                       HasSubstr("\"head.weight\" of 10x7")));
}

TEST_F(InitialWeightsRunTest, AResumedRunNeedsTheFileNoMoreAndEndsTheSame) {
  const std::string spec = std::string(kNet) + kWeights + "steps: 20 checkpoint { every_steps: 7 }";
  auto whole = PlanRun(spec, NewAttempt());
  ASSERT_TRUE(whole.ok()) << whole.status();
  RecordingSink whole_sink;
  const v1::Outcome expected = (*whole)->Run(whole_sink, {});
  auto interrupted = PlanRun(spec, NewAttempt());
  ASSERT_TRUE(interrupted.ok());
  RecordingSink sink;
  sink.stop_after_ = 9;
  (*interrupted)->Run(sink, sink.stop_.get_token());
  ASSERT_EQ(sink.checkpoints_.size(), 1U);

  fs::remove(source_ + "/final/model.safetensors");
  EXPECT_FALSE(PlanRun(spec, NewAttempt()).ok());
  const std::string attempt = NewAttempt();
  auto resumed = PlanRun(spec, attempt, sink.checkpoints_[0].folder);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  RecordingSink rest;
  EXPECT_EQ((*resumed)->Run(rest, {}).result().weights_sha256(),
            expected.result().weights_sha256());
  EXPECT_EQ(rest.MetricBits(), whole_sink.MetricBits(7));
  // What the run began with stays on record.
  const auto manifest = nlohmann::json::parse(*common::ReadFile(attempt + "/final/manifest.json"));
  EXPECT_EQ(manifest["initial_weights_sha256"].get<std::string>().size(), 64U);
}

constexpr char kWeightNormNet[] =
    "model { mlp { hidden: [13, 7] } } normalization { weight {} } batch_size: 30 "
    "optimizer { sgd { learning_rate: 0 } } steps: 1 ";

// Runs of weight norm whose file lacks, or is not asked for, some tensors.
class WeightNormFromFileTest : public InitialWeightsRunTest {
 protected:
  void SetUp() override {
    source_ = NewAttempt();
    RecordingSink sink;
    ASSERT_EQ(Run(std::string(kWeightNormNet) + "seed: 77", sink, source_).state(),
              v1::Job::SUCCEEDED);
  }

  // After the first batch, whose update changes nothing.
  std::vector<float> After(const std::string& ignore, const std::string& tensor) const {
    auto trainer = PlanRun(absl::StrCat(kWeightNormNet, "initial_weights { path: ",
                                        "'final/model.safetensors' ", ignore, " }"),
                           NewAttempt());
    EXPECT_TRUE(trainer.ok()) << trainer.status();
    RecordingSink sink;
    EXPECT_EQ((*trainer)->Run(sink, {}).state(), v1::Job::SUCCEEDED);
    return Values(**trainer, tensor);
  }
  static std::vector<float> Values(const Trainer& trainer, const std::string& tensor) {
    for (const ParameterSpec& spec : trainer.graph().parameters()) {
      if (spec.name == tensor) {
        const float* first = trainer.model().parameters.data() + spec.offset;
        return {first, first + spec.count};
      }
    }
    ADD_FAILURE() << "no " << tensor;
    return {};
  }
};

TEST_F(WeightNormFromFileTest, ALayerOfWhichTheFileGivesNothingIsInitializedFromTheData) {
  const std::vector<float> given = After("", "fc2.weight_g");
  const std::vector<float> from_data = After("ignore: 'fc2.*'", "fc2.weight_g");
  EXPECT_NE(given, from_data);
  EXPECT_NE(from_data, std::vector<float>(7, 1.0F));
  // Layers that are given stay as they are.
  EXPECT_EQ(After("", "fc1.weight_g"), After("ignore: 'fc2.*'", "fc1.weight_g"));
}

TEST_F(WeightNormFromFileTest, AGainThatIsNotGivenBesideAGivenVStartsAtItsNorm) {
  const std::vector<float> v = After("ignore: 'fc2.weight_g'", "fc2.weight_v");
  const std::vector<float> g = After("ignore: 'fc2.weight_g'", "fc2.weight_g");
  EXPECT_EQ(v, After("", "fc2.weight_v"));
  ASSERT_EQ(g.size(), 7U);
  for (size_t unit = 0; unit < g.size(); ++unit) {
    double square = 0;
    for (size_t i = 0; i < 13; ++i) {
      square += static_cast<double>(v[13 * unit + i]) * v[13 * unit + i];
    }
    constexpr double kOneRounding = 1e-6;
    EXPECT_NEAR(g[unit], std::sqrt(square), kOneRounding);
  }
}

}  // namespace
}  // namespace normlab::engine
