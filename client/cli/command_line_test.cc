#include "client/cli/command_line.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"

#include "client/lib/npy.h"
#include "client/lib/testing/fake_jobs_service.h"

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

struct Outcome {
  int exit_code = -1;
  std::string out;
  std::string err;
};

std::string ReadBack(std::FILE* file) {
  std::string text;
  std::rewind(file);
  for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) {
    text.push_back(static_cast<char>(c));
  }
  std::fclose(file);
  return text;
}

Outcome RunWith(const std::vector<std::string>& arguments, const std::string& input = "") {
  std::istringstream in(input);
  std::FILE* out = std::tmpfile();
  std::FILE* err = std::tmpfile();
  Outcome outcome;
  outcome.exit_code = RunCommandLine(arguments, in, out, err);
  outcome.out = ReadBack(out);
  outcome.err = ReadBack(err);
  return outcome;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  EXPECT_EQ(lines.back(), "") << "output must end with a line break: " << text;
  lines.pop_back();
  return lines;
}

Job NamedJob(const std::string& name, Job::State state) {
  Job job;
  job.set_name(name);
  job.set_state(state);
  job.mutable_progress()->set_total_steps(9);
  job.mutable_progress()->set_total_epochs(3);
  if (state == Job::SUCCEEDED) {
    (*job.mutable_result()->mutable_final_metrics())["test/accuracy"] = 0.8725;
    job.mutable_result()->set_steps(9);
  }
  if (state == Job::FAILED) {
    job.mutable_failure()->set_reason(normlab::v1::FailureReason::OUT_OF_MEMORY);
    job.mutable_failure()->set_message("needed more than was estimated");
  }
  return job;
}

// States, a log line, training points at steps 0..4 and one evaluation at step 3.
std::vector<FakeRecord> History(Job::State end) {
  return {FakeState(Job::QUEUED),
          FakeState(Job::RUNNING),
          FakeLog("hello\x1b[31m"),
          FakePoints{.step = 0, .elapsed_us = 10, .values = {{"train/loss", 0.1}}},
          FakePoints{.step = 1, .elapsed_us = 20, .values = {{"train/loss", 1.0 / 3}}},
          FakePoints{.step = 2, .elapsed_us = 30, .values = {{"train/loss", std::nan("")}}},
          FakePoints{.step = 3, .values = {{"test/loss", 2.5e-7}, {"test/accuracy", 0.5}}},
          FakePoints{.step = 3, .elapsed_us = 40, .values = {{"train/loss", INFINITY}}},
          FakePoints{.step = 4, .elapsed_us = 50, .values = {{"train/loss", -0.0}}},
          FakeState(end, "the end")};
}

class CommandLineTest : public testing::Test {
 protected:
  CommandLineTest() {
    for (const auto& [id, state] :
         std::vector<std::pair<std::string, Job::State>>{{"ok", Job::SUCCEEDED},
                                                         {"failed", Job::FAILED},
                                                         {"cancelled", Job::CANCELLED},
                                                         {"diverged", Job::DIVERGED}}) {
      server_.AddJob(NamedJob(absl::StrCat("jobs/", id), state), History(state));
    }
  }

  Outcome Call(std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.end(), {"--server", server_.address(), "--retry-for", "5s"});
    return RunWith(arguments, input);
  }

  FakeServer server_;
};

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

TEST_F(CommandLineTest, UnknownCommandsAreNamed) {
  Outcome outcome = RunWith({"submt", "--model", "mlp"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("unknown command \"submt\"; did you mean submit?\n"));
  outcome = RunWith({"--server", "127.0.0.1:1", "frobnicate"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("unknown command \"frobnicate\"; use one of submit, "));
  outcome = RunWith({"get", "ok", "--sett"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, Not(HasSubstr("unknown command")));
  EXPECT_THAT(RunWith({}).err, HasSubstr("normlab --help"));
}

TEST_F(CommandLineTest, VersionOption) {
  const Outcome outcome = RunWith({"--version"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.out, Lines(RunWith({"version", "--server", "127.0.0.1:1"}).out)[0] + "\n");
}

TEST_F(CommandLineTest, ListAndGetShowTheExperiment) {
  Job job = NamedJob("jobs/a", Job::RUNNING);
  job.mutable_spec()->mutable_model()->mutable_mlp()->set_activation(
      normlab::v1::Activation::SIGMOID);
  job.mutable_spec()->mutable_normalization()->mutable_batch();
  job.mutable_spec()->mutable_optimizer()->mutable_sgd()->set_momentum(0.9);
  normlab::v1::Data& data = *job.mutable_spec()->mutable_data();
  data.mutable_arrays()->set_path("mine.npz");
  data.set_train_limit(500);
  data.mutable_augmentation()->set_pad_and_crop(4);
  data.mutable_augmentation()->set_flip(true);
  data.mutable_augmentation()->set_cutout(16);
  server_.AddJob(job, {});
  EXPECT_THAT(
      Call({"get", "a"}).out,
      AllOf(HasSubstr("  model          mlp 100x3, sigmoid\n"),
            HasSubstr("  data           arrays mine.npz, 500 training examples, crop 4, flip, "
                      "cutout 16\n"),
            HasSubstr("  normalization  batch\n"),
            HasSubstr("  optimizer      sgd, learning rate 0.1, momentum 0.9\n")));
  job.set_name("jobs/b");
  job.clear_spec();
  for (const int width : {256, 128, 64}) {
    job.mutable_spec()->mutable_model()->mutable_mlp()->add_hidden(width);
  }
  server_.AddJob(job, {});
  job.set_name("jobs/c");
  job.mutable_spec()->mutable_model()->mutable_cnn();
  server_.AddJob(job, {});
  const std::string list = Call({"list", "--all"}).out;
  EXPECT_THAT(list, testing::ContainsRegex("STATE +NET +NORM +STEP"));
  EXPECT_THAT(list, testing::ContainsRegex("jobs/a +RUNNING +mlp 100x3 +batch +0/9"));
  EXPECT_THAT(list, testing::ContainsRegex("jobs/b +RUNNING +mlp 256-128-64 +none +0/9"));
  EXPECT_THAT(list, testing::ContainsRegex("jobs/c +RUNNING +cnn +none +0/9"));
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

TEST_F(CommandLineTest, SubmitPrintsTheJobAndRetriesWithOneId) {
  server_.FailCalls(2, grpc::Status(grpc::StatusCode::UNAVAILABLE, "restarting"));
  const Outcome outcome = Call(
      {"submit", "-", "--output", "json", "--set", "epochs=2", "--label", "a=b=c", "--name", "x y"},
      "{model: {mlp: {}}, data: {mnist: {}}}");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(json::parse(outcome.out)["name"], "jobs/new5");
  const std::vector<normlab::v1::CreateJobRequest> requests = server_.create_requests();
  ASSERT_THAT(requests, SizeIs(3));
  EXPECT_EQ(requests[0].request_id(), requests[2].request_id());
  EXPECT_EQ(requests[2].job().spec().labels().at("a"), "b=c");
  EXPECT_EQ(requests[2].job().spec().display_name(), "x y");
  EXPECT_EQ(requests[2].job().spec().epochs(), 2);
  EXPECT_EQ(Call({"submit", "-q", "--model", "mlp", "--data", "mnist", "--request-id", "same"}).out,
            "jobs/new6\n");
  EXPECT_EQ(Call({"submit", "-q", "--model", "mlp", "--data", "mnist", "--request-id", "same"}).out,
            "jobs/new6\n");
}

TEST_F(CommandLineTest, SubmitWaitWatchesToTheEnd) {
  const Outcome text = Call({"submit", "--model", "cnn", "--data", "mnist", "--wait"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("SUCCEEDED"));
  const Outcome outcome =
      Call({"submit", "--model", "cnn", "--data", "mnist", "--wait", "--output", "json"});
  EXPECT_EQ(json::parse(outcome.out)["state"], "SUCCEEDED");  // one document
}

TEST_F(CommandLineTest, InvalidSpecsNameTheirPlace) {
  const std::string path = absl::StrCat(testing::TempDir(), "/normlab_cli_test_spec.yaml");
  std::ofstream(path) << "model:\n  mlp: {}\nbatch_size: -3\nsed: 4\n";
  Outcome outcome = Call({"submit", path});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err,
              HasSubstr(absl::StrCat(path, ":4:1: sed: unknown field; did you mean seed?\n")));
  EXPECT_THAT(server_.create_requests(), IsEmpty());
  // What only the server knows is shown at its line as well.
  std::ofstream(path) << "model:\n  mlp: {}\nbatch_size: -3\n";
  outcome = Call({"validate", path});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err, HasSubstr(absl::StrCat(path, ":3:13: batch_size: is negative")));
  const json error = json::parse(Call({"submit", path, "--output", "json"}).err)["error"];
  EXPECT_EQ(error["status"], "INVALID_ARGUMENT");
  EXPECT_EQ(error["details"][0]["fieldViolations"][0]["field"], "batch_size");
  std::remove(path.c_str());
  EXPECT_EQ(Call({"submit", path}).exit_code, 4);
  EXPECT_EQ(Call({"submit"}).exit_code, 2);
  outcome = Call({"validate", "--model", "mlp", "--data", "mnist", "--set", "batch_size=7"});
  EXPECT_EQ(outcome.err, "The spec is valid: 1 core, 1.0 MiB, 0 parameters.\n");
  EXPECT_EQ(json::parse(outcome.out)["batch_size"], 7);  // a spec file again
  EXPECT_EQ(Call({"validate", "-", "--local"}, outcome.out).out, outcome.out);
}

TEST_F(CommandLineTest, NormalizeReadsAndPrintsArrays) {
  const Outcome outcome =
      Call({"normalize", "--spec", "{batch: {epsilon: 0.5}}", "--input", "-", "--output-gradient",
            "[[1, 0], [0, 0.1]]", "--parameter", "weight=[1, 2]", "--parameter", "tau=[\"NaN\"]",
            "--inference", "--seed", "7", "--step", "9"},
           "[[1, 2],\n [3, 4.5]]");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const json printed = json::parse(outcome.out);
  EXPECT_EQ(printed["output"], json::parse("[[2, 4], [6, 9]]"));
  EXPECT_EQ(printed["input_gradient"], json::parse("[[1, 0], [0, 0.1]]"));
  EXPECT_EQ(printed["parameter_gradients"]["weight"][1][1], 0.1);
  EXPECT_EQ(printed["statistics"]["mean"], 0.1);
  EXPECT_EQ(printed["implementation"], "doubling");
  const auto requests = server_.normalize_requests();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].normalizer().batch().epsilon(), 0.5);
  EXPECT_THAT(requests[0].input().dims(), ElementsAre(2, 2));
  EXPECT_THAT(requests[0].parameters().at("weight").values(), ElementsAre(1, 2));
  EXPECT_TRUE(std::isnan(requests[0].parameters().at("tau").values(0)));
  EXPECT_EQ(requests[0].statistics(), normlab::v1::Statistics::INFERENCE);
  EXPECT_EQ(requests[0].seed(), 7U);
  EXPECT_EQ(requests[0].step(), 9);

  const Outcome plain = Call({"normalize", "--spec", "batch", "--input", "[[1], [2]]"});
  EXPECT_FALSE(json::parse(plain.out).contains("input_gradient"));
  EXPECT_EQ(server_.normalize_requests().back().statistics(), normlab::v1::Statistics::TRAINING);
  EXPECT_TRUE(server_.normalize_requests().back().normalizer().has_batch());
}

TEST_F(CommandLineTest, NormalizeWritesFiles) {
  const std::string place = absl::StrCat(testing::TempDir(), "/normlab_cli_normalize");
  Outcome outcome = Call({"normalize", "--spec", "none", "--input", "[[1, 2]]", "--output-gradient",
                          "[[3, 4]]", "-o", place});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  std::ifstream file(place + "/output.npy", std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  const absl::StatusOr<normlab::v1::Tensor> output = ParseNpy(bytes.str());
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_THAT(output->values(), ElementsAre(2, 4));
  for (const char* name :
       {"/input_gradient.npy", "/parameter_gradients.weight.npy", "/statistics.mean.npy"}) {
    EXPECT_TRUE(std::ifstream(place + name).good()) << name;
  }
  std::filesystem::remove_all(place);
  outcome = Call({"normalize", "--spec", "none", "--input", "[[1, 2]]", "-o", place + ".json"});
  EXPECT_EQ(json::parse(std::ifstream(place + ".json"))["output"], json::parse("[[2, 4]]"));
  std::remove((place + ".json").c_str());
  EXPECT_EQ(
      Call({"normalize", "--spec", "none", "--input", "[[1]]", "-o", "/no/such/x.json"}).exit_code,
      4);
}

TEST_F(CommandLineTest, NormalizeNamesWhatIsWrong) {
  const std::string path = absl::StrCat(testing::TempDir(), "/normlab_cli_normalizer.yaml");
  std::ofstream(path) << "batch:\n  epsilon: -1\n";
  Outcome outcome = Call({"normalize", "--spec", path, "--input", "[[1], [2]]"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err,
              HasSubstr(absl::StrCat(path, ":2:12: normalizer.batch.epsilon: is negative")));
  std::remove(path.c_str());
  outcome = Call({"normalize", "--spec", "{batch: {epsilonn: 1}}", "--input", "[[1], [2]]"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err, HasSubstr("--spec:1:10: normalizer.batch.epsilonn: unknown field"));
  outcome = Call({"normalize", "--spec", "batch", "--input", "[[1], [2, 3]]"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err, HasSubstr("--input the array at [1]"));
  EXPECT_EQ(Call({"normalize", "--spec", "batch"}).exit_code, 2);
  EXPECT_EQ(
      Call({"normalize", "--spec", "batch", "--input", "[[1]]", "--parameter", "weight"}).exit_code,
      2);
  EXPECT_EQ(Call({"normalize", "--spec", "-", "--input", "-"}, "{batch: {}}").exit_code, 2);
  EXPECT_THAT(server_.normalize_requests(), SizeIs(1)) << "only the first was worth sending";
}

TEST_F(CommandLineTest, ErrorsAreJsonWhenAskedFor) {
  const json refused = json::parse(Call({"get", "nope", "--output", "json"}).err)["error"];
  EXPECT_EQ(refused["status"], "NOT_FOUND");
  EXPECT_THAT(refused["message"].get<std::string>(), HasSubstr("normlab list"));
  EXPECT_EQ(json::parse(RunWith({"get", "--output=json"}).err)["error"]["status"],
            "INVALID_ARGUMENT");
}

TEST_F(CommandLineTest, ListPagesThroughAll) {
  const json page = json::parse(Call({"list", "--page-size", "3", "--output", "json"}).out);
  EXPECT_EQ(page["jobs"].size(), 3U);
  EXPECT_NE(page["nextPageToken"], "");
  normlab::v1::ListJobsResponse parsed;
  const Outcome all = Call({"list", "--page-size", "1", "--all", "--output", "json"});
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(all.out, &parsed).ok()) << all.out;
  EXPECT_EQ(parsed.jobs_size(), 4);
  const std::vector<std::string> lines = Lines(Call({"list", "--all", "--page-size", "2"}).out);
  ASSERT_THAT(lines, SizeIs(5));
  EXPECT_THAT(lines[0], StartsWith("NAME"));
  EXPECT_THAT(lines[4], AllOf(StartsWith("jobs/ok"), HasSubstr("87.25%")));
}

TEST_F(CommandLineTest, GetCancelLogsAndVersion) {
  EXPECT_THAT(Call({"get", "failed"}).out, HasSubstr("OUT_OF_MEMORY"));
  EXPECT_EQ(json::parse(Call({"get", "ok", "--output", "json"}).out)["result"]["steps"], "9");
  EXPECT_EQ(Call({"cancel", "ok"}).exit_code, 4);
  server_.AddJob(NamedJob("jobs/live", Job::RUNNING), {FakeState(Job::RUNNING)});
  EXPECT_EQ(json::parse(Call({"cancel", "live", "--output", "json"}).out)["state"], "CANCELLED");
  EXPECT_THAT(Call({"logs", "ok", "--follow"}).out, HasSubstr("INFO  hello?[31m\n"));
  EXPECT_EQ(
      Call({"logs", "ok", "--output", "json"}).out,
      "{\"sequence\":\"3\",\"line\":{\"severity\":\"INFO\",\"text\":\"hello\\u001b[31m\"}}\n");
  EXPECT_EQ(Call({"logs", "ok", "--after", "3"}).out, "");
  EXPECT_THAT(Call({"version"}).out, HasSubstr("normlabd 9.8.7"));
  const json version = json::parse(Call({"version", "--output", "json"}).out);
  EXPECT_EQ(version["server"]["version"], "9.8.7");
  EXPECT_EQ(RunWith({"version", "--server", "127.0.0.1:1"}).exit_code, 0);
}

TEST_F(CommandLineTest, PauseResumeUpdateDelete) {
  Job live = NamedJob("jobs/live", Job::RUNNING);
  live.set_queue_reason("waits for 2 cores: 1 of 2 free, 3 jobs before it");
  server_.AddJob(live, {FakeState(Job::RUNNING)});
  EXPECT_EQ(Call({"resume", "live"}).exit_code, 4);
  EXPECT_EQ(json::parse(Call({"pause", "live", "--output", "json"}).out)["state"], "PAUSED");
  EXPECT_EQ(Call({"pause", "ok"}).exit_code, 4);
  const Outcome resumed = Call({"resume", "jobs/live"});
  EXPECT_EQ(resumed.exit_code, 0);
  EXPECT_THAT(resumed.out, AllOf(HasSubstr("QUEUED"), HasSubstr("3 jobs before it")));
  EXPECT_THAT(Call({"list"}).out, HasSubstr("waits for 2 cores"));

  EXPECT_EQ(Call({"update", "ok"}).exit_code, 2);
  EXPECT_EQ(Call({"update", "ok", "--set", "steps=5"}).exit_code, 2);
  EXPECT_EQ(Call({"update", "ok", "--set", "priority=high"}).exit_code, 2);
  EXPECT_EQ(Call({"update", "ok", "--unset", "priority"}).exit_code, 2);
  EXPECT_EQ(Call({"update", "ok", "--set", "labels.a=b=c", "--set", "priority=-3", "--unset",
                  "labels.old", "--set", "display_name="})
                .exit_code,
            0);
  ASSERT_THAT(server_.update_requests(), SizeIs(1));
  const normlab::v1::UpdateJobRequest request = server_.update_requests()[0];
  EXPECT_EQ(request.job().name(), "jobs/ok");
  EXPECT_EQ(request.job().labels().at("a"), "b=c");
  EXPECT_EQ(request.job().priority(), -3);
  EXPECT_EQ(request.job().labels().count("old"), 0U);
  EXPECT_THAT(std::vector<std::string>(request.update_mask().paths().begin(),
                                       request.update_mask().paths().end()),
              ElementsAre("labels.a", "priority", "display_name", "labels.old"));

  EXPECT_EQ(Call({"delete", "nothing"}).exit_code, 4);
  EXPECT_EQ(Call({"delete", "nothing", "--allow-missing"}).exit_code, 0);
  EXPECT_EQ(Call({"delete", "ok", "live", "--force"}).out, "deleted jobs/ok\ndeleted jobs/live\n");
  EXPECT_TRUE(server_.delete_requests().back().force());
  EXPECT_EQ(Call({"get", "ok"}).exit_code, 4);
  // The first answer is lost: that the second call finds nothing is no error.
  server_.AddJob(NamedJob("jobs/again", Job::FAILED), {FakeState(Job::FAILED)});
  server_.FailCalls(1, grpc::Status(grpc::StatusCode::UNAVAILABLE, "lost"));
  EXPECT_EQ(Call({"delete", "again"}).exit_code, 0);
}

TEST_F(CommandLineTest, ServerComesFromTheEnvironment) {
  ASSERT_EQ(setenv("NORMLAB_SERVER", server_.address().c_str(), 1), 0);
  EXPECT_EQ(RunWith({"get", "ok"}).exit_code, 0);
  ASSERT_EQ(unsetenv("NORMLAB_SERVER"), 0);
}

TEST_F(CommandLineTest, EveryCommandHasHelpWithExamples) {
  for (const char* command : {"submit", "validate", "watch", "logs", "list", "get", "cancel",
                              "pause", "resume", "update", "delete", "metrics", "normalize"}) {
    const Outcome outcome = RunWith({command, "--help"});
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_THAT(outcome.out, AllOf(HasSubstr("Examples:"), HasSubstr("normlab --help"))) << command;
    for (const std::string& line : Lines(outcome.out)) {
      EXPECT_LE(line.size(), 105U) << line;
    }
  }
}

}  // namespace
}  // namespace normlab::client
