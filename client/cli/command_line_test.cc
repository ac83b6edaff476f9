#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
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
  const std::string path =
      absl::StrCat(testing::TempDir(), "/normlab_cli_test_spec.", getpid(), ".yaml");
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
  EXPECT_THAT(Call({"validate", "-", "--local"}, "{model: {mlpp: {}}}").err,
              HasSubstr("<stdin>:1:10: "));
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

// As rm does: each for itself, and the exit code of the worst.
TEST_F(CommandLineTest, VerbsTakeSeveralJobs) {
  for (const char* name : {"jobs/one", "jobs/two"}) {
    server_.AddJob(NamedJob(name, Job::RUNNING), {FakeState(Job::RUNNING)});
  }
  Outcome outcome = Call({"pause", "one", "ok", "jobs/two"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_EQ(outcome.out, "jobs/one  PAUSED\njobs/two  PAUSED\n");
  EXPECT_THAT(outcome.err, HasSubstr("jobs/ok is SUCCEEDED"));
  outcome = Call({"resume", "one", "two"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "jobs/one  QUEUED\njobs/two  QUEUED\n");
  outcome = Call({"cancel", "one", "nobody", "two", "--output", "json"});
  EXPECT_EQ(outcome.exit_code, 4);
  ASSERT_THAT(Lines(outcome.out), SizeIs(2));
  EXPECT_EQ(json::parse(Lines(outcome.out)[1])["name"], "jobs/two");
  EXPECT_EQ(json::parse(Lines(outcome.out)[1])["state"], "CANCELLED");
  EXPECT_EQ(json::parse(outcome.err)["error"]["status"], "NOT_FOUND");
  outcome = Call({"delete", "nobody", "one", "two"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_EQ(outcome.out, "deleted jobs/one\ndeleted jobs/two\n");
  // Nobody waits for a server that is gone once for every name.
  outcome = RunWith({"cancel", "a", "b", "c", "--server", "127.0.0.1:1", "--retry-for", "0s"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("not tried: 2 others, from b on"));
}

TEST_F(CommandLineTest, NamesOfExperimentsAreToldTheirCommand) {
  for (const char* verb : {"get", "watch", "cancel", "pause", "resume", "delete"}) {
    const Outcome outcome = Call({verb, "experiments/abc"});
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err,
                HasSubstr(absl::StrCat("normlab experiment ", verb, " experiments/abc")));
  }
  for (const char* verb : {"logs", "metrics", "artifacts", "update"}) {
    const Outcome outcome = Call({verb, "experiments/abc"});
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err, HasSubstr("normlab list --filter experiment=experiments/abc"));
  }
  for (const char* verb : {"get", "watch", "cancel", "pause", "resume", "delete"}) {
    const Outcome outcome = Call({"experiment", verb, "jobs/abc"});
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err,
                HasSubstr(absl::StrCat("jobs/abc is a job: normlab ", verb, " jobs/abc")));
  }
  EXPECT_THAT(Call({"experiment", "summary", "jobs/abc"}).err, HasSubstr("normlab get jobs/abc"));
  EXPECT_EQ(server_.calls(), 0);
}

TEST_F(CommandLineTest, ServerComesFromTheEnvironment) {
  ASSERT_EQ(setenv("NORMLAB_SERVER", server_.address().c_str(), 1), 0);
  EXPECT_EQ(RunWith({"get", "ok"}).exit_code, 0);
  ASSERT_EQ(unsetenv("NORMLAB_SERVER"), 0);
}

// Only a job that is not there may be an experiment: whoever refuses or fails a call is not asked in other words.
TEST_F(CommandLineTest, ReportBelievesARefusalAtOnce) {
  server_.FailCalls(9, grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "not with this token"));
  const Outcome outcome = Call({"report", "ok", "-o", "-", "--format", "md"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err, HasSubstr("not with this token"));
  EXPECT_EQ(server_.calls(), 1);
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
