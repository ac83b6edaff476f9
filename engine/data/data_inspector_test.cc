#include "engine/data/data_inspector.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/cache_folder.h"
#include "engine/data/data_files.h"
#include "engine/data/dataset_format.h"
#include "engine/data/mapped_dataset.h"
#include "engine/data/testing.h"

namespace normlab::engine {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr DatasetShape kShape = {.channels = 1,
                                 .height = 28,
                                 .width = 28,
                                 .classes = 10,
                                 .train_examples = 37,
                                 .test_examples = 11};

class DataInspectorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    base_ =
        fs::path(::testing::TempDir()) / absl::StrCat("inspector_", info->name(), ".", getpid());
    fs::remove_all(base_);
    fs::create_directories(base_ / "empty-root");
    root_ = base_ / "root";
    data_ = testing::MakePatterns(kShape, 3);
    testing::WriteIdxFolder(data_, root_ / "mnist", /*gzip=*/true);
  }
  void TearDown() override { fs::remove_all(base_); }

  v1::InspectDataRequest Request(const std::string& path) const {
    v1::InspectDataRequest request;
    request.mutable_data()->mutable_mnist()->set_path(path);
    request.add_data_roots((base_ / "empty-root").string());
    request.add_data_roots(root_.string());
    request.set_cache_folder((base_ / "cache").string());
    return request;
  }

  std::vector<std::string> Violations(const std::string& path) {
    const v1::DataReport report = inspector_.Inspect(Request(path));
    EXPECT_EQ(report.data_cache().empty(), report.violations_size() > 0);
    std::vector<std::string> texts;
    for (const v1::SpecViolation& violation : report.violations()) {
      EXPECT_EQ(violation.field(), "data.mnist.path");
      texts.push_back(violation.description());
    }
    return texts;
  }

  void Replace(const std::string& name, const std::string& contents) const {
    fs::remove(root_ / "mnist" / (name + ".gz"));
    testing::WriteOrDie(root_ / "mnist" / name, contents);
  }

  fs::path base_;
  fs::path root_;
  DecodedDataset data_;
  DataInspector inspector_;
};

TEST_F(DataInspectorTest, WritesACacheThatHoldsTheDataSet) {
  const v1::DataReport report = inspector_.Inspect(Request("mnist"));
  ASSERT_EQ(report.violations_size(), 0) << report.DebugString();
  EXPECT_EQ(report.train_examples(), 37);
  EXPECT_EQ(report.test_examples(), 11);
  EXPECT_EQ(report.classes(), 10);

  const auto mapped = MappedDataset::Open(report.data_cache());
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_TRUE(mapped->VerifyContents().ok());
  EXPECT_THAT(mapped->train().bytes, ElementsAreArray(data_.train.bytes));
  EXPECT_THAT(mapped->train().labels, ElementsAreArray(data_.train.labels));
  EXPECT_THAT(mapped->test().bytes, ElementsAreArray(data_.test.bytes));
  EXPECT_THAT(mapped->test().labels, ElementsAreArray(data_.test.labels));
  double mean = 0;
  for (const uint8_t pixel : data_.train.bytes) {
    mean += pixel / 255.0;
  }
  mean /= static_cast<double>(data_.train.bytes.size());
  double var = 0;
  for (const uint8_t pixel : data_.train.bytes) {
    var += (pixel / 255.0 - mean) * (pixel / 255.0 - mean);
  }
  constexpr double kSummation = 1e-12;  // both sums are in double
  EXPECT_NEAR(mapped->channel_means()[0], mean, kSummation);
  EXPECT_NEAR(mapped->channel_deviations()[0],
              std::sqrt(var / static_cast<double>(data_.train.bytes.size())), kSummation);
}

TEST_F(DataInspectorTest, AbsolutePathsBelowARootAreAccepted) {
  EXPECT_THAT(Violations((root_ / "mnist").string()), IsEmpty());
}

TEST_F(DataInspectorTest, NothingOutsideTheRootsIsReached) {
  testing::WriteIdxFolder(data_, base_ / "outside", /*gzip=*/false);
  fs::create_directory_symlink(base_ / "outside", root_ / "link");
  fs::create_directory_symlink("mnist", root_ / "inner-link");
  EXPECT_THAT(Violations("../outside"), ElementsAre(HasSubstr("leads outside")));
  EXPECT_THAT(Violations("link"), ElementsAre(HasSubstr("leads outside")));
  EXPECT_THAT(Violations((root_ / "../outside").string()), ElementsAre(HasSubstr("leads outside")));
  EXPECT_THAT(Violations((base_ / "outside").string()),
              ElementsAre(HasSubstr("does not lie below a data root")));
  EXPECT_THAT(Violations(root_.string() + "2/mnist"),
              ElementsAre(HasSubstr("does not lie below a data root")));
  EXPECT_THAT(Violations("inner-link"), IsEmpty());
}

TEST_F(DataInspectorTest, MissingFilesAreListedWithThePlacesLookedAt) {
  fs::remove(root_ / "mnist/t10k-labels-idx1-ubyte.gz");
  EXPECT_THAT(Violations("mnist"),
              ElementsAre(AllOf(HasSubstr("empty-root/mnist does not exist"),
                                HasSubstr("root/mnist has no t10k-labels-idx1-ubyte or"),
                                HasSubstr("copy the four files"))));
  v1::InspectDataRequest request = Request("");
  request.mutable_data()->mutable_fashion_mnist()->set_path("no\nsuch");
  const v1::DataReport report = inspector_.Inspect(request);
  ASSERT_EQ(report.violations_size(), 1);
  EXPECT_EQ(report.violations(0).field(), "data.fashion_mnist.path");
  EXPECT_THAT(report.violations(0).description(),
              AllOf(HasSubstr("no\\nsuch"), HasSubstr("apt-get install dataset-fashion-mnist")));
}

TEST_F(DataInspectorTest, WhatIsTheMachinesFaultMayPass) {
  // A folder that is there, without one of its files.
  fs::remove(root_ / "mnist/t10k-labels-idx1-ubyte.gz");
  EXPECT_TRUE(inspector_.Inspect(Request("mnist")).lasting());
  // Neither root has the folder, as when a disk is not mounted.
  fs::rename(root_ / "mnist", root_ / "away");
  v1::DataReport report = inspector_.Inspect(Request("mnist"));
  EXPECT_EQ(report.violations_size(), 1);
  EXPECT_FALSE(report.lasting());
  // Not a root, even.
  v1::InspectDataRequest request = Request("mnist");
  request.clear_data_roots();
  request.add_data_roots((base_ / "not-mounted").string());
  EXPECT_FALSE(inspector_.Inspect(request).lasting());
  // A path that nobody may use is no trouble of the machine.
  EXPECT_TRUE(inspector_.Inspect(Request("../outside")).lasting());
}

TEST_F(DataInspectorTest, EveryDamagedFileIsReportedAtOnce) {
  Replace("train-images-idx3-ubyte", "not an IDX file");
  Replace("t10k-images-idx3-ubyte", testing::IdxBytes({10, 28, 28}, std::vector<uint8_t>(7840)));
  std::vector<uint8_t> labels(37, 1);
  labels[30] = 10;
  Replace("train-labels-idx1-ubyte", testing::IdxBytes({37}, labels));
  EXPECT_THAT(Violations("mnist"),
              ElementsAre(HasSubstr("not an IDX file"),
                          AllOf(HasSubstr("label 10 at index 30"), HasSubstr("0 to 9")),
                          AllOf(HasSubstr("10 images"), HasSubstr("11 labels"))));
}

TEST_F(DataInspectorTest, OnlyRegularFilesAreRead) {
  fs::remove(root_ / "mnist/train-labels-idx1-ubyte.gz");
  ASSERT_EQ(mkfifo((root_ / "mnist/train-labels-idx1-ubyte").c_str(), 0600), 0);
  EXPECT_THAT(Violations("mnist"), ElementsAre(HasSubstr("not a regular file")));
}

TEST_F(DataInspectorTest, RepairedFilesAreLookedAtAgain) {
  Replace("train-labels-idx1-ubyte", "broken");
  EXPECT_THAT(Violations("mnist"), ElementsAre(HasSubstr("not an IDX file")));
  EXPECT_THAT(Violations("mnist"), ElementsAre(HasSubstr("not an IDX file")));
  Replace("train-labels-idx1-ubyte",
          testing::IdxBytes({37}, {data_.train.labels.begin(), data_.train.labels.end()}));
  EXPECT_THAT(Violations("mnist"), IsEmpty());
}

TEST_F(DataInspectorTest, ADamagedOrMissingCacheIsMadeAgain) {
  const std::string cache = inspector_.Inspect(Request("mnist")).data_cache();
  fs::resize_file(cache, 5000);
  EXPECT_EQ(inspector_.Inspect(Request("mnist")).data_cache(), cache);
  EXPECT_TRUE(MappedDataset::Open(cache).ok());
  fs::remove(cache);
  EXPECT_EQ(inspector_.Inspect(Request("mnist")).data_cache(), cache);
  EXPECT_TRUE(MappedDataset::Open(cache).ok());

  // One changed pixel: a later helper verifies the checksum before it trusts what it finds.
  {
    std::fstream file(cache, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(dataset_format::LayoutOf(kShape).train.values + 100);
    file.put(static_cast<char>(~data_.train.bytes[100]));
  }
  DataInspector later;
  EXPECT_EQ(later.Inspect(Request("mnist")).data_cache(), cache);
  EXPECT_TRUE(MappedDataset::Open(cache)->VerifyContents().ok());
}

TEST_F(DataInspectorTest, TheCacheKeepsTheSetsUsedLastAndNoLeftovers) {
  const fs::path folder = base_ / "cache";
  fs::create_directories(folder);
  const auto now = fs::file_time_type::clock::now();
  const auto add = [&](const std::string& name, std::chrono::hours age) {
    testing::WriteOrDie((folder / name).string(), "x");
    fs::last_write_time(folder / name, now - age);
  };
  for (int i = 0; i < 12; ++i) {
    add("old-" + std::to_string(i) + ".nldata", std::chrono::hours(24 + i));
  }
  add("cut.nldata.0123456789ab.tmp", std::chrono::hours(2));
  add("in-progress.nldata.0123456789ab.tmp", std::chrono::hours(0));
  add("notes.txt", std::chrono::hours(1000));
  const std::string cache = inspector_.Inspect(Request("mnist")).data_cache();
  const auto left = [&] {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  };
  // The new one and the seven used last.
  std::vector<std::string> expected = {"in-progress.nldata.0123456789ab.tmp", "notes.txt",
                                       fs::path(cache).filename().string()};
  for (int i = 0; i < 7; ++i) {
    expected.push_back("old-" + std::to_string(i) + ".nldata");
  }
  EXPECT_THAT(left(), ::testing::UnorderedElementsAreArray(expected));

  // Asking for a set counts as using it, with a verdict in memory or without.
  for (const bool remembered : {true, false}) {
    fs::last_write_time(cache, now - std::chrono::hours(5000));
    DataInspector later;
    EXPECT_EQ((remembered ? inspector_ : later).Inspect(Request("mnist")).data_cache(), cache);
    EXPECT_GT(fs::last_write_time(cache), now - std::chrono::hours(1));
  }

  // However many there are, nothing in use goes.
  for (int i = 0; i < 12; ++i) {
    add("new-" + std::to_string(i) + ".nldata", std::chrono::hours(0));
  }
  common::CacheLimits limits = {.keep = 8,
                                .bytes = int64_t{1} << 30,
                                .grace = absl::Hours(1),
                                .least_grace = absl::Minutes(5)};
  common::PruneCacheFolder(folder.string(), limits);
  EXPECT_EQ(left().size(), 12U + 3U);

  // When they take too much, what was used longest ago goes before the hour is over.
  fs::last_write_time(folder / "new-3.nldata", now - std::chrono::minutes(20));
  fs::last_write_time(folder / "new-5.nldata", now - std::chrono::minutes(10));
  fs::last_write_time(cache, now - std::chrono::minutes(30));
  limits.bytes = 11;  // of one each, but for the set itself
  common::PruneCacheFolder(folder.string(), limits);
  EXPECT_EQ(left().size(), 11U + 2U);
  EXPECT_FALSE(fs::exists(cache));
  EXPECT_FALSE(fs::exists(folder / "new-3.nldata"));
  EXPECT_TRUE(fs::exists(folder / "new-5.nldata"));
  // What a worker may be about to map stays.
  limits.bytes = 0;
  common::PruneCacheFolder(folder.string(), limits);
  EXPECT_EQ(left().size(), 10U + 2U);
}

// Whether a spec is valid does not take the set.
TEST_F(DataInspectorTest, ASyntheticSetIsDescribedWithoutMakingIt) {
  v1::InspectDataRequest request;
  v1::GaussianClasses& set = *request.mutable_data()->mutable_gaussian_classes();
  set.set_classes(10);
  set.add_dims(100);
  set.set_train_examples(600'000);  // 240 MB
  set.set_test_examples(7);
  set.set_separation(1);
  set.set_seed(3);
  const v1::DataReport described = inspector_.Inspect(request);
  EXPECT_EQ(described.violations_size(), 0) << described.ShortDebugString();
  EXPECT_EQ(described.train_examples(), 600'000);
  EXPECT_EQ(described.classes(), 10);
  EXPECT_TRUE(described.data_cache().empty());
  EXPECT_TRUE(described.lasting());
  EXPECT_FALSE(fs::exists(base_ / "cache"));
  // Later it is made all the same.
  request.mutable_data()->mutable_gaussian_classes()->set_train_examples(70);
  EXPECT_TRUE(inspector_.Inspect(request).data_cache().empty());
  request.set_cache_folder((base_ / "cache").string());
  EXPECT_TRUE(fs::exists(inspector_.Inspect(request).data_cache()));
}

TEST_F(DataInspectorTest, ACacheThatCannotBeWrittenIsSaid) {
  v1::InspectDataRequest request = Request("mnist");
  request.set_cache_folder("/proc/no-such-folder");
  const v1::DataReport report = inspector_.Inspect(request);
  ASSERT_EQ(report.violations_size(), 1);
  EXPECT_THAT(report.violations(0).description(), HasSubstr("could not keep"));
  EXPECT_FALSE(report.lasting()) << "there may be room later";
}

TEST_F(DataInspectorTest, DamagedCacheHeadersAreRefused) {
  const std::string cache = inspector_.Inspect(Request("mnist")).data_cache();
  const std::string bytes = *common::ReadFile(cache);
  for (const size_t position : {0, 8, 12, 16, 24, 40, 60, 100}) {
    std::string damaged = bytes;
    damaged[position] = static_cast<char>(damaged[position] ^ 1);
    testing::WriteOrDie(base_ / "damaged", damaged);
    EXPECT_EQ(MappedDataset::Open(base_ / "damaged").status().code(), absl::StatusCode::kDataLoss)
        << position;
  }
  // A label out of range would index memory later.
  std::string damaged = bytes;
  const dataset_format::Layout layout = dataset_format::LayoutOf(kShape);
  damaged[static_cast<size_t>(layout.train.answers) + 4] = 10;
  testing::WriteOrDie(base_ / "damaged", damaged);
  EXPECT_EQ(MappedDataset::Open(base_ / "damaged").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(MappedDataset::Open(base_ / "none").status().code(), absl::StatusCode::kNotFound);
}

TEST(FashionMnistTest, TheDebianPackageIsRead) {
  if (!fs::exists("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")) {
    GTEST_SKIP() << "did not run: the package dataset-fashion-mnist is not installed";
  }
  const fs::path cache = fs::path(::testing::TempDir()) / absl::StrCat("fashion_cache.", getpid());
  v1::InspectDataRequest request;
  request.mutable_data()->mutable_fashion_mnist()->set_path("fashion-mnist");
  request.add_data_roots("/usr/share/datasets/");
  request.set_cache_folder(cache.string());
  DataInspector inspector;
  const v1::DataReport report = inspector.Inspect(request);
  ASSERT_EQ(report.violations_size(), 0) << report.DebugString();
  EXPECT_EQ(report.train_examples(), 60000);
  EXPECT_EQ(report.test_examples(), 10000);
  const auto mapped = MappedDataset::Open(report.data_cache());
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  // The set's published moments.
  EXPECT_NEAR(mapped->channel_means()[0], 0.2860, 5e-5);
  EXPECT_NEAR(mapped->channel_deviations()[0], 0.3530, 5e-5);
  fs::remove_all(cache);
}

}  // namespace
}  // namespace normlab::engine
