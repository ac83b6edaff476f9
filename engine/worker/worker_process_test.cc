// Runs of the program that come to a result.

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "engine/worker/worker_process_fixture.h"

namespace normlab::engine {
namespace {

TEST_F(WorkerProcessTest, TrainsReportsAndEnds) {
  constexpr int32_t kSteps = 60;
  const Finished run = RunToTheEnd(Spec(kSteps), 1);
  const FakeServer::Seen seen = server_->seen();
  ASSERT_EQ(seen.hellos.size(), 1U);
  EXPECT_EQ(seen.hellos[0].protocol_version(), 1);
  EXPECT_EQ(seen.hellos[0].job(), "jobs/abc");
  EXPECT_EQ(seen.hellos[0].attempt(), 1);
  EXPECT_EQ(seen.hellos[0].secret(), "sesame");
  EXPECT_EQ(seen.hellos[0].plan().total_steps(), kSteps);
  EXPECT_EQ(seen.hellos[0].plan().total_epochs(), 5);  // 13 whole batches an epoch
  EXPECT_TRUE(server_->WaitFor([](const FakeServer::Seen& now) { return now.finished; }));

  EXPECT_EQ(run.outcome.state(), v1::Job::SUCCEEDED) << run.outcome.ShortDebugString();
  EXPECT_EQ(run.outcome.result().steps(), kSteps);
  EXPECT_EQ(run.outcome.result().weights_sha256().size(), 64U);
  EXPECT_GT(run.outcome.result().implementations_size(), 0);
  EXPECT_GT(run.outcome.result().training_seconds(), 0);

  int64_t losses = 0;
  int64_t tests = 0;
  for (const UnpackedPoint& point : run.points) {
    if (point.series == "train/loss") {
      EXPECT_EQ(point.step, losses++);
    } else if (point.series == "test/accuracy") {
      ++tests;
      EXPECT_TRUE(point.step % 17 == 0 || point.step == kSteps) << point.step;
    }
  }
  EXPECT_EQ(losses, kSteps);
  EXPECT_EQ(tests, 5);  // 0, 17, 34, 51 and the end
  EXPECT_GT(run.outcome.result().final_metrics().at("test/accuracy"), 0.5);  // it learns

  int64_t examples = 0;
  int64_t step_seconds = 0;
  bool told_the_plan = false;
  for (const v1::WorkerReport& report : seen.reports) {
    examples += report.examples();
    step_seconds += report.step_seconds_size();
    for (const v1::Segment& segment : report.segments()) {
      told_the_plan |= segment.log().severity() == v1::LogLine::INFO &&
                       absl::StrContains(segment.log().text(), "oneDNN") &&
                       absl::StrContains(segment.log().text(), "implementations: ") &&
                       absl::StrContains(segment.log().text(), "normlab:columns ");
    }
  }
  EXPECT_EQ(examples, kSteps * kBatchSize);
  EXPECT_EQ(step_seconds, kSteps);
  EXPECT_TRUE(told_the_plan);
  const v1::Progress& progress = seen.reports.back().progress();
  EXPECT_EQ(progress.step(), kSteps);
  EXPECT_EQ(progress.total_steps(), kSteps);
  EXPECT_GT(progress.examples_per_second(), 0);
  EXPECT_EQ(progress.latest_metrics().at("train/loss"),
            run.outcome.result().final_metrics().at("train/loss"));
}

TEST_F(WorkerProcessTest, TwoRunsAreEqualBitForBit) {
  const Finished first = RunToTheEnd(Spec(45), 1);
  const Finished second = RunToTheEnd(Spec(45), 2);
  ASSERT_FALSE(first.points.empty());
  EXPECT_EQ(first.points, second.points);
  EXPECT_EQ(first.outcome.result().weights_sha256(), second.outcome.result().weights_sha256());
}

TEST_F(WorkerProcessTest, TakesPathsRelativeToWhereItIsStarted) {
  server_->Start();
  v1::JobSpec spec = Spec(20);
  spec.mutable_checkpoint()->set_every_steps(7);
  v1::WorkerAssignment assignment = Assignment(spec);
  const auto relative = [](const std::string& path) {
    return std::filesystem::relative(path).string();
  };
  assignment.set_attempt_folder(relative(assignment.attempt_folder()));
  assignment.set_data_cache(relative(assignment.data_cache()));
  assignment.set_server("unix:" + relative(server_->target().substr(std::string("unix:").size())));
  StartRun(assignment);
  ASSERT_EQ(Wait(), common::kExitDone) << Log();
  EXPECT_EQ(Collect().outcome.state(), v1::Job::SUCCEEDED);
  const FakeServer::Seen seen = server_->seen();
  const auto announced =
      std::find_if(seen.reports.begin(), seen.reports.end(),
                   [](const v1::WorkerReport& report) { return report.has_checkpoint(); });
  ASSERT_NE(announced, seen.reports.end());
  EXPECT_EQ(announced->checkpoint().folder(), "jobs/abc/attempt-1/checkpoints/step-000000007");
}

TEST_F(WorkerProcessTest, BrokenConnectionsAndARestartedServerChangeNothing) {
  const v1::JobSpec spec = Spec(3000);
  const Finished undisturbed = RunToTheEnd(spec, 1);

  NewServer();
  int calls = 0;
  server_->SetScript([&calls](const v1::WorkerReport&) {
    ++calls;
    return calls % 5 == 2   ? Reaction::kStoreAndDrop
           : calls % 5 == 4 ? Reaction::kLoseAndDrop
                            : Reaction::kAcknowledge;
  });
  StartRun(Assignment(spec, 2));
  ASSERT_TRUE(
      server_->WaitFor([](const FakeServer::Seen& seen) { return seen.hellos.size() >= 2; }));
  server_->Stop();
  server_->Start();
  ASSERT_EQ(Wait(), common::kExitDone) << Log();
  const Finished disturbed = Collect();
  EXPECT_EQ(disturbed.points, undisturbed.points);
  EXPECT_EQ(disturbed.outcome.result().weights_sha256(),
            undisturbed.outcome.result().weights_sha256());
}

TEST_F(WorkerProcessTest, AnAttemptThatResumesEqualsTheUninterruptedOne) {
  v1::JobSpec spec = Spec(50);
  spec.mutable_checkpoint()->set_every_steps(19);
  const Finished whole = RunToTheEnd(spec, 1);
  std::optional<v1::CheckpointAnnouncement> checkpoint;
  int64_t steps_before = 0;
  for (const v1::WorkerReport& report : server_->seen().reports) {
    for (const v1::Segment& segment : report.segments()) {
      if (!checkpoint.has_value()) {
        steps_before += segment.metrics().steps_size();
      }
    }
    if (report.has_checkpoint() && !checkpoint.has_value()) {
      checkpoint = report.checkpoint();
    }
  }
  ASSERT_TRUE(checkpoint.has_value());
  EXPECT_EQ(checkpoint->step(), 19);
  EXPECT_GE(steps_before, 19);
  EXPECT_EQ(checkpoint->folder(), "jobs/abc/attempt-1/checkpoints/step-000000019");
  EXPECT_EQ(checkpoint->manifest_sha256().size(), 64U);

  NewServer();
  v1::WorkerAssignment assignment = Assignment(spec, 2);
  assignment.set_resume_from(absl::StrCat(folder_, "/work/", checkpoint->folder()));
  StartRun(assignment);
  ASSERT_EQ(Wait(), common::kExitDone) << Log();
  EXPECT_EQ(server_->seen().hellos[0].plan().start_step(), 19);
  const Finished resumed = Collect();
  std::vector<UnpackedPoint> expected;
  std::copy_if(whole.points.begin(), whole.points.end(), std::back_inserter(expected),
               [](const UnpackedPoint& point) { return point.step >= 19; });
  EXPECT_EQ(resumed.points, expected);
  EXPECT_EQ(resumed.outcome.result().weights_sha256(), whole.outcome.result().weights_sha256());
}

TEST_F(WorkerProcessTest, ACancelledRunEndsAfterItsStep) {
  server_->Start();
  StartRun(Assignment(Spec(100'000'000)));
  ASSERT_TRUE(server_->WaitFor([](const FakeServer::Seen& seen) {
    return seen.reports.size() >= 2;
  })) << Log();
  server_->RequestCancel();
  ASSERT_EQ(Wait(), common::kExitDone) << Log();
  const Finished run = Collect();
  EXPECT_EQ(run.outcome.state(), v1::Job::CANCELLED);
  EXPECT_GT(run.outcome.result().steps(), 0);
}

TEST_F(WorkerProcessTest, APausedRunGoesOnFromItsLastStep) {
  // As many steps as are not done when the second report has come, however quick this machine is: nobody watches, so it is
  // made some tenths of a second after the first.
  constexpr double kLeastSeconds = 1.5;
  v1::JobSpec spec = Spec(20'000);
  int32_t attempt = 1;
  Finished whole = RunToTheEnd(spec, attempt);
  for (double seconds = 0; (seconds = whole.outcome.result().training_seconds()) < kLeastSeconds;) {
    ASSERT_GT(seconds, 0) << Log();
    spec.set_steps(static_cast<int32_t>(1.5 * kLeastSeconds / seconds * spec.steps()));
    whole = RunToTheEnd(spec, ++attempt);
  }

  NewServer();
  StartRun(Assignment(spec, ++attempt));
  ASSERT_TRUE(server_->WaitFor([](const FakeServer::Seen& seen) {
    return seen.reports.size() >= 2;
  })) << Log();
  server_->RequestCheckpoint(v1::FailureReason::SERVER_DRAINED);
  ASSERT_EQ(Wait(), common::kExitDone) << Log();
  const Finished begun = Collect();
  ASSERT_EQ(begun.outcome.state(), v1::Job::PAUSED) << begun.outcome.ShortDebugString();
  EXPECT_EQ(begun.outcome.failure().reason(), v1::FailureReason::SERVER_DRAINED);
  const std::vector<v1::WorkerReport> reports = server_->seen().reports;
  const auto announced =
      std::find_if(reports.begin(), reports.end(),
                   [](const v1::WorkerReport& report) { return report.has_checkpoint(); });
  ASSERT_NE(announced, reports.end());
  const int64_t step = announced->checkpoint().step();
  EXPECT_EQ(step, begun.points.back().step + 1);
  EXPECT_LT(step, spec.steps());

  NewServer();
  v1::WorkerAssignment assignment = Assignment(spec, ++attempt);
  assignment.set_resume_from(absl::StrCat(folder_, "/work/", announced->checkpoint().folder()));
  StartRun(assignment);
  ASSERT_EQ(Wait(), common::kExitDone) << Log();
  const Finished rest = Collect();
  std::vector<UnpackedPoint> points = begun.points;
  points.insert(points.end(), rest.points.begin(), rest.points.end());
  EXPECT_EQ(points, whole.points);
  EXPECT_EQ(rest.outcome.result().weights_sha256(), whole.outcome.result().weights_sha256());
}

TEST_F(WorkerProcessTest, ADivergedRunSaysWhere) {
  v1::JobSpec spec = Spec(200);
  spec.mutable_normalization()->mutable_none();
  spec.mutable_optimizer()->mutable_sgd()->set_learning_rate(1e30);
  const Finished run = RunToTheEnd(spec, 1);
  EXPECT_EQ(run.outcome.state(), v1::Job::DIVERGED) << run.outcome.ShortDebugString();
  EXPECT_LT(run.outcome.result().steps(), 200);
}

}  // namespace
}  // namespace normlab::engine
