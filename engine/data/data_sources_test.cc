// The inspector on every source but the IDX sets, which have data_inspector_test.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "common/random.h"
#include "engine/data/data_inspector.h"
#include "engine/data/mapped_dataset.h"
#include "engine/data/testing.h"
#include "engine/spec/resolve.h"
#include "engine/spec/run_length.h"

namespace normlab::engine {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::NpyBytes;
using testing::Raw;

class DataSourcesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    base_ = fs::path(::testing::TempDir()) / absl::StrCat("sources_", info->name(), ".", getpid());
    fs::remove_all(base_);
    fs::create_directories(base_ / "root/mine");
  }
  void TearDown() override { fs::remove_all(base_); }

  static v1::JobSpec Spec(const std::string& data) {
    v1::JobSpec spec;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString("data { " + data + " }", &spec));
    return Resolve(spec);
  }
  v1::DataReport Inspect(const std::string& data, const std::string& root = "") {
    v1::InspectDataRequest request;
    *request.mutable_data() = Spec(data).data();
    request.add_data_roots(root.empty() ? (base_ / "root").string() : root);
    request.set_cache_folder((base_ / "cache").string());
    return inspector_.Inspect(request);
  }
  std::vector<std::string> Violations(const std::string& data) {
    std::vector<std::string> texts;
    const v1::DataReport report = Inspect(data);
    for (const v1::SpecViolation& violation : report.violations()) {
      texts.push_back(absl::StrCat(violation.field(), ": ", violation.description()));
    }
    return texts;
  }
  MappedDataset Open(const v1::DataReport& report) {
    EXPECT_THAT(report.violations(), IsEmpty()) << report.DebugString();
    auto mapped = MappedDataset::Open(report.data_cache());
    EXPECT_TRUE(mapped.ok()) << mapped.status();
    EXPECT_TRUE(mapped->VerifyContents().ok());
    return *std::move(mapped);
  }
  void Write(const std::string& name, const std::string& bytes) const {
    fs::create_directories((base_ / "root" / name).parent_path());
    testing::WriteOrDie((base_ / "root" / name).string(), bytes);
  }

  fs::path base_;
  DataInspector inspector_;
};

TEST_F(DataSourcesTest, ArraysAsFourFilesOrOne) {
  const std::vector<float> x = {1, 2, 3, 4, 5, 6};
  const std::vector<float> xt = {-1, -2};
  const std::vector<float> y = {.5F, 1.5F, 2.5F};
  const std::vector<float> yt = {9};
  const std::string files[] = {NpyBytes("<f4", {3, 2}, Raw(x)), NpyBytes("<f4", {3}, Raw(y)),
                               NpyBytes("<f4", {1, 2}, Raw(xt)), NpyBytes("<f4", {1}, Raw(yt))};
  Write("mine/x.npy", files[0]);
  Write("mine/y.npy", files[1]);
  Write("mine/xt.npy.gz", testing::Gzip(files[2]));
  Write("yt.npy", files[3]);
  Write("mine/all.npz", testing::ZipBytes({{"x_train.npy", files[0], true},
                                           {"y_train.npy", files[1], true},
                                           {"x_test.npy", files[2]},
                                           {"y_test.npy", files[3]}}));
  Write("all.safetensors", testing::SafetensorsBytes({{"x_train", "F32", {3, 2}, Raw(x)},
                                                      {"y_train", "F32", {3, 1}, Raw(y)},
                                                      {"x_test", "F32", {1, 2}, Raw(xt)},
                                                      {"y_test", "F32", {1, 1}, Raw(yt)}}));
  for (const std::string& data :
       {std::string("arrays { x_train: 'mine/x.npy' y_train: 'mine/y.npy' x_test: 'mine/xt.npy' "
                    "y_test: 'yt.npy' }"),
        std::string("arrays { path: 'mine/all.npz' }"),
        std::string("arrays { path: 'all.safetensors' }"),
        absl::StrCat("arrays { path: '", (base_ / "root/all.safetensors").string(), "' }")}) {
    const v1::DataReport report = Inspect(data);
    const MappedDataset mapped = Open(report);
    EXPECT_TRUE(report.dense()) << data;
    EXPECT_TRUE(report.floats());
    EXPECT_EQ(report.channels(), 2);
    EXPECT_EQ(report.targets(), 1);
    EXPECT_EQ(report.classes(), 0);
    EXPECT_EQ(report.train_examples(), 3);
    EXPECT_EQ(report.test_examples(), 1);
    EXPECT_THAT(mapped.train().floats, ElementsAreArray(x));
    EXPECT_THAT(mapped.train().targets, ElementsAreArray(y));
    EXPECT_THAT(mapped.test().floats, ElementsAreArray(xt));
    EXPECT_THAT(mapped.test().targets, ElementsAreArray(yt));
  }
  // The same files in other roles are another set.
  EXPECT_THAT(Violations("arrays { x_train: 'mine/x.npy' y_train: 'yt.npy' x_test: 'mine/xt.npy' "
                         "y_test: 'mine/y.npy' }"),
              ElementsAre(AllOf(HasSubstr("data.arrays.y_train: "), HasSubstr("1 targets"),
                                HasSubstr("3 examples")),
                          HasSubstr("data.arrays.y_test: ")));
}

TEST_F(DataSourcesTest, ArraysThatAreMissingOrBrokenAreReportedAtOnce) {
  Write("x.npy", NpyBytes("<f4", {3, 2}, "short"));
  Write("y.npy", "nonsense");
  EXPECT_THAT(
      Violations("arrays { x_train: 'x.npy' y_train: 'y.npy' x_test: 'x.npy' y_test: 'y.npy' }"),
      ElementsAre(AllOf(HasSubstr("data.arrays.x_train: "), HasSubstr("truncated")),
                  AllOf(HasSubstr("data.arrays.y_train: "), HasSubstr("not a .npy file")),
                  AllOf(HasSubstr("data.arrays.x_test: "), HasSubstr("root/x.npy")),
                  HasSubstr("data.arrays.y_test: ")));
  EXPECT_THAT(
      Violations("arrays { x_train: 'x.npy' y_train: 'none/y.npy' x_test: '..' y_test: '/etc/x' }"),
      ElementsAre(AllOf(HasSubstr("data.arrays.y_train: "), HasSubstr("none does not exist")),
                  AllOf(HasSubstr("data.arrays.x_test: "), HasSubstr("names a folder")),
                  AllOf(HasSubstr("data.arrays.y_test: "), HasSubstr("below a data root"))));
  EXPECT_THAT(Violations("arrays { path: 'y.npy' }"),
              ElementsAre(AllOf(HasSubstr("data.arrays.path: "), HasSubstr("neither a .npz"))));
  EXPECT_THAT(Violations("arrays { path: '../../secret.npz' }"),
              ElementsAre(AllOf(HasSubstr("data.arrays.path: "), HasSubstr("leads outside"))));
}

TEST_F(DataSourcesTest, Cifar10TakesAsManyBatchesAsThereAre) {
  const DatasetShape shape = {.channels = 3,
                              .height = 32,
                              .width = 32,
                              .classes = 10,
                              .train_examples = 7,
                              .test_examples = 3};
  const DecodedDataset one = testing::MakePatterns(shape, 1);
  const DecodedDataset two = testing::MakePatterns(shape, 2);
  Write("c/data_batch_1.bin", testing::CifarBytes(one.train, false));
  EXPECT_THAT(Violations("cifar10 { path: 'c' }"),
              ElementsAre(AllOf(HasSubstr("data.cifar10.path: "), HasSubstr("no test_batch.bin"))));
  Write("c/test_batch.bin", testing::CifarBytes(one.test, false));
  EXPECT_EQ(Inspect("cifar10 { path: 'c' }").train_examples(), 7);
  Write("c/data_batch_2.bin.gz", testing::Gzip(testing::CifarBytes(two.train, false)));
  const v1::DataReport report = Inspect("cifar10 { path: 'c' }");
  const MappedDataset mapped = Open(report);
  EXPECT_EQ(report.train_examples(), 14);
  EXPECT_EQ(report.test_examples(), 3);
  EXPECT_EQ(report.channels(), 3);
  EXPECT_FALSE(report.dense());
  std::vector<uint8_t> images = one.train.bytes;
  images.insert(images.end(), two.train.bytes.begin(), two.train.bytes.end());
  EXPECT_THAT(mapped.train().bytes, ElementsAreArray(images));
  EXPECT_EQ(mapped.train().labels[8], two.train.labels[1]);
  EXPECT_THAT(mapped.test().labels, ElementsAreArray(one.test.labels));
  Write("c/data_batch_4.bin", testing::CifarBytes(one.train, false));
  EXPECT_THAT(Violations("cifar10 { path: 'c' }"),
              ElementsAre(AllOf(HasSubstr("data_batch_4.bin but no data_batch_3.bin"))));
}

TEST_F(DataSourcesTest, Cifar100HasFineLabels) {
  const DecodedDataset data = testing::MakePatterns({.channels = 3,
                                                     .height = 32,
                                                     .width = 32,
                                                     .classes = 100,
                                                     .train_examples = 9,
                                                     .test_examples = 4},
                                                    5);
  Write("cifar-100-binary/train.bin", testing::CifarBytes(data.train, true));
  Write("cifar-100-binary/test.bin", testing::CifarBytes(data.test, true));
  const v1::DataReport report = Inspect("cifar100 {}");
  EXPECT_EQ(report.classes(), 100);
  EXPECT_THAT(Open(report).train().labels, ElementsAreArray(data.train.labels));
}

TEST_F(DataSourcesTest, RealCifar10) {
  const char* folder = std::getenv("NORMLAB_CIFAR10");
  if (folder == nullptr) {
    GTEST_SKIP() << "did not run: NORMLAB_CIFAR10 names no folder with CIFAR-10's binary version";
  }
  const v1::DataReport report = Inspect(absl::StrCat("cifar10 { path: '", folder, "' }"), folder);
  const MappedDataset mapped = Open(report);
  // Natural images: the published channel means are 0.491, 0.482 and 0.447, the deviations 0.247,
  // 0.243 and 0.262; a subset's are near them.
  const double means[] = {0.491, 0.482, 0.447};
  const double deviations[] = {0.247, 0.243, 0.262};
  for (int channel = 0; channel < 3; ++channel) {
    EXPECT_NEAR(mapped.channel_means()[channel], means[channel], 0.02);
    EXPECT_NEAR(mapped.channel_deviations()[channel], deviations[channel], 0.02);
  }
}

TEST_F(DataSourcesTest, GaussianClassesAreWhatTheyAreSaidToBe) {
  const std::string data =
      "gaussian_classes { classes: 3 dims: 2 dims: 3 dims: 5 train_examples: 3000 "
      "test_examples: 7 separation: 4 seed: 8 }";
  const v1::DataReport report = Inspect(data);
  const MappedDataset mapped = Open(report);
  EXPECT_EQ(mapped.shape(), *KnownDatasetShape(Spec(data)));
  EXPECT_EQ(report.classes(), 3);
  EXPECT_FALSE(report.dense());
  const common::RandomStream mean_stream(8, "gaussian_classes/means");
  const common::RandomStream train(8, "gaussian_classes/train");
  const common::RandomStream test(8, "gaussian_classes/test");
  double square_norm = 0;
  for (int n = 0; n < 3000; n += 271) {
    const int label = mapped.train().labels[n];
    EXPECT_EQ(label, n % 3);
    for (int i = 0; i < 30; ++i) {
      const double mean = 4 / std::sqrt(30.0) * mean_stream.Normal(label, i);
      EXPECT_EQ(mapped.train().floats[n * 30 + i], static_cast<float>(mean + train.Normal(n, i)));
    }
  }
  EXPECT_EQ(mapped.test().floats[5 * 30 + 2],
            static_cast<float>(4 / std::sqrt(30.0) * mean_stream.Normal(2, 2) + test.Normal(5, 2)));
  // Per class: sample means near the class mean, and those at root mean square distance 4 from 0.
  for (int label = 0; label < 3; ++label) {
    for (int i = 0; i < 30; ++i) {
      double sum = 0;
      for (int n = label; n < 3000; n += 3) {
        sum += mapped.train().floats[n * 30 + i];
      }
      constexpr double kFiveDeviations = 5 / 31.6;  // of a mean of 1000
      EXPECT_NEAR(sum / 1000, 4 / std::sqrt(30.0) * mean_stream.Normal(label, i), kFiveDeviations);
      square_norm += std::pow(sum / 1000, 2) / 3;
    }
  }
  // 16 times a chi-square of 90 degrees over 90: deviation 16 * sqrt(2/90) = 2.4; three of them.
  EXPECT_NEAR(square_norm, 16, 7.2);
}

TEST_F(DataSourcesTest, LinearRegressionHoldsItsEquation) {
  const std::string data =
      "linear_regression { inputs: 4 outputs: 3 train_examples: 6 test_examples: 5 seed: 9 ";
  const MappedDataset exact = Open(Inspect(data + "}"));
  const MappedDataset noisy = Open(Inspect(data + "noise: 0.5 }"));
  EXPECT_TRUE(exact.shape().dense);
  EXPECT_EQ(exact.shape().targets, 3);
  EXPECT_EQ(exact.shape(), *KnownDatasetShape(Spec(data + "}")));
  const common::RandomStream matrix(9, "linear_regression/matrix");
  const common::RandomStream inputs(9, "linear_regression/test");
  const common::RandomStream noise(9, "linear_regression/test/noise");
  for (int n = 0; n < 5; ++n) {
    for (int j = 0; j < 3; ++j) {
      double y = 0;
      for (int i = 0; i < 4; ++i) {
        const float x = exact.test().floats[n * 4 + i];
        EXPECT_EQ(x, static_cast<float>(inputs.Normal(n, i)));
        y += matrix.Normal(j, i) * x;
      }
      EXPECT_EQ(exact.test().targets[n * 3 + j], static_cast<float>(y));
      EXPECT_EQ(noisy.test().targets[n * 3 + j], static_cast<float>(y + 0.5 * noise.Normal(n, j)));
    }
  }
  EXPECT_THAT(noisy.train().floats, ElementsAreArray(exact.train().floats));
  EXPECT_NE(exact.train().floats[0], exact.test().floats[0]);
}

TEST_F(DataSourcesTest, SyntheticSetsAreCachedByTheirParameters) {
  const std::string first = Inspect("gaussian_classes { train_examples: 20 }").data_cache();
  EXPECT_EQ(Inspect("gaussian_classes { train_examples: 20 classes: 10 }").data_cache(), first);
  EXPECT_NE(Inspect("gaussian_classes { train_examples: 20 seed: 1 }").data_cache(), first);
  EXPECT_NE(Inspect("gaussian_classes { train_examples: 20 separation: 2 }").data_cache(), first);
  // A set that nobody validated is refused, not drawn.
  EXPECT_THAT(Violations("gaussian_classes { train_examples: 2000000000 }"),
              ElementsAre(HasSubstr("cannot be drawn")));
  EXPECT_THAT(Violations("linear_regression { inputs: -1 }"),
              ElementsAre(HasSubstr("cannot be drawn")));
}

}  // namespace
}  // namespace normlab::engine
