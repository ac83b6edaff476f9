// Training on the real data set: what the literature and other frameworks get, this engine must get
// too.
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "engine/data/data_inspector.h"
#include "engine/spec/resolve.h"
#include "engine/train/trainer.h"

namespace normlab::engine {
namespace {

namespace fs = std::filesystem;

constexpr char kFolder[] = "/usr/share/datasets/fashion-mnist";

class QuietSink : public MetricSink {
 public:
  void OnStep(const StepRecord& record) override {
    if (record.examples > 0) {
      step_seconds_ += record.step_seconds;
    }
  }
  void OnCheckpoint(const CheckpointRecord&) override {}
  void OnLog(v1::LogLine::Severity, absl::string_view) override {}
  int64_t CommittedCheckpointStep() const override { return -1; }
  double step_seconds() const { return step_seconds_; }

 private:
  double step_seconds_ = 0;
};

class FashionMnistTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(kFolder)) {
      GTEST_SKIP() << "did not run: install the package dataset-fashion-mnist to run it";
    }
    folder_ = fs::path(::testing::TempDir()) / absl::StrCat("fashion_mnist_training.", getpid());
    fs::create_directories(folder_);
    v1::InspectDataRequest request;
    request.mutable_data()->mutable_fashion_mnist()->set_path("fashion-mnist");
    request.add_data_roots("/usr/share/datasets");
    request.set_cache_folder(folder_.string());
    DataInspector inspector;
    const v1::DataReport report = inspector.Inspect(request);
    ASSERT_EQ(report.violations_size(), 0) << report.DebugString();
    auto mapped = MappedDataset::Open(report.data_cache());
    ASSERT_TRUE(mapped.ok()) << mapped.status();
    data_ = std::make_unique<MappedDataset>(*std::move(mapped));
  }
  void TearDown() override { fs::remove_all(folder_); }

  // Test accuracy after the run.
  double Train(const std::string& text) const {
    v1::JobSpec spec;
    spec.mutable_data()->mutable_fashion_mnist();
    EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(text, &spec));
    auto trainer = Trainer::Plan(Resolve(spec), *data_,
                                 {.attempt_folder = folder_.string(), .resume_folder = ""});
    EXPECT_TRUE(trainer.ok()) << trainer.status();
    QuietSink sink;
    const v1::Outcome outcome = (*trainer)->Run(sink, {});
    EXPECT_EQ(outcome.state(), v1::Job::SUCCEEDED) << outcome.ShortDebugString();
    const v1::Result& result = outcome.result();
    std::cout << text << "\n  test accuracy " << result.final_metrics().at("test/accuracy") << ", "
              << result.steps() << " steps, "
              << 1e3 * sink.step_seconds() / static_cast<double>(result.steps()) << " ms a step, "
              << result.training_seconds() << " s in all\n";
    return result.final_metrics().at("test/accuracy");
  }

  fs::path folder_;
  std::unique_ptr<MappedDataset> data_;
};

// Ioffe and Szegedy's net: three sigmoid layers, PyTorch's initialization, one epoch. Their
// gradients are too small to leave the start without batch norm; Glorot's initialization is large
// enough.
constexpr char kSigmoidNet[] =
    "model { mlp { hidden: [100, 100, 100] activation: SIGMOID } } data { scaling: UNIT } "
    "batch_size: 60 seed: 1 ";

TEST_F(FashionMnistTest, SigmoidNetNeedsBatchNorm) {
  EXPECT_GT(Train(std::string(kSigmoidNet) + "normalization { batch {} }"), 0.75);
  EXPECT_LT(Train(kSigmoidNet), 0.25);
}

TEST_F(FashionMnistTest, BatchNormMlpReachesEightyFivePercentInTwoEpochs) {
  EXPECT_GT(Train("model { mlp { hidden: [256, 128, 64] } } normalization { batch {} } epochs: 2 "
                  "optimizer { sgd { learning_rate: 0.1 momentum: 0.9 } }"),
            0.85);
}

TEST_F(FashionMnistTest, SmallCnnLearnsFromDefaults) {
  EXPECT_GT(Train("model { cnn {} } normalization { batch {} } "
                  "data { train_limit: 20000 test_limit: 2000 }"),
            0.75);
}

}  // namespace
}  // namespace normlab::engine
