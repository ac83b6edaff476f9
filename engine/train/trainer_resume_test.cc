// Reproducibility: equal runs, resumed runs, checkpoints and final weights.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/random.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/dnnl/runtime.h"
#include "engine/train/failure.h"
#include "engine/train/model_tensors.h"
#include "engine/train/trainer.h"
#include "engine/train/trainer_test_support.h"

#include <nlohmann/json.hpp>

namespace normlab::engine {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

TEST_F(TrainerTest, EqualRunsAreEqualBitForBitAndSeedsDiffer) {
  for (const char* text : {kBatchNormMlp, kPlainCnn, kBatchNormCnn}) {
    for (const char* threads : {"threads: 1 ", "threads: 2 "}) {
      SCOPED_TRACE(std::string(text) + threads);
      const std::string spec = std::string(text) + threads + "steps: 30 ";
      RecordingSink first;
      RecordingSink second;
      const v1::Outcome a = Run(spec, first);
      const v1::Outcome b = Run(spec, second);
      ASSERT_EQ(a.state(), v1::Job::SUCCEEDED);
      EXPECT_EQ(first.MetricBits(), second.MetricBits());
      EXPECT_EQ(a.result().weights_sha256(), b.result().weights_sha256());
      RecordingSink other;
      EXPECT_NE(Run(spec + "seed: 12", other).result().weights_sha256(),
                a.result().weights_sha256());
    }
  }
}

TEST_F(TrainerTest, AResumedRunEqualsTheUninterruptedOneBitForBit) {
  for (const char* text : {kBatchNormMlp, kPlainCnn, kBatchNormCnn}) {
    const std::string base =
        std::string(text) + "steps: 40 evaluation { every_steps: 6 batch_size: 9 } ";
    RecordingSink whole;
    const v1::Outcome expected = Run(base, whole);
    ASSERT_EQ(expected.state(), v1::Job::SUCCEEDED);
    // Checkpoints inside epochs, at their borders (11, 13 or 14 steps) and at evaluations.
    for (const int interval : {1, 6, 11, 13, 14, 39}) {
      SCOPED_TRACE(base + "interval " + std::to_string(interval));
      const std::string spec =
          base + "checkpoint { every_steps: " + std::to_string(interval) + " }";
      const std::string attempt = NewAttempt();
      RecordingSink interrupted;
      interrupted.stop_after_ = std::max(interval, 17);
      EXPECT_EQ(Run(spec, interrupted, attempt).state(), v1::Job::CANCELLED);
      ASSERT_FALSE(interrupted.checkpoints_.empty());
      const CheckpointRecord& checkpoint = interrupted.checkpoints_.back();

      auto trainer = Trainer::Plan(
          Spec(spec), *data_, {.attempt_folder = NewAttempt(), .resume_folder = checkpoint.folder});
      ASSERT_TRUE(trainer.ok()) << trainer.status();
      EXPECT_EQ((*trainer)->plan().start_step(), checkpoint.step);
      RecordingSink rest;
      const v1::Outcome outcome = (*trainer)->Run(rest, {});
      EXPECT_EQ(rest.MetricBits(), whole.MetricBits(checkpoint.step));
      EXPECT_EQ(outcome.result().weights_sha256(), expected.result().weights_sha256());
      EXPECT_EQ(outcome.result().steps(), 40);
    }
  }
}

std::vector<int64_t> StepsOf(const std::vector<CheckpointRecord>& checkpoints) {
  std::vector<int64_t> steps;
  for (const CheckpointRecord& checkpoint : checkpoints) {
    steps.push_back(checkpoint.step);
  }
  return steps;
}

TEST_F(TrainerTest, APausedRunLeavesACheckpointOfThatVeryStep) {
  const std::string spec = std::string(kBatchNormCnn) +
                           "steps: 23 evaluation { every_steps: 7 batch_size: 9 } "
                           "checkpoint { every_time {} }";
  RecordingSink whole;
  const v1::Outcome expected = Run(spec, whole);
  ASSERT_EQ(expected.state(), v1::Job::SUCCEEDED);
  std::stop_source checkpoint;
  checkpoint.request_stop();
  // After the first step, before an evaluation, after one, and within the last one.
  for (const int64_t stop_after : {0, 6, 7, 15, 22}) {
    SCOPED_TRACE(stop_after);
    auto first = Trainer::Plan(Spec(spec), *data_, {.attempt_folder = NewAttempt()});
    ASSERT_TRUE(first.ok()) << first.status();
    RecordingSink begun;
    begun.stop_after_ = stop_after;
    const v1::Outcome paused =
        (*first)->Run(begun, begun.stop_.get_token(), checkpoint.get_token());
    EXPECT_EQ(paused.state(), v1::Job::PAUSED);
    EXPECT_FALSE(paused.has_result());
    ASSERT_THAT(StepsOf(begun.checkpoints_), ElementsAre(stop_after + 1));

    auto second = Trainer::Plan(
        Spec(spec), *data_,
        {.attempt_folder = NewAttempt(), .resume_folder = begun.checkpoints_[0].folder});
    ASSERT_TRUE(second.ok()) << second.status();
    RecordingSink rest;
    const v1::Outcome outcome = (*second)->Run(rest, {});
    EXPECT_EQ(outcome.state(), v1::Job::SUCCEEDED);
    EXPECT_EQ(rest.MetricBits(), whole.MetricBits(stop_after + 1));
    EXPECT_EQ(outcome.result().weights_sha256(), expected.result().weights_sha256());
  }
}

TEST_F(TrainerTest, APauseWithoutAStepSinceTheLastCheckpointWritesNone) {
  const std::string spec =
      std::string(kBatchNormMlp) +
      "steps: 20 checkpoint { every_steps: 6 } evaluation { every_steps: 6 batch_size: 9 }";
  std::stop_source both;
  both.request_stop();
  RecordingSink at_start;
  auto trainer = Trainer::Plan(Spec(spec), *data_, {.attempt_folder = NewAttempt()});
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  EXPECT_EQ((*trainer)->Run(at_start, both.get_token(), both.get_token()).state(), v1::Job::PAUSED);
  EXPECT_TRUE(at_start.checkpoints_.empty());

  // The checkpoint of step 6 is just there when the evaluation of step 6 is stopped.
  RecordingSink in_evaluation;
  in_evaluation.stop_at_checkpoint_ = 6;
  trainer = Trainer::Plan(Spec(spec), *data_, {.attempt_folder = NewAttempt()});
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  EXPECT_EQ(
      (*trainer)->Run(in_evaluation, in_evaluation.stop_.get_token(), both.get_token()).state(),
      v1::Job::PAUSED);
  EXPECT_THAT(StepsOf(in_evaluation.checkpoints_), ElementsAre(6));
  EXPECT_EQ(in_evaluation.Steps("train/loss").back(), 5);
}

TEST_F(TrainerTest, CheckpointsComeByTimeToo) {
  const auto run = [this](const std::string& policy, absl::Duration step_takes) {
    common::FakeClock clock;
    RecordingSink sink;
    sink.clock_ = &clock;
    sink.step_takes_ = step_takes;
    auto trainer = Trainer::Plan(Spec(std::string(kBatchNormMlp) + "steps: 25 " + policy), *data_,
                                 {.attempt_folder = NewAttempt(), .clock = &clock});
    EXPECT_TRUE(trainer.ok()) << trainer.status();
    EXPECT_EQ((*trainer)->Run(sink, {}).state(), v1::Job::SUCCEEDED);
    return StepsOf(sink.checkpoints_);
  };
  EXPECT_THAT(run("checkpoint { every_time { seconds: 9 } }", absl::Seconds(1)),
              ElementsAre(9, 18));
  // The default is five minutes.
  EXPECT_THAT(run("", absl::Seconds(40)), ElementsAre(8, 16, 24));
  EXPECT_THAT(run("checkpoint { every_time {} }", absl::Hours(1)), ElementsAre());
  // One by steps starts the time anew.
  EXPECT_THAT(run("checkpoint { every_steps: 10 every_time { seconds: 7 nanos: 500000000 } }",
                  absl::Seconds(1)),
              ElementsAre(8, 10, 18, 20));
}

// What a resumed run must repeat: extend it by every kind of layer, optimizer, schedule and
// augmentation. Small enough that a run takes some tens of milliseconds.
struct ResumeCase {
  const char* name;
  const char* network;   // model, normalization, data, batch_size
  const char* training;  // optimizer, schedule, initializer
};

constexpr char kTinyMlp[] =
    "model { mlp { hidden: [13, 7] } } normalization { batch {} } batch_size: 31 ";
constexpr char kTinyCnn[] =
    "model { cnn { blocks { channels: 3 stride: 3 pooling {} } } } batch_size: 23 "
    "normalization { batch {} } data { last_batch: KEEP } ";

constexpr char kTinyImages[] =
    "model { cnn { blocks { channels: 6 stride: 3 pooling {} } blocks { channels: 4 } } } "
    "batch_size: 12 data { augmentation { pad_and_crop: 3 flip: true cutout: 5 } } ";
constexpr char kTinyResNet[] =
    "model { resnet { depth: 20 width_multiplier: 0.125 } } batch_size: 4 ";

constexpr ResumeCase kResumeCases[] = {
    {"noisy batch norm", kTinyImages, "normalization { noisy_batch {} }"},
    {"layer norm", kTinyImages, "normalization { layer {} }"},
    {"weight norm from data", kTinyImages,
     "normalization { weight { mean_only_batch_norm: true } } optimizer { adam {} }"},
    {"weight standardization", kTinyImages, "normalization { weight_standardization {} }"},
    {"batch renorm", kTinyImages, "normalization { batch_renorm {} }"},
    {"ghost batch norm", kTinyImages, "normalization { ghost_batch { ghost_size: 4 } }"},
    {"l_1 batch norm", kTinyImages, "normalization { l1_batch {} }"},
    {"l_inf batch norm", kTinyImages, "normalization { linf_batch {} }"},
    {"filter response", kTinyImages, "normalization { filter_response {} }"},
    {"dyt", kTinyImages, "normalization { dyt {} } optimizer { adamw {} }"},
    {"a normalizer for some layers, after the activation", kTinyImages,
     "normalization { batch { } placement: AFTER_ACTIVATION } "
     "normalization_overrides { layers: 'conv2' normalization { rms {} } }"},
    {"skip init", kTinyResNet, "normalization { skip_init {} }"},
    {"fixup", kTinyResNet, "normalization { fixup {} }"},
    {"residual batch norm in bf16", kTinyResNet, "normalization { batch {} } precision: BF16"},
    {"sgd", kTinyMlp, ""},
    {"momentum, step by epochs", kTinyMlp,
     "optimizer { sgd { momentum: 0.9 weight_decay: 1e-3 } decay_weights_only: true } "
     "schedule { step { milestone_epochs: [1, 2] } }"},
    {"nesterov, cosine with warm-up", kTinyCnn,
     "optimizer { sgd { momentum: 0.9 nesterov: true } clipping { global_norm: 1 } } "
     "schedule { cosine { final_factor: 0.1 } warmup_steps: 9 }"},
    {"adam, one cycle", kTinyMlp,
     "optimizer { adam { learning_rate: 0.01 weight_decay: 1e-3 } } schedule { one_cycle {} }"},
    {"adam, constant", kTinyCnn, "optimizer { adam {} clipping { value: 0.01 } }"},
    {"adamw, cosine", kTinyCnn,
     "optimizer { adamw { learning_rate: 0.01 weight_decay: 0.1 } decay_weights_only: true } "
     "schedule { cosine {} } initializer { orthogonal {} }"},
    {"rmsprop, step", kTinyMlp,
     "optimizer { rmsprop {} } schedule { step { milestone_steps: [5, 17, 25] factor: 0.5 } }"},
    {"rmsprop with everything, warm-up", kTinyCnn,
     "optimizer { rmsprop { momentum: 0.5 centered: true weight_decay: 1e-3 } } "
     "schedule { warmup_steps: 20 } initializer { lecun_normal {} }"},
};

// Interrupted at random steps, each run goes on from its checkpoint and must repeat every point and
// end with the same weights: 3 points of interruption for each case, 66 altogether.
TEST_F(TrainerTest, RunsInterruptedAtRandomPointsEndAsIfTheyHadNotBeen) {
  constexpr int kSteps = 34;
  constexpr int kPointsPerCase = 3;
  int points = 0;
  for (size_t c = 0; c < std::size(kResumeCases); ++c) {
    const ResumeCase& test = kResumeCases[c];
    const common::RandomStream random(20, test.name);
    const std::string base =
        std::string(test.network) + test.training + " threads: " + (c % 2 == 0 ? "1" : "2") +
        " steps: " + std::to_string(kSteps) + " evaluation { every_steps: 9 batch_size: 20 } ";
    RecordingSink whole;
    const v1::Outcome expected = Run(base, whole);
    ASSERT_EQ(expected.state(), v1::Job::SUCCEEDED) << test.name << expected.ShortDebugString();
    for (int point = 0; point < kPointsPerCase; ++point, ++points) {
      // One checkpoint, at any step but the first and the last, and an interruption before the next
      // would be due. Writing them takes most of the time, so the rest of the run has none.
      const auto at = static_cast<int64_t>(1 + random.Below(kSteps - 2, point, 0));
      const int64_t next = std::min<int64_t>(2 * at, kSteps);
      const auto stop = at + static_cast<int64_t>(random.Below(next - at, point, 1));
      SCOPED_TRACE(std::string(test.name) + ", checkpoint at " + std::to_string(at) +
                   ", interrupted after step " + std::to_string(stop));
      const std::string spec = base + "checkpoint { every_steps: " + std::to_string(at) + " }";
      RecordingSink interrupted;
      interrupted.stop_after_ = stop;
      const v1::Outcome first = Run(spec, interrupted);
      ASSERT_EQ(first.state(), v1::Job::CANCELLED);
      ASSERT_EQ(interrupted.checkpoints_.size(), 1U);
      const CheckpointRecord& checkpoint = interrupted.checkpoints_.back();
      ASSERT_EQ(checkpoint.step, at);
      RecordingSink rest;
      const v1::Outcome second = Run(base, rest, NewAttempt(), checkpoint.folder);
      ASSERT_EQ(second.state(), v1::Job::SUCCEEDED);
      EXPECT_EQ(rest.Steps("train/loss").front(), at);
      EXPECT_EQ(rest.MetricBits(), whole.MetricBits(at));
      EXPECT_EQ(second.result().weights_sha256(), expected.result().weights_sha256());
      fs::remove_all(fs::path(checkpoint.folder).parent_path());
    }
  }
  EXPECT_GE(points, 50);
}

// What was measured goes with the checkpoint; a resumed run does not measure again.
TEST_F(TrainerTest, AResumedRunTakesTheMeasuredKernelsOfItsCheckpoint) {
  const std::string spec =
      "model { cnn { blocks { channels: 16 pooling { window: 4 } } blocks { channels: 16 } } } "
      "batch_size: 30 steps: 4 convolution_algorithm: MEASURE checkpoint { every_steps: 2 }";
  RecordingSink sink;
  ASSERT_EQ(Run(spec, sink).state(), v1::Job::SUCCEEDED);
  ASSERT_EQ(sink.checkpoints_.size(), 1U);
  const std::string manifest = sink.checkpoints_[0].folder + "/manifest.json";
  for (const std::string algorithm : {"direct_f32", "winograd_f32"}) {
    auto edited = nlohmann::json::parse(*common::ReadFile(manifest));
    ASSERT_TRUE(edited.contains("measured_choices"));
    for (auto& [key, choice] : edited["measured_choices"].items()) {
      if (absl::StrContains(key, "conv2")) {
        choice = algorithm;
      }
    }
    std::ofstream(manifest) << edited.dump();
    auto resumed = Trainer::Plan(
        Spec(spec), *data_,
        {.attempt_folder = NewAttempt(), .resume_folder = sink.checkpoints_[0].folder});
    ASSERT_TRUE(resumed.ok()) << resumed.status();
    for (const ImplementationChoice& choice : (*resumed)->implementations()) {
      if (choice.layer == "conv2" && (choice.pass == "forward" || choice.pass == "backward_data" ||
                                      choice.pass == "backward_weights")) {
        EXPECT_EQ(absl::StrContains(choice.implementation, "wino"),
                  algorithm[0] == 'w' && HasWinograd())
            << choice.pass << " " << choice.implementation;
      }
    }
  }
}

TEST_F(TrainerTest, AResumedRunKnowsTheLatestMetrics) {
  const std::string spec = std::string(kBatchNormMlp) + "steps: 9 checkpoint { every_steps: 4 }";
  RecordingSink sink;
  ASSERT_EQ(Run(spec, sink).state(), v1::Job::SUCCEEDED);
  auto resumed =
      Trainer::Plan(Spec(spec), *data_,
                    {.attempt_folder = NewAttempt(), .resume_folder = sink.checkpoints_[0].folder});
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ((*resumed)->resumed_metrics().at("test/loss"), sink.metrics_["test/loss"][0]);
  EXPECT_EQ((*resumed)->resumed_metrics().at("train/loss"), sink.metrics_["train/loss"][3]);
}

TEST_F(TrainerTest, CheckpointsAreKeptTwoAtATimeAndNeverTheUncommittedRemoved) {
  const auto names = [](const std::string& attempt) {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(attempt + "/checkpoints")) {
      found.push_back(entry.path().filename().string());
    }
    std::sort(found.begin(), found.end());
    return found;
  };
  const std::string spec = std::string(kBatchNormMlp) + "steps: 12 checkpoint { every_steps: 3 }";
  RecordingSink committing;
  std::string attempt = NewAttempt();
  Run(spec, committing, attempt);
  EXPECT_THAT(names(attempt), ElementsAre("step-000000006", "step-000000009"));
  EXPECT_EQ(committing.checkpoints_.size(), 3U);  // none at the end: the final weights are there
  RecordingSink silent;
  silent.commits_ = false;
  attempt = NewAttempt();
  Run(spec, silent, attempt);
  EXPECT_EQ(names(attempt).size(), 3U);
}

TEST_F(TrainerTest, FinalWeightsAreOnDiskUnderPytorchsNames) {
  const std::string attempt = NewAttempt();
  auto trainer = Trainer::Plan(Spec(std::string(kBatchNormMlp) + "steps: 3"), *data_,
                               {.attempt_folder = attempt, .resume_folder = ""});
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  RecordingSink sink;
  (*trainer)->Run(sink, {});
  const Graph& graph = (*trainer)->graph();
  ModelState read(graph);
  const auto bytes = common::ReadFile(attempt + "/final/model.safetensors");
  ASSERT_TRUE(bytes.ok());
  const auto tensors = ModelTensors(graph, read);
  ASSERT_TRUE(DecodeSafetensors(*bytes, "final", tensors).ok());
  std::vector<std::string> names;
  for (const MutableTensor& tensor : tensors) {
    names.push_back(tensor.name);
  }
  EXPECT_THAT(names, ElementsAre("fc1.weight", "bn1.weight", "bn1.bias", "fc2.weight", "bn2.weight",
                                 "bn2.bias", "head.weight", "head.bias", "bn1.running_mean",
                                 "bn1.running_var", "bn2.running_mean", "bn2.running_var"));
  EXPECT_EQ((*trainer)->model().parameters.span(), read.parameters.span());
  EXPECT_EQ((*trainer)->model().state.span(), read.state.span());
}

TEST_F(TrainerTest, ARunDoesNotGoOnWithOtherData) {
  const std::string spec =
      std::string(kBatchNormMlp) + "steps: 20 checkpoint { every_steps: 5 } data { mnist {} }";
  RecordingSink sink;
  sink.stop_after_ = 12;
  ASSERT_EQ(Run(spec, sink).state(), v1::Job::CANCELLED);
  const std::string checkpoint = sink.checkpoints_.back().folder;
  const auto resume = [&](const MappedDataset& data) {
    return Trainer::Plan(Spec(spec), data,
                         {.attempt_folder = NewAttempt(), .resume_folder = checkpoint})
        .status();
  };
  EXPECT_TRUE(resume(*data_).ok());

  const auto decoded = [](const DatasetShape& shape, uint32_t seed) {
    const std::string path = (*base_ / "other.nldata").string();
    EXPECT_TRUE(WriteDataset(testing::MakePatterns(shape, seed), path).ok());
    return MappedDataset::Open(path);
  };
  EXPECT_TRUE(resume(*decoded(kShape, 4)).ok()) << "the same contents in another file";
  DatasetShape longer = kShape;
  longer.train_examples += 30;
  DatasetShape larger = kShape;
  larger.height += 3;
  for (const DatasetShape& shape : {kShape, longer, larger}) {
    const auto other = decoded(shape, 5);
    ASSERT_TRUE(other.ok());
    const v1::Failure failure = ToFailure(resume(*other));
    EXPECT_EQ(failure.reason(), v1::FailureReason::DATA_ERROR) << failure.message();
    for (const std::string& part :
         {std::string("the data set changed since the checkpoint"), std::string("data.mnist"),
          data_->sha256(), other->sha256(), std::string("Submit the job again")}) {
      EXPECT_THAT(failure.message(), ::testing::HasSubstr(part));
    }
  }

  // Checkpoints of earlier versions do not say.
  const std::string path = checkpoint + "/manifest.json";
  nlohmann::json manifest = nlohmann::json::parse(std::ifstream(path));
  EXPECT_EQ(manifest["data_sha256"], data_->sha256());
  manifest.erase("data_sha256");
  std::ofstream(path) << manifest.dump();
  EXPECT_TRUE(resume(*decoded(kShape, 5)).ok());
}

TEST_F(TrainerTest, ANewNameOrPriorityIsTheSameRunAnotherLearningRateIsNot) {
  const std::string digest = TrainingSpecSha256(Spec(kBatchNormMlp), true);
  EXPECT_EQ(digest,
            TrainingSpecSha256(Spec(std::string(kBatchNormMlp) +
                                    "display_name: 'x' priority: 3 max_retries: 2 "
                                    "labels { key: 'a' value: 'b' } time_limit { seconds: 9 } "
                                    "checkpoint { every_steps: 5 }"),
                               true));
  EXPECT_NE(digest, TrainingSpecSha256(Spec(std::string(kBatchNormMlp) + "steps: 4"), true));
}

}  // namespace
}  // namespace normlab::engine
