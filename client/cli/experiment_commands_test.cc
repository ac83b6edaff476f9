#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/command_line_test_support.h"
#include "client/cli/experiment_view.h"

#include <nlohmann/json.hpp>

namespace normlab::client {
namespace {

using normlab::v1::Experiment;
using normlab::v1::Job;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kBase[] = R"({"model": {"mlp": {}}, "data": {"fashion_mnist": {}}})";

// Two cells of two seeds.
Experiment Grid(const std::string& name, int succeeded, int diverged, int failed) {
  Experiment experiment;
  experiment.set_name(name);
  experiment.set_display_name("rates\x1b[31m");
  experiment.set_owner("local");
  normlab::v1::Axis& axis = *experiment.mutable_design()->add_axes();
  axis.set_field("optimizer.sgd.learning_rate");
  for (const char* value : {"0.1", "0.5"}) {
    axis.add_values(value);
    normlab::v1::Cell& cell = *experiment.add_cells();
    (*cell.mutable_values())["optimizer.sgd.learning_rate"] = value;
    cell.add_jobs("jobs/ok");
    cell.add_jobs("jobs/diverged");
    cell.mutable_counts()->set_succeeded(2);
  }
  experiment.mutable_counts()->set_succeeded(succeeded);
  experiment.mutable_counts()->set_diverged(diverged);
  experiment.mutable_counts()->set_failed(failed);
  const int ended = succeeded + diverged + failed;
  experiment.mutable_counts()->set_queued(4 - ended);
  if (ended == 4) {
    experiment.mutable_end_time()->set_seconds(1'700'000'000);
  }
  return experiment;
}

class ExperimentCommandsTest : public CommandLineTest {
 protected:
  // Not for the whole class: a few of these tests wait for the end of all retries.
  FakeExperiments& fake() { return server_.experiments(); }
};

TEST_F(ExperimentCommandsTest, SweepSendsTheDesign) {
  const Outcome outcome =
      Call({"sweep", "-", "--axis", "optimizer.sgd.learning_rate=0.1,0.5", "--axis",
            "normalization=none,{\"group\": {\"groups\": 4}}", "--seeds", "3", "--name", "mine",
            "--label", "k=v", "--request-id", "once"},
           kBase);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("experiments/new  mine\n"));
  EXPECT_THAT(outcome.out, HasSubstr("optimizer.sgd.learning_rate: 0.1, 0.5"));
  EXPECT_THAT(outcome.out, HasSubstr("Watch it with: normlab experiment watch experiments/new"));
  ASSERT_EQ(fake().create_requests().size(), 1u);
  const auto request = fake().create_requests()[0];
  EXPECT_EQ(request.request_id(), "once");
  EXPECT_EQ(request.experiment().display_name(), "mine");
  EXPECT_EQ(request.experiment().labels().at("k"), "v");
  EXPECT_TRUE(request.experiment().base().model().has_mlp());
  const normlab::v1::Design& design = request.experiment().design();
  ASSERT_EQ(design.axes_size(), 2);
  EXPECT_THAT(design.axes(1).values(), ElementsAre("none", "{\"group\": {\"groups\": 4}}"));
  EXPECT_THAT(design.seeds(), ElementsAre(1, 2, 3));
  EXPECT_FALSE(design.has_random());
}

TEST_F(ExperimentCommandsTest, SweepDrawsAndListsCells) {
  Outcome outcome =
      Call({"sweep", "--model", "mlp", "--data", "fashion_mnist", "--axis", "batch_size=int:8..64",
            "--random", "5", "--random-seed", "9", "--validate-only"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("the sweep is valid"));
  auto request = fake().create_requests().at(0);
  EXPECT_TRUE(request.validate_only());
  EXPECT_EQ(request.experiment().design().random().cells(), 5);
  EXPECT_EQ(request.experiment().design().random().seed(), 9u);
  EXPECT_TRUE(request.experiment().design().axes(0).range().integer());

  outcome = Call({"sweep", "--model", "mlp", "--data", "fashion_mnist", "--cells", "-", "-q"},
                 "- {batch_size: 8}\n- {batch_size: 16}\n");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "experiments/new\n");
  EXPECT_EQ(fake().create_requests().at(1).experiment().design().cells(1).values().at("batch_size"),
            "16");
}

TEST_F(ExperimentCommandsTest, SweepRefusesWhatItCannotRead) {
  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{"--axis", "normalization"},
                                             {"--seeds", "x"},
                                             {"--cells", "/nowhere"},
                                             {"--random", "0"},
                                             {"--axis", "a=[1"}}) {
    std::vector<std::string> arguments = {"sweep", "--model", "mlp"};
    arguments.insert(arguments.end(), wrong.begin(), wrong.end());
    const Outcome outcome = Call(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << wrong[0];
    EXPECT_THAT(outcome.err, HasSubstr(wrong[0])) << outcome.err;
  }
  EXPECT_TRUE(fake().create_requests().empty());
}

TEST_F(ExperimentCommandsTest, RefusedSweepsAreToldInOptionsButToProgramsInFields) {
  const grpc::Status refusal(grpc::StatusCode::INVALID_ARGUMENT,
                             "design.axes[0].values[1]: \"batsh\" is no value of normalization");
  fake().RefuseCreation(refusal);
  const std::vector<std::string> arguments = {"sweep", "-", "--axis", "normalization=none,batsh"};
  EXPECT_THAT(Call(arguments, kBase).err,
              HasSubstr("--axis normalization, value 2: \"batsh\" is no value"));
  fake().RefuseCreation(refusal);
  std::vector<std::string> json = arguments;
  json.insert(json.end(), {"--output", "json"});
  EXPECT_THAT(Call(json, kBase).err, HasSubstr("design.axes[0].values[1]"));
  fake().RefuseCreation(grpc::Status(
      grpc::StatusCode::INVALID_ARGUMENT,
      "\"GetJob (mine)\" is none; ListJobs (normlab list) shows the names of all ListJobs"));
  EXPECT_THAT(Call(arguments, kBase).err,
              HasSubstr("\"GetJob (mine)\" is none; normlab list shows the names of all ListJobs"));
}

TEST_F(ExperimentCommandsTest, SweepTellsHowToRepeatALostCall) {
  fake().RefuseCreation(grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, "too late"));
  const Outcome outcome = Call({"sweep", "-", "--axis", "steps=1,2", "--request-id", "r1"}, kBase);
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("--request-id r1"));
}

TEST_F(ExperimentCommandsTest, WatchInAPipeIsALineAChange) {
  fake().Put({Grid("experiments/a", 0, 0, 0), Grid("experiments/a", 2, 0, 0),
              Grid("experiments/a", 3, 1, 0)});
  const Outcome outcome = Call({"experiment", "watch", "a"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const std::vector<std::string> lines = Lines(outcome.out);
  EXPECT_EQ(lines[0], "experiments/a 0 of 4 jobs ended; 4 queued");
  EXPECT_EQ(lines[1], "experiments/a 2 of 4 jobs ended: 2 succeeded; 2 queued");
  EXPECT_EQ(lines[2], "experiments/a 4 of 4 jobs ended: 3 succeeded, 1 diverged");
  EXPECT_THAT(outcome.out, HasSubstr("normlab experiment summary experiments/a"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("\x1b[31m")));
}

TEST_F(ExperimentCommandsTest, WatchMendsABrokenConnectionAndSaysNothingTwice) {
  fake().Put({Grid("experiments/a", 1, 0, 0), Grid("experiments/a", 3, 0, 1)});
  fake().BreakNextWatch(1);
  const Outcome outcome = Call({"experiment", "watch", "experiments/a", "--output", "json"});
  EXPECT_EQ(outcome.exit_code, 1);  // a job failed
  const std::vector<std::string> lines = Lines(outcome.out);
  ASSERT_EQ(lines.size(), 2u) << outcome.out;
  EXPECT_EQ(nlohmann::json::parse(lines[1])["counts"]["succeeded"], 3);
  EXPECT_EQ(fake().watches(), 2);
}

TEST_F(ExperimentCommandsTest, WaitPrintsTheEnd) {
  Experiment ended = Grid("experiments/new", 2, 0, 0);
  ended.mutable_counts()->set_cancelled(2);
  ended.mutable_end_time()->set_seconds(1);
  // The creation overwrites this; the watch then sends what it made, until that has ended.
  fake().Put({Grid("experiments/a", 4, 0, 0)});
  const Outcome outcome = Call({"experiment", "watch", "a", "--output", "json"});
  EXPECT_EQ(outcome.exit_code, 0);
  fake().Put({ended});
  EXPECT_EQ(Call({"experiment", "watch", "experiments/new"}).exit_code, 5);
  EXPECT_EQ(Call({"experiment", "watch", "experiments/none"}).exit_code, 4);
}

TEST_F(ExperimentCommandsTest, GetListCancelDelete) {
  fake().Put({Grid("experiments/a", 1, 0, 0)});
  fake().Put({Grid("experiments/b", 4, 0, 0)});
  Outcome outcome = Call({"experiment", "get", "a"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("1 of 4 jobs ended: 1 succeeded; 3 queued"));
  EXPECT_THAT(outcome.out, HasSubstr("   0  0.1              2/2          2"));

  outcome = Call({"experiment", "list"});
  EXPECT_EQ(Lines(outcome.out).size(), 2u);
  EXPECT_THAT(outcome.err, HasSubstr("--page-token experiments/b"));
  outcome = Call({"experiment", "list", "--all"});
  EXPECT_EQ(Lines(outcome.out).size(), 3u);
  EXPECT_THAT(Lines(outcome.out)[2], StartsWith("experiments/b"));
  outcome = Call({"experiment", "list", "--all", "--output", "json"});
  EXPECT_EQ(nlohmann::json::parse(outcome.out)["experiments"].size(), 2u);

  outcome = Call({"experiment", "cancel", "experiments/a", "--output", "json"});
  EXPECT_EQ(nlohmann::json::parse(outcome.out)["counts"]["cancelled"], 3);
  outcome = Call({"experiment", "delete", "--force", "a", "b"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "deleted experiments/a with its jobs\ndeleted experiments/b with its jobs\n");
  EXPECT_TRUE(fake().delete_requests().at(0).force());
  EXPECT_EQ(Call({"experiment", "delete", "a"}).exit_code, 4);
  EXPECT_EQ(Call({"experiment", "delete", "--allow-missing", "a"}).exit_code, 0);
  EXPECT_EQ(Call({"experiment"}).exit_code, 2);
}

class ExperimentJobsTest : public ExperimentCommandsTest {
 protected:
  ExperimentJobsTest() {
    Experiment experiment = Grid("experiments/a", 1, 0, 0);
    experiment.mutable_counts()->set_queued(1);
    experiment.mutable_counts()->set_running(2);
    fake().Put({experiment});
    for (const auto& [name, state] :
         {std::pair{"jobs/p", Job::RUNNING}, std::pair{"jobs/q", Job::QUEUED},
          std::pair{"jobs/r", Job::RUNNING}, std::pair{"jobs/s", Job::PAUSED},
          std::pair{"jobs/t", Job::SUCCEEDED}, std::pair{"jobs/other", Job::RUNNING}}) {
      Job job = NamedJob(name, state);
      job.set_experiment(job.name() == "jobs/other" ? "experiments/b" : "experiments/a");
      server_.AddJob(job, {FakeState(state)});
    }
  }

  std::string StateOf(const std::string& job) {
    return nlohmann::json::parse(Call({"get", job, "--output", "json"}).out)["state"];
  }
};

TEST_F(ExperimentJobsTest, PauseAndResumeGoOverItsJobs) {
  Outcome outcome = Call({"experiment", "pause", "a"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              StartsWith("asked 3 jobs to pause; 2 left as they are: ended, paused or about to be\n"
                         "experiments/a  1 of 4 jobs ended"));
  for (const char* paused : {"p", "q", "r", "s"}) {
    EXPECT_EQ(StateOf(paused), "PAUSED") << paused;
  }
  EXPECT_EQ(StateOf("t"), "SUCCEEDED");
  EXPECT_EQ(StateOf("other"), "RUNNING");
  EXPECT_THAT(Call({"experiment", "pause", "a"}).out, StartsWith("asked 0 jobs to pause; 5 left"));

  outcome = Call({"experiment", "resume", "experiments/a", "--output", "json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(nlohmann::json::parse(outcome.out)["name"], "experiments/a");
  for (const char* resumed : {"p", "q", "r", "s"}) {
    EXPECT_EQ(StateOf(resumed), "QUEUED") << resumed;
  }
  EXPECT_EQ(Call({"experiment", "pause", "nobody"}).exit_code, 4);
}

TEST_F(ExperimentJobsTest, GetSaysWhichJobsDoNotGetOn) {
  EXPECT_THAT(Call({"experiment", "get", "a"}).out, Not(HasSubstr("jobs/r:")));
  Job silent = NamedJob("jobs/r", Job::RUNNING);
  silent.set_experiment("experiments/a");
  silent.set_queue_reason("no report for 40 s\x1b[2J");
  server_.AddJob(silent, {FakeState(Job::RUNNING)});
  EXPECT_THAT(Call({"experiment", "get", "a"}).out,
              HasSubstr("\n  jobs/r: no report for 40 s?[2J\n"));
  EXPECT_TRUE(nlohmann::json::accept(Call({"experiment", "get", "a", "--output", "json"}).out));
  // Nothing runs: why not.
  Experiment waits = Grid("experiments/a", 0, 0, 0);
  fake().Put({waits});
  Job queued = NamedJob("jobs/q", Job::QUEUED);
  queued.set_experiment("experiments/a");
  queued.set_queue_reason("waits for 4 cores: 1 of 4 free");
  server_.AddJob(queued, {FakeState(Job::QUEUED)});
  EXPECT_THAT(Call({"experiment", "get", "a"}).out,
              HasSubstr("\n  jobs/q: waits for 4 cores: 1 of 4 free\n"));
}

TEST_F(ExperimentCommandsTest, SummaryShowsIntervalsAndWhatIsMissing) {
  fake().Put({Grid("experiments/a", 3, 1, 0)});
  normlab::v1::ExperimentSummary summary;
  for (const char* value : {"0.1", "0.5"}) {
    normlab::v1::CellSummary& cell = *summary.add_cells();
    (*cell.mutable_values())["optimizer.sgd.learning_rate"] = value;
    normlab::v1::Statistic& statistic = *cell.add_statistics();
    statistic.set_series("test/accuracy");
    const bool first = summary.cells_size() == 1;
    statistic.set_n(first ? 2 : 1);
    statistic.set_mean(first ? 0.875 : 0.5);
    statistic.set_interval_low(first ? 0.85 : NAN);
    statistic.set_interval_high(first ? 0.9 : NAN);
    statistic.set_standard_deviation(first ? 0.01 : NAN);
    statistic.set_minimum(0.5);
    statistic.set_maximum(0.88);
    statistic.set_difference_mean(first ? 0 : -0.375);
    statistic.set_difference_low(NAN);
    statistic.set_difference_high(NAN);
    statistic.set_difference_n(1);
    cell.mutable_counts()->set_succeeded(first ? 2 : 1);
    cell.mutable_counts()->set_diverged(first ? 0 : 1);
  }
  fake().PutSummary(summary);
  const Outcome outcome = Call({"experiment", "summary", "a", "--baseline", "0", "--series",
                                "test/accuracy,train/loss", "--confidence", "0.9"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const std::vector<std::string> lines = Lines(outcome.out);
  ASSERT_EQ(lines.size(), 4u) << outcome.out;
  EXPECT_EQ(lines[0], "test/accuracy");
  EXPECT_THAT(lines[1], HasSubstr("90% INTERVAL"));
  EXPECT_THAT(lines[2], HasSubstr("0.85 .. 0.9"));
  EXPECT_THAT(lines[3], HasSubstr("-0.375"));
  EXPECT_THAT(lines[3], HasSubstr("1 diverged"));
  const auto request = fake().summarize_requests().at(0);
  EXPECT_EQ(request.name(), "experiments/a");
  EXPECT_EQ(request.baseline(), 0);
  EXPECT_TRUE(request.has_baseline());
  EXPECT_EQ(request.confidence(), 0.9);
  EXPECT_THAT(request.series(), ElementsAre("test/accuracy", "train/loss"));
}

TEST_F(ExperimentCommandsTest, CompareJobs) {
  const Outcome outcome = Call({"compare", "ok", "diverged"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("a  jobs/ok        SUCCEEDED"));
  EXPECT_THAT(outcome.out, HasSubstr("0.8725"));
  EXPECT_THAT(outcome.out, HasSubstr("\ntrain/loss\n"));
  EXPECT_THAT(outcome.out, HasSubstr("  b  jobs/diverged\n"));
  EXPECT_THAT(Call({"compare", "ok", "--no-chart"}).out, Not(HasSubstr("step")));
  const Outcome json = Call({"compare", "ok", "failed", "--output", "json"});
  EXPECT_EQ(nlohmann::json::parse(json.out)["jobs"][1]["state"], "FAILED");
  EXPECT_EQ(Call({"compare", "nobody"}).exit_code, 4);
}

TEST_F(ExperimentCommandsTest, CompareCellsOfAnExperiment) {
  fake().Put({Grid("experiments/a", 4, 0, 0)});
  const Outcome outcome = Call({"compare", "experiments/a"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("a  learning_rate 0.1 (first seed)"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("more cells")));
  EXPECT_THAT(outcome.out, Not(HasSubstr("ENDED")));  // the head of a table without lines
  EXPECT_EQ(Call({"compare", "experiments/a", "jobs/ok"}).exit_code, 2);
}

TEST(ExperimentViewTest, ManyCellsShowWhereSomethingHappens) {
  Experiment experiment;
  for (int i = 0; i < 40; ++i) {
    normlab::v1::Cell& cell = *experiment.add_cells();
    (*cell.mutable_values())["batch_size"] = absl::StrCat(1000 + i);
    cell.mutable_counts()->set_queued(i == 30 ? 0 : 3);
    cell.mutable_counts()->set_running(i == 30 ? 1 : 0);
  }
  const Output out(stdout, OutputStyle());
  const std::string text = CellTable(out, experiment, 5);
  EXPECT_THAT(text, HasSubstr("1030"));
  EXPECT_THAT(text, HasSubstr("1000"));
  EXPECT_THAT(text, Not(HasSubstr("1010")));
  EXPECT_THAT(text, HasSubstr("and 35 more cells"));
}

}  // namespace
}  // namespace normlab::client
