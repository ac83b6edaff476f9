#pragma once

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "engine/data/data_inspector.h"
#include "engine/data/testing.h"
#include "engine/spec/resolve.h"
#include "engine/spec/validate.h"
#include "engine/train/trainer.h"

// What the tests of the trainer share: a small data set, a sink that keeps everything, and specs.
namespace normlab::engine {

inline constexpr DatasetShape kShape = {.channels = 1,
                                        .height = 28,
                                        .width = 28,
                                        .classes = 10,
                                        .train_examples = 331,
                                        .test_examples = 47};

// Bits of a double: equal for equal NaNs too.
using Bits = uint64_t;

// Keeps everything; can ask for a stop after a step.
class RecordingSink : public MetricSink {
 public:
  void OnSeries(const std::vector<std::string>& names) override { series_ = names; }
  void OnStep(const StepRecord& record) override {
    EXPECT_GT(record.step, last_step_);
    EXPECT_GE(record.elapsed_us, last_elapsed_us_);
    last_step_ = record.step;
    last_elapsed_us_ = record.elapsed_us;
    examples_ += record.examples;
    for (const SeriesValue& value : record.values) {
      metrics_[series_[value.series]][record.step] = value.value;
    }
    if (record.step == stop_after_) {
      stop_.request_stop();
    }
    if (clock_ != nullptr) {
      clock_->Advance(step_takes_);
    }
  }
  void OnCheckpoint(const CheckpointRecord& checkpoint) override {
    EXPECT_EQ(checkpoint.step, last_step_ + 1);
    checkpoints_.push_back(checkpoint);
    if (checkpoint.step == stop_at_checkpoint_) {
      stop_.request_stop();
    }
  }
  void OnLog(v1::LogLine::Severity, absl::string_view text) override { logs_.emplace_back(text); }
  int64_t CommittedCheckpointStep() const override {
    return checkpoints_.empty() || !commits_ ? -1 : checkpoints_.back().step;
  }

  std::map<std::string, std::map<int64_t, Bits>> MetricBits(int64_t from_step = 0) const {
    std::map<std::string, std::map<int64_t, Bits>> bits;
    for (const auto& [series, points] : metrics_) {
      for (auto point = points.lower_bound(from_step); point != points.end(); ++point) {
        bits[series][point->first] = std::bit_cast<Bits>(point->second);
      }
    }
    return bits;
  }
  std::vector<int64_t> Steps(const std::string& series) const {
    std::vector<int64_t> steps;
    if (metrics_.contains(series)) {
      for (const auto& [step, value] : metrics_.at(series)) {
        steps.push_back(step);
      }
    }
    return steps;
  }

  std::map<std::string, std::map<int64_t, double>> metrics_;
  std::vector<CheckpointRecord> checkpoints_;
  std::vector<std::string> logs_;
  int64_t examples_ = 0;
  int64_t stop_after_ = -1;
  int64_t stop_at_checkpoint_ = -1;
  common::FakeClock* clock_ = nullptr;  // goes on by so much with every step
  absl::Duration step_takes_;
  bool commits_ = true;
  std::stop_source stop_;

 private:
  std::vector<std::string> series_;
  int64_t last_step_ = -1;
  int64_t last_elapsed_us_ = 0;
};

class TrainerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    base_ =
        new std::filesystem::path(absl::StrCat(::testing::TempDir(), "/trainer_test.", getpid()));
    std::filesystem::remove_all(*base_);
    testing::WriteIdxFolder(testing::MakePatterns(kShape, 4), *base_ / "root/mnist", /*gzip=*/true);
    v1::InspectDataRequest request;
    request.mutable_data()->mutable_mnist()->set_path("mnist");
    request.add_data_roots((*base_ / "root").string());
    request.set_cache_folder((*base_ / "cache").string());
    DataInspector inspector;
    const v1::DataReport report = inspector.Inspect(request);
    ASSERT_EQ(report.violations_size(), 0) << report.DebugString();
    auto mapped = MappedDataset::Open(report.data_cache());
    ASSERT_TRUE(mapped.ok()) << mapped.status();
    data_ = new MappedDataset(*std::move(mapped));
  }
  static void TearDownTestSuite() {
    delete data_;
    std::filesystem::remove_all(*base_);
    delete base_;
  }

  static v1::JobSpec Spec(const std::string& text) {
    v1::JobSpec spec;
    spec.mutable_data()->mutable_mnist();
    EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(text, &spec)) << text;
    EXPECT_THAT(Validate(spec), ::testing::IsEmpty());
    return Resolve(spec);
  }

  // A folder of its own for every attempt.
  static std::string NewAttempt() {
    static int number = 0;
    const std::filesystem::path folder = *base_ / ("attempt-" + std::to_string(++number));
    std::filesystem::create_directories(folder);
    return folder.string();
  }

  static v1::Outcome Run(const std::string& text,
                         RecordingSink& sink,
                         const std::string& attempt = NewAttempt(),
                         const std::string& resume = "") {
    auto trainer =
        Trainer::Plan(Spec(text), *data_, {.attempt_folder = attempt, .resume_folder = resume});
    EXPECT_TRUE(trainer.ok()) << trainer.status();
    return (*trainer)->Run(sink, sink.stop_.get_token());
  }

  inline static std::filesystem::path* base_ = nullptr;
  inline static MappedDataset* data_ = nullptr;
};

inline constexpr char kBatchNormMlp[] =
    "model { mlp { hidden: [33, 17] } } normalization { batch {} } batch_size: 30 "
    "optimizer { sgd { learning_rate: 0.05 momentum: 0.9 weight_decay: 1e-3 } } ";
inline constexpr char kPlainCnn[] =
    "model { cnn { blocks { channels: 5 stride: 2 pooling {} } hidden: 9 } } batch_size: 25 "
    "optimizer { sgd { learning_rate: 0.02 momentum: 0.5 } } ";
inline constexpr char kBatchNormCnn[] =
    "model { cnn { blocks { channels: 5 stride: 2 pooling { kind: AVERAGE } } } } batch_size: 25 "
    "normalization { batch {} } data { last_batch: KEEP } seed: 3 ";

}  // namespace normlab::engine
