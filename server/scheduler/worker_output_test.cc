#include "server/scheduler/worker_output.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class WorkerOutputTest : public ::testing::Test {
 protected:
  ~WorkerOutputTest() override { std::remove(path_.c_str()); }

  std::vector<std::string> TextsOf(const std::string& log) {
    std::ofstream(path_, std::ios::binary) << log;
    std::vector<std::string> texts;
    for (const v1::Segment& record : OutputRecords(path_, 3, absl::FromUnixSeconds(77))) {
      EXPECT_EQ(record.log().attempt(), 3);
      EXPECT_EQ(record.log().time().seconds(), 77);
      EXPECT_EQ(record.log().severity(), v1::LogLine::INFO);
      texts.push_back(record.log().text());
    }
    return texts;
  }

  const std::string path_ = absl::StrCat(::testing::TempDir(), "/worker-output-", getpid(), ".log");
};

TEST_F(WorkerOutputTest, LeavesOutWhatTheWorkerSentItself) {
  EXPECT_THAT(
      TextsOf("modules loaded\n"
              "2026-11-23T05:39:30.921 info connected\n"
              "2026-11-23T05:39:31.000 warning a file is slow\n"
              "\n"
              "2026-11-23 is a date\r\n"
              "2026-11-23T05:39:31.001 nobody's level\n"
              "slurmstepd-n1: error: *** JOB 88 ON n1 CANCELLED AT 2026-11-23T05:40:01 ***"),
      ElementsAre("output: modules loaded", "output: 2026-11-23 is a date?",
                  "output: 2026-11-23T05:39:31.001 nobody's level",
                  "output: slurmstepd-n1: error: *** JOB 88 ON n1 CANCELLED AT "
                  "2026-11-23T05:40:01 ***"));
}

TEST_F(WorkerOutputTest, ThereMayBeNone) {
  EXPECT_THAT(OutputRecords("/nowhere/worker.log", 1, absl::Now()), IsEmpty());
  EXPECT_THAT(TextsOf(""), IsEmpty());
  EXPECT_THAT(TextsOf("2026-11-23T05:39:30.921 info connected\n"), IsEmpty());
}

TEST_F(WorkerOutputTest, TakesTheEndOfMuch) {
  std::string log;
  for (int i = 0; i < 1000; ++i) {
    absl::StrAppend(&log, "line ", i, "\n");
  }
  const std::vector<std::string> texts = TextsOf(log);
  ASSERT_EQ(texts.size(), 100u);
  EXPECT_EQ(texts.front(), "output: line 900");
  EXPECT_EQ(texts.back(), "output: line 999");
}

TEST_F(WorkerOutputTest, NoLineAndNoLogIsTooLong) {
  const std::vector<std::string> one = TextsOf(std::string(200'000, 'x'));
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0].size(), std::string("output: ").size() + 500);
  std::string log;
  for (int i = 0; i < 90; ++i) {
    absl::StrAppend(&log, std::string(499, 'y'), "\n");
  }
  EXPECT_EQ(TextsOf(log).size(), (16u << 10) / 499);
}

TEST_F(WorkerOutputTest, BytesThatAreNoTextDoNotGetIn) {
  EXPECT_THAT(TextsOf("a\xff\x1b[2Jb\n"), ElementsAre("output: a??[2Jb"));
}

}  // namespace
}  // namespace normlab::server
