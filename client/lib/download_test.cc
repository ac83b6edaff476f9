#include "client/lib/download.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "client/lib/testing/fake_jobs_service.h"
#include "client/lib/testing/fast_options.h"
#include "common/sha256.h"

namespace normlab::client {
namespace {

using normlab::v1::Artifact;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DownloadTest : public ::testing::Test {
 protected:
  DownloadTest()
      : folder_(absl::StrCat(::testing::TempDir(),
                             "/download-",
                             getpid(),
                             "-",
                             ::testing::UnitTest::GetInstance()->current_test_info()->name())),
        client_(FastOptions(server_.address())) {
    std::filesystem::create_directories(folder_);
    artifact_.set_name("jobs/a/artifacts/3");
    artifact_.set_file_name("final.safetensors");
    artifact_.set_bytes(static_cast<int64_t>(content_.size()));
    artifact_.set_sha256(common::Sha256Hex(content_));
  }
  ~DownloadTest() override { std::filesystem::remove_all(folder_); }

  std::string target() const { return folder_ + "/weights"; }
  std::string Target() const {
    std::stringstream text;
    text << std::ifstream(target(), std::ios::binary).rdbuf();
    return text.str();
  }
  void WritePart(const std::string& bytes) const {
    std::ofstream(target() + ".part", std::ios::binary) << bytes;
  }
  bool HasPart() const { return std::filesystem::exists(target() + ".part"); }

  const std::string content_ = "0123456789abcdefghijklm";  // five pieces of the fake server
  const std::string folder_;
  FakeServer server_;
  Client client_;
  Artifact artifact_;
};

TEST_F(DownloadTest, ComesOnceAcrossDrops) {
  server_.AddArtifact(artifact_, content_);
  server_.DropStreams({2, 0, 1});
  const absl::Status status = DownloadArtifact(client_, artifact_, target());
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Target(), content_);
  EXPECT_FALSE(HasPart());
  EXPECT_THAT(server_.artifact_offsets(), ElementsAre(0, 10, 10, 15));
  const auto listed = client_.ListArtifacts("a");
  ASSERT_TRUE(listed.ok()) << listed.status();
  ASSERT_EQ(listed->size(), 1u);
  EXPECT_EQ((*listed)[0].sha256(), artifact_.sha256());
}

TEST_F(DownloadTest, GoesOnFromWhatIsThere) {
  server_.AddArtifact(artifact_, content_);
  WritePart(content_.substr(0, 7));
  ASSERT_TRUE(DownloadArtifact(client_, artifact_, target()).ok());
  EXPECT_EQ(Target(), content_);
  EXPECT_THAT(server_.artifact_offsets(), ElementsAre(7));
  // A part that is longer than the file is of something else.
  std::filesystem::remove(target());
  WritePart(content_ + "more");
  ASSERT_TRUE(DownloadArtifact(client_, artifact_, target()).ok());
  EXPECT_EQ(Target(), content_);
}

TEST_F(DownloadTest, WrongBytesNeverGetTheirName) {
  server_.AddArtifact(artifact_, content_);
  WritePart("something");
  const absl::Status status = DownloadArtifact(client_, artifact_, target());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("SHA-256"));
  EXPECT_FALSE(std::filesystem::exists(target()));
  EXPECT_FALSE(HasPart());
  EXPECT_TRUE(DownloadArtifact(client_, artifact_, target()).ok());
}

TEST_F(DownloadTest, AnotherFileUnderTheNameIsNoticed) {
  Artifact newer = artifact_;
  newer.set_sha256(std::string(64, '0'));
  server_.AddArtifact(newer, content_);
  EXPECT_EQ(DownloadArtifact(client_, artifact_, target()).code(), absl::StatusCode::kAborted);
  EXPECT_FALSE(std::filesystem::exists(target()));
}

TEST_F(DownloadTest, FilesThatCannotBeWrittenAreNamed) {
  server_.AddArtifact(artifact_, content_);
  const absl::Status status = DownloadArtifact(client_, artifact_, folder_ + "/absent/weights");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("absent/weights"));
}

}  // namespace
}  // namespace normlab::client
