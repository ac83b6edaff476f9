// Watching a job, and its metrics.
#include <cstdlib>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"

#include "client/cli/command_line_test_support.h"
#include "client/lib/npy.h"

#include "nlohmann/json.hpp"

namespace normlab::client {
namespace {

using nlohmann::json;
using normlab::v1::Job;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

TEST_F(CommandLineTest, WatchExitCodeSaysHowTheJobEnded) {
  EXPECT_EQ(Call({"watch", "ok"}).exit_code, 0);
  EXPECT_EQ(Call({"watch", "jobs/failed"}).exit_code, 1);
  EXPECT_EQ(Call({"watch", "cancelled"}).exit_code, 5);
  EXPECT_EQ(Call({"watch", "diverged", "--output", "json"}).exit_code, 6);
  EXPECT_EQ(Call({"watch", "missing"}).exit_code, 4);
  EXPECT_EQ(Call({"watch", "ok", "--after", "99"}).exit_code, 4);
  EXPECT_EQ(Call({"watch", "ok", "--after", "-1"}).exit_code, 2);
  EXPECT_EQ(Call({"watch"}).exit_code, 2);
  EXPECT_EQ(Call({"wach", "ok"}).exit_code, 2);
  EXPECT_EQ(RunWith({"get", "x", "--server", "127.0.0.1:1", "--retry-for", "0s"}).exit_code, 3);
  EXPECT_EQ(RunWith({"--help"}).exit_code, 0);
}

TEST_F(CommandLineTest, WatchInAPipePrintsPlainLines) {
  const Outcome outcome = Call({"watch", "ok"});
  EXPECT_THAT(outcome.err, IsEmpty());
  EXPECT_THAT(outcome.out, Not(HasSubstr("\x1b")));
  const std::vector<std::string> lines = Lines(outcome.out);
  ASSERT_THAT(lines, SizeIs(testing::Ge(7)));
  EXPECT_THAT(lines[0], HasSubstr(" QUEUED"));
  EXPECT_THAT(lines[1], HasSubstr(" RUNNING"));
  EXPECT_THAT(lines[2], HasSubstr("INFO  hello?[31m"));
  EXPECT_THAT(lines[3], StartsWith("step 1/9  epoch 1/3  train/loss 0.1"));
  EXPECT_EQ(lines[4], "evaluation at step 3: test/loss 2.5e-07  test/accuracy 50.00%");
  EXPECT_THAT(lines[5], StartsWith("step 5/9  epoch 2/3  train/loss -0"));  // the last one, always
  EXPECT_THAT(lines[6], HasSubstr(" SUCCEEDED: the end"));
  EXPECT_EQ(lines.back(), "test accuracy: 87.25%");
  EXPECT_THAT(outcome.out, Not(HasSubstr("test/accuracy  87.25%")));
  const Outcome failed = Call({"watch", "failed"});
  EXPECT_THAT(failed.out, HasSubstr("OUT_OF_MEMORY: needed more than was estimated"));
}

TEST_F(CommandLineTest, WatchAfterARecordShowsTheStepOfEachRecord) {
  // The snapshot of the job, and the heartbeat, are at its end.
  Job job = NamedJob("jobs/over", Job::SUCCEEDED);
  job.mutable_progress()->set_step(9);
  job.mutable_progress()->set_epoch(3);
  job.mutable_spec()->set_epochs(3);
  server_.AddJob(job, History(Job::SUCCEEDED));
  const std::vector<std::string> lines = Lines(Call({"watch", "over", "--after", "4"}).out);
  ASSERT_THAT(lines, SizeIs(testing::Ge(3)));
  EXPECT_THAT(lines[0], StartsWith("step 2/9  epoch 1/3  train/loss 0.3333"));
  EXPECT_THAT(lines[1], StartsWith("evaluation at step 3: "));
  EXPECT_THAT(lines[2], StartsWith("step 5/9  epoch 2/3  train/loss -0"));
  // 9 steps may be 2 epochs of 4 and a piece of the third: no epoch rather than a wrong one.
  job.mutable_spec()->set_steps(9);
  server_.AddJob(job, History(Job::SUCCEEDED));
  EXPECT_THAT(Call({"watch", "over", "--after", "4"}).out,
              StartsWith("step 2/9  train/loss 0.3333"));
}

TEST_F(CommandLineTest, EvaluationLinesLeaveTheLearningRateOut) {
  server_.AddJob(
      NamedJob("jobs/rates", Job::SUCCEEDED),
      {FakePoints{.step = 8, .values = {{"train/learning_rate", 0.1}, {"test/accuracy", 0.5}}},
       FakeState(Job::SUCCEEDED)});
  const std::vector<std::string> lines = Lines(Call({"watch", "rates"}).out);
  ASSERT_THAT(lines, SizeIs(testing::Ge(2)));
  EXPECT_EQ(lines[0], "evaluation at step 8: test/accuracy 50.00%");
  EXPECT_THAT(lines[1], HasSubstr(" SUCCEEDED"));  // no line of progress repeats it
}

TEST_F(CommandLineTest, WatchSaysWhenItIsConnectedAgain) {
  server_.DropStreams({2, 3});
  const Outcome outcome = Call({"watch", "ok"});
  EXPECT_EQ(outcome.exit_code, 0);
  const std::vector<std::string> lines = Lines(outcome.err);
  ASSERT_THAT(lines, SizeIs(4));
  EXPECT_THAT(lines[0], StartsWith("connection lost ("));
  EXPECT_EQ(lines[1], "connected again");
  EXPECT_THAT(lines[2], StartsWith("connection lost ("));
  EXPECT_EQ(lines[3], "connected again");
}

TEST_F(CommandLineTest, WatchJsonPrintsEveryRecordOnALine) {
  server_.DropStreams({2, 0, 3});
  const Outcome outcome = Call({"watch", "jobs/ok", "--output", "json"});
  const std::vector<std::string> lines = Lines(outcome.out);
  ASSERT_THAT(lines, SizeIs(10));
  for (size_t i = 0; i < lines.size(); ++i) {
    const json record = json::parse(lines[i]);
    EXPECT_EQ(record["sequence"], std::to_string(i + 1));
    EXPECT_EQ(record.size(), 2U);
  }
  EXPECT_EQ(lines[1], R"({"sequence":"2","state":{"state":"RUNNING"}})");
  EXPECT_EQ(
      lines[4],
      R"({"sequence":"5","metrics":{"step":"1","elapsedUs":"20","values":{"train/loss":0.3333333333333333}}})");
  EXPECT_EQ(
      lines[5],
      R"({"sequence":"6","metrics":{"step":"2","elapsedUs":"30","values":{"train/loss":"NaN"}}})");
  EXPECT_EQ(json::parse(lines[2])["log"]["text"], "hello\x1b[31m");
  EXPECT_EQ(json::parse(lines[9])["state"]["message"], "the end");
  const Outcome rest = Call({"watch", "ok", "--output", "json", "--after", "8"});
  EXPECT_THAT(Lines(rest.out), ElementsAre(lines[8], lines[9]));
}

TEST_F(CommandLineTest, MetricsCsvIsExact) {
  EXPECT_EQ(Call({"metrics", "ok"}).out,
            "step,train/loss,test/loss,test/accuracy\n"
            "0,0.1,,\n"
            "1,0.3333333333333333,,\n"
            "2,NaN,,\n"
            "3,Infinity,2.5e-07,0.5\n"
            "4,-0,,\n");
  EXPECT_EQ(
      Call({"metrics", "ok", "--series", "test/loss,train/loss", "--from", "3", "--to", "3"}).out,
      "step,test/loss,train/loss\n"
      "3,2.5e-07,Infinity\n");
  // A series without points in the range is an empty column, not a missing one.
  EXPECT_EQ(
      Call({"metrics", "ok", "--series", "test/loss", "--series", "train/loss", "--to", "0"}).out,
      "step,test/loss,train/loss\n0,,0.1\n");
  EXPECT_EQ(Call({"metrics", "ok", "--series", "nope"}).exit_code, 4);
}

TEST_F(CommandLineTest, MetricsJson) {
  EXPECT_EQ(Call({"metrics", "ok", "--format", "jsonl", "--from", "2", "--to", "3"}).out,
            "{\"step\":\"2\",\"values\":{\"train/loss\":\"NaN\"}}\n"
            "{\"step\":\"3\",\"values\":{\"train/loss\":\"Infinity\",\"test/loss\":2.5e-07,"
            "\"test/accuracy\":0.5}}\n");
  const json document = json::parse(Call({"metrics", "ok", "--output", "json"}).out);
  ASSERT_EQ(document["series"].size(), 3U);
  EXPECT_EQ(document["series"][0]["name"], "train/loss");
  EXPECT_EQ(document["series"][0]["steps"], json({"0", "1", "2", "3", "4"}));
  EXPECT_EQ(document["series"][0]["values"][1], 1.0 / 3);
  EXPECT_EQ(Call({"metrics", "ok", "--series", "test/loss", "--to", "0", "--format", "json"}).out,
            "{\"series\":[\n{\"name\":\"test/loss\",\"steps\":[],\"values\":[]}\n]}\n");
}

TEST_F(CommandLineTest, MetricsFollowEqualsMetrics) {
  server_.DropStreams({5});
  const Outcome follow = Call({"metrics", "ok", "--follow", "--series", "train/loss,test/loss"});
  EXPECT_EQ(follow.exit_code, 0);
  EXPECT_EQ(follow.out, Call({"metrics", "ok", "--series", "train/loss,test/loss"}).out);
  EXPECT_EQ(Call({"metrics", "ok", "--follow", "--format", "jsonl", "--from", "4"}).out,
            "{\"step\":\"4\",\"values\":{\"train/loss\":-0}}\n");
  EXPECT_EQ(Call({"metrics", "ok", "--follow"}).out, Call({"metrics", "ok"}).out);
  EXPECT_EQ(Call({"metrics", "nope", "--follow"}).out, "");  // not even a header
  EXPECT_EQ(Call({"metrics", "ok", "--follow", "--format", "json"}).exit_code, 2);
  EXPECT_EQ(Call({"metrics", "ok", "--follow", "--chart"}).exit_code, 2);
}

TEST_F(CommandLineTest, MetricsChartDrawsTheLoss) {
  const Outcome outcome = Call({"metrics", "ok", "--chart"});
  EXPECT_THAT(outcome.out,
              AllOf(StartsWith("train/loss\n"), HasSubstr("0.3333"), HasSubstr("step 0")));
  EXPECT_EQ(Call({"metrics", "ok", "--chart", "--format", "csv"}).exit_code, 2);
  EXPECT_EQ(Call({"metrics", "ok", "--chart", "--output", "json"}).exit_code, 2);
}

}  // namespace
}  // namespace normlab::client
