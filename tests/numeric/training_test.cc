// Training results that a correct implementation reaches, on real data. Whole runs: the long ones
// only with NORMLAB_LONG_RUNS set (tests/run --full), those on colour images only where
// NORMLAB_CIFAR10 names a folder with CIFAR-10's binary files (a subset of the images will do; the
// numbers are not comparable with papers then). Runs end as soon as they have shown what they
// should.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "tests/numeric/training_run.h"

namespace normlab::engine {
namespace {

constexpr char kFashionMnist[] = "/usr/share/datasets/fashion-mnist";

bool LongRuns() {
  return std::getenv("NORMLAB_LONG_RUNS") != nullptr;
}

// Runs, and tells how far it came and how long it took.
TrainingResult Train(const std::string& what,
                     const std::string& spec,
                     const std::function<bool(const TrainingCurves&)>& enough,
                     const std::vector<std::string>& data_roots = {"/usr/share/datasets"}) {
  const auto begin = std::chrono::steady_clock::now();
  auto result = RunTraining(spec, data_roots, enough);
  EXPECT_TRUE(result.ok()) << what << ": " << result.status();
  if (!result.ok()) {
    return {};
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const auto steps = static_cast<double>(result->curves.train_loss.size());
  std::cout << what << ": " << steps << " steps, "
            << steps / static_cast<double>(result->steps_per_epoch) << " epochs, " << seconds
            << " s; last train loss " << result->curves.RecentLoss(1) << ", best test accuracy "
            << result->curves.BestTestAccuracy() << std::endl;
  EXPECT_TRUE(result->outcome.state() == v1::Job::SUCCEEDED ||
              result->outcome.state() == v1::Job::CANCELLED)
      << what << ": " << result->outcome.ShortDebugString();
  return *std::move(result);
}

class FashionMnistTrainingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kFashionMnist)) {
      GTEST_SKIP() << "did not run: install the package dataset-fashion-mnist to run it";
    }
  }
};

TEST_F(FashionMnistTrainingTest, BatchNormMlpReachesEightyEightPercentWithinFiveEpochs) {
  constexpr double kBound = 0.88;
  const TrainingResult result =
      Train("MLP 256-128-64, batch norm",
            "model { mlp { hidden: [256, 128, 64] } } normalization { batch {} } "
            "data { fashion_mnist {} } batch_size: 128 epochs: 5 "
            "optimizer { sgd { learning_rate: 0.05 momentum: 0.9 } } schedule { cosine {} }",
            [](const TrainingCurves& curves) { return curves.BestTestAccuracy() >= kBound; });
  EXPECT_GE(result.curves.BestTestAccuracy(), kBound);
}

TEST_F(FashionMnistTrainingTest, SmallBatchNormCnnReachesNinetyOnePercentWithinTenEpochs) {
  if (!LongRuns()) {
    GTEST_SKIP() << "did not run: takes minutes; set NORMLAB_LONG_RUNS=1 to run it";
  }
  constexpr double kBound = 0.91;
  const TrainingResult result =
      Train("CNN 32-64, batch norm",
            "model { cnn { blocks { channels: 32 pooling {} } blocks { channels: 64 pooling {} } "
            "hidden: [128] } } normalization { batch {} } data { fashion_mnist {} } "
            "batch_size: 128 epochs: 10 optimizer { sgd { learning_rate: 0.05 momentum: 0.9 } } "
            "schedule { cosine {} } threads: 2",
            [](const TrainingCurves& curves) { return curves.BestTestAccuracy() >= kBound; });
  EXPECT_GE(result.curves.BestTestAccuracy(), kBound);
}

class CifarTrainingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("NORMLAB_CIFAR10");
    if (folder == nullptr || *folder == '\0') {
      GTEST_SKIP() << "did not run: set NORMLAB_CIFAR10 to a folder with CIFAR-10's binary files "
                      "(data_batch_1.bin, ..., test_batch.bin) to run it";
    }
    if (!LongRuns()) {
      GTEST_SKIP() << "did not run: takes minutes; set NORMLAB_LONG_RUNS=1 to run it";
    }
    folder_ = folder;
  }

  std::string Data() const { return absl::StrCat("data { cifar10 { path: \"", folder_, "\" } } "); }

  std::string folder_;
};

TEST_F(CifarTrainingTest, ResNet20OverfitsTheSubset) {
  constexpr double kBound = 0.95;
  constexpr size_t kEpoch = 39;  // steps
  const auto reached = [](const TrainingCurves& curves) {
    return curves.RecentAccuracy(kEpoch) > kBound;
  };
  const TrainingResult result =
      Train("ResNet-20, batch norm, CIFAR-10 subset",
            absl::StrCat(Data(),
                         "model { resnet { depth: 20 } } normalization { batch {} } "
                         "data { train_limit: 5000 } initializer { he_normal {} } batch_size: 128 "
                         "epochs: 60 evaluation { every_epochs: 10 } "
                         "optimizer { sgd { learning_rate: 0.1 momentum: 0.9 } } threads: 2"),
            reached, {folder_});
  EXPECT_TRUE(reached(result.curves)) << result.curves.RecentAccuracy(kEpoch);
}

TEST_F(CifarTrainingTest, Vgg16WithBatchNormTrainsAtLearningRateOneTenth) {
  constexpr double kBound = 0.5;
  constexpr size_t kSteps = 10;
  const auto reached = [](const TrainingCurves& curves) {
    return curves.RecentLoss(kSteps) < kBound;
  };
  const TrainingResult result =
      Train("VGG-16, batch norm, CIFAR-10 subset",
            absl::StrCat(Data(),
                         "model { vgg { depth: 16 } } normalization { batch {} } "
                         "data { train_limit: 5000 } batch_size: 128 epochs: 60 "
                         "evaluation { every_epochs: 10 } "
                         "optimizer { sgd { learning_rate: 0.1 } } threads: 2"),
            reached, {folder_});
  EXPECT_TRUE(reached(result.curves)) << result.curves.RecentLoss(kSteps);
}

}  // namespace
}  // namespace normlab::engine
