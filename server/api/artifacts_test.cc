#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/sha256.h"
#include "server/api/testing/api_test.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class ArtifactsTest : public ApiTest {
 protected:
  ArtifactsTest() {
    options_.work_dir =
        absl::StrCat(::testing::TempDir(), "/artifacts-", getpid(), "-",
                     ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(options_.work_dir);
  }
  ~ArtifactsTest() override { fs::remove_all(options_.work_dir); }

  // Writes a file of the job's first attempt and describes it.
  v1::ArtifactFile Write(const std::string& job, const std::string& file, size_t bytes) {
    std::string content(bytes, 'x');
    for (size_t i = 0; i < bytes; ++i) {
      content[i] = static_cast<char>(i * 7 + i / 251);
    }
    const std::string path = absl::StrCat(job, "/attempt-1/", file);
    fs::create_directories(fs::path(options_.work_dir + "/" + path).parent_path());
    std::ofstream(options_.work_dir + "/" + path, std::ios::binary) << content;
    content_ = content;
    v1::ArtifactFile described;
    described.set_path(path);
    described.set_file_name("final.safetensors");
    described.set_bytes(static_cast<int64_t>(bytes));
    described.set_sha256(common::Sha256Hex(content));
    return described;
  }

  // A job with a checkpoint that is there and final weights of so many bytes.
  std::string JobWithFiles(size_t bytes) {
    const std::string name = MustCreate().name();
    StartAttempt(name);
    v1::WorkerReport checkpoint;
    checkpoint.set_number(1);
    checkpoint.mutable_checkpoint()->set_step(50);
    checkpoint.mutable_checkpoint()->set_folder(name + "/attempt-1/checkpoints/50");
    *checkpoint.mutable_checkpoint()->add_files() = Write(name, "checkpoints/50/model", 10);
    Append(name, checkpoint);
    v1::WorkerReport last;
    last.set_number(2);
    last.mutable_outcome()->set_state(v1::Job::SUCCEEDED);
    last.mutable_outcome()->mutable_result()->set_steps(100);
    *last.mutable_outcome()->add_files() = Write(name, "final/model", bytes);
    Append(name, last);
    return name;
  }

  std::vector<v1::Artifact> List(const std::string& job) {
    grpc::ClientContext context;
    v1::ListArtifactsRequest request;
    request.set_parent(job);
    v1::ListArtifactsResponse response;
    const grpc::Status status = jobs_->ListArtifacts(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return {response.artifacts().begin(), response.artifacts().end()};
  }

  grpc::Status Read(const std::string& name, int64_t offset, std::string* data = nullptr) {
    grpc::ClientContext context;
    v1::ReadArtifactRequest request;
    request.set_name(name);
    request.set_offset(offset);
    auto reader = jobs_->ReadArtifact(&context, request);
    v1::ReadArtifactResponse response;
    int64_t next = offset;
    bool first = true;
    while (reader->Read(&response)) {
      EXPECT_EQ(response.offset(), next);
      EXPECT_EQ(response.has_artifact(), first);
      EXPECT_LE(response.data().size(), size_t{1} << 20);
      first = false;
      next += static_cast<int64_t>(response.data().size());
      if (data != nullptr) {
        *data += response.data();
      }
    }
    return reader->Finish();
  }

  std::string content_;  // of the file written last
};

TEST_F(ArtifactsTest, FilesAreListedAndReadFromAnyOffset) {
  Serve();
  constexpr size_t kBytes = 700'001;  // three pieces
  const std::string job = JobWithFiles(kBytes);
  const std::vector<v1::Artifact> artifacts = List(job);
  ASSERT_EQ(artifacts.size(), 2u);
  const v1::Artifact& final = artifacts[1];
  EXPECT_EQ(final.name(), job + "/artifacts/2");
  EXPECT_EQ(final.file_name(), "final.safetensors");
  EXPECT_EQ(final.bytes(), static_cast<int64_t>(kBytes));
  EXPECT_EQ(final.sha256(), common::Sha256Hex(content_));
  EXPECT_EQ(final.attempt(), 1);
  EXPECT_EQ(final.step(), 100);
  for (const int64_t offset : {int64_t{0}, int64_t{1}, int64_t{262'144}, int64_t{kBytes}}) {
    std::string data;
    const grpc::Status status = Read(final.name(), offset, &data);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(data, content_.substr(static_cast<size_t>(offset)));
  }
  const grpc::Status beyond = Read(final.name(), kBytes + 1);
  EXPECT_EQ(beyond.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(Reason(beyond), "OFFSET_OUT_OF_RANGE");
}

TEST_F(ArtifactsTest, WhatIsGoneOrChangedIsSaidClearly) {
  Serve();
  const std::string job = JobWithFiles(1000);
  const std::string attempt = options_.work_dir + "/" + job + "/attempt-1";
  // The worker replaced its checkpoint: not listed, not there.
  fs::remove_all(attempt + "/checkpoints");
  EXPECT_EQ(List(job).size(), 1u);
  EXPECT_EQ(Read(job + "/artifacts/1", 0).error_code(), grpc::StatusCode::NOT_FOUND);
  // Nobody replaces final weights.
  const std::string file = attempt + "/final/model";
  fs::resize_file(file, 999);
  const grpc::Status shorter = Read(job + "/artifacts/2", 0);
  EXPECT_EQ(shorter.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_THAT(shorter.error_message(), HasSubstr("999 bytes instead of 1000"));
  fs::remove(file);
  const grpc::Status gone = Read(job + "/artifacts/2", 0);
  EXPECT_EQ(gone.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_THAT(gone.error_message(), HasSubstr("run the job again"));
  EXPECT_EQ(List(job).size(), 1u);
}

TEST_F(ArtifactsTest, LinksLeadNowhere) {
  Serve();
  const std::string job = JobWithFiles(1000);
  const std::string final = options_.work_dir + "/" + job + "/attempt-1/final";
  // The same bytes, but through a link: of the file, then of its folder.
  fs::rename(final + "/model", options_.work_dir + "/elsewhere");
  fs::create_symlink(options_.work_dir + "/elsewhere", final + "/model");
  EXPECT_EQ(Read(job + "/artifacts/2", 0).error_code(), grpc::StatusCode::DATA_LOSS);
  fs::remove_all(final);
  fs::create_directory(options_.work_dir + "/other");
  fs::rename(options_.work_dir + "/elsewhere", options_.work_dir + "/other/model");
  fs::create_directory_symlink(options_.work_dir + "/other", final);
  EXPECT_EQ(Read(job + "/artifacts/2", 0).error_code(), grpc::StatusCode::DATA_LOSS);
}

TEST_F(ArtifactsTest, OnlyNamesFromTheListAreTaken) {
  Serve();
  const std::string job = JobWithFiles(10);
  for (const std::string& name :
       {job, job + "/artifacts/", job + "/artifacts/02", job + "/artifacts/../2",
        job + "/artifacts/-1", job + "/artifacts/2/x", std::string("/etc/passwd")}) {
    EXPECT_THAT(ViolatedFields(Read(name, 0)), ElementsAre("name")) << name;
  }
  EXPECT_EQ(Read(job + "/artifacts/3", 0).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Read("jobs/00000000000000000000/artifacts/1", 0).error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(ViolatedFields(Read(job + "/artifacts/2", -1)), ElementsAre("offset"));
}

}  // namespace
}  // namespace normlab::server
