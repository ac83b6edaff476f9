#include "server/executor/verdict_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "server/api/testing/api_test.h"

namespace normlab::server {
namespace {

class VerdictCacheTest : public ApiTest {
 protected:
  VerdictCacheTest() : path_(absl::StrCat(::testing::TempDir(), "/verdict.", getpid())) {
    EXPECT_TRUE(common::WriteFileAtomically(path_, "seven b", 0600).ok());
    request_.mutable_data()->mutable_mnist()->set_path("mnist");
    request_.add_data_roots("/data");
  }
  ~VerdictCacheTest() override { std::filesystem::remove(path_); }

  v1::DataReport Report() const {
    v1::DataReport report;
    report.set_train_examples(11);
    report.set_lasting(true);
    struct stat info {};
    EXPECT_EQ(stat(path_.c_str(), &info), 0);
    v1::FileVersion& file = *report.add_files();
    file.set_path(path_);
    file.set_device(info.st_dev);
    file.set_inode(info.st_ino);
    file.set_bytes(info.st_size);
    file.set_modified_ns(int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec);
    return report;
  }

  const std::string path_;
  v1::InspectDataRequest request_;
  VerdictCache cache_;
};

TEST_F(VerdictCacheTest, AVerdictHoldsForItsRequestAndItsFiles) {
  EXPECT_EQ(cache_.Find(request_), nullptr);
  cache_.Remember(request_, Report());
  const auto found = cache_.Find(request_);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->train_examples(), 11);
  v1::InspectDataRequest other = request_;
  other.set_precision(v1::Precision::BF16);
  EXPECT_EQ(cache_.Find(other), nullptr);
  other = request_;
  other.add_data_roots("/more");
  EXPECT_EQ(cache_.Find(other), nullptr);
  other = request_;
  other.mutable_initial_weights()->set_path("w");
  EXPECT_EQ(cache_.Find(other), nullptr);
}

TEST_F(VerdictCacheTest, AChangedFileMakesItForgotten) {
  // In turn: the time of change alone, the size alone, another file of the same size and time, none.
  for (int change = 0; change < 4; ++change) {
    ASSERT_TRUE(common::WriteFileAtomically(path_, "seven b", 0600).ok());
    const v1::DataReport report = Report();
    cache_.Remember(request_, report);
    ASSERT_NE(cache_.Find(request_), nullptr);
    const timespec modified = {report.files(0).modified_ns() / 1'000'000'000,
                               report.files(0).modified_ns() % 1'000'000'000};
    timespec times[2] = {modified, modified};
    if (change == 0) {
      times[1].tv_sec += 1;
    } else if (change == 1) {
      ASSERT_EQ(truncate(path_.c_str(), 6), 0);
    } else if (change == 2) {
      // Both exist for a moment, so that the inode cannot be the same.
      ASSERT_TRUE(common::WriteFileAtomically(path_, "seven c", 0600).ok());
    } else {
      std::filesystem::remove(path_);
    }
    if (change < 3) {
      ASSERT_EQ(utimensat(AT_FDCWD, path_.c_str(), times, 0), 0);
    }
    EXPECT_EQ(cache_.Find(request_), nullptr) << change;
  }
}

TEST_F(VerdictCacheTest, WhatDoesNotLastIsNotRemembered) {
  v1::DataReport report = Report();
  report.set_lasting(false);
  cache_.Remember(request_, report);
  EXPECT_EQ(cache_.Find(request_), nullptr);
  report = Report();
  report.add_violations()->set_field("data.mnist");
  cache_.Remember(request_, report);
  EXPECT_EQ(cache_.Find(request_), nullptr);
}

TEST_F(VerdictCacheTest, CreateJobAsksTheHelperOnceForTheSameFiles) {
  Serve();
  int asked = 0;
  helper_.SetHandler([&](const v1::HelperRequest& request) -> absl::StatusOr<v1::HelperResponse> {
    ++asked;
    v1::HelperResponse response;
    response.set_id(request.id());
    v1::DataReport& report = *response.mutable_data();
    report = Report();
    report.set_data_cache("/cache/data");
    report.set_test_examples(10);
    report.set_train_examples(100 + asked);
    report.set_channels(1);
    report.set_height(28);
    report.set_width(28);
    report.set_classes(10);
    return response;
  });
  EXPECT_EQ(MustCreate().data().train_examples(), 101);
  EXPECT_EQ(MustCreate().data().train_examples(), 101);
  EXPECT_EQ(asked, 1);
  ASSERT_TRUE(common::WriteFileAtomically(path_, "other contents", 0600).ok());
  EXPECT_EQ(MustCreate().data().train_examples(), 102);
  EXPECT_EQ(asked, 2);
}

}  // namespace
}  // namespace normlab::server
