// The program normlab-worker-mpi under mpirun, against a server of the test: runs to the end, checkpoints that other ranks
// go on from, deaths of ranks and of the launcher.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/worker/worker_process_fixture.h"

namespace normlab::engine {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

// See trainer_parallel_test.cc: sums in another order.
constexpr double kTolerance = 1e-5;

class RanksProcessTest : public WorkerProcessTest {
 protected:
  static v1::JobSpec RanksSpec(int32_t steps, int ranks) {
    v1::JobSpec spec = Spec(steps);
    if (ranks > 1) {
      spec.mutable_data_parallel()->set_ranks(ranks);
      spec.mutable_data_parallel()->set_statistics_group(ranks);
    }
    return spec;
  }

  // Starts as many ranks as the assignment's spec says.
  void StartRanks(const v1::WorkerAssignment& assignment) {
    const common::UniqueFd file(memfd_create("assignment", MFD_CLOEXEC));
    const std::string bytes = assignment.SerializeAsString();
    ASSERT_EQ(write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    ASSERT_EQ(lseek(file.get(), 0, SEEK_SET), 0);
    common::SubprocessOptions options;
    options.argv = {NORMLAB_MPIRUN};
    if (geteuid() == 0) {
      options.argv.emplace_back("--allow-run-as-root");
    }
    for (const char* argument :
         {"--oversubscribe", "--bind-to", "none", "--mca", "plm", "isolated", "--mca", "pml", "ob1",
          "--mca", "btl", "self,vader", "--mca", "oob_tcp_if_include", "lo", "-np"}) {
      options.argv.emplace_back(argument);
    }
    options.argv.push_back(absl::StrCat(assignment.resolved_spec().data_parallel().ranks()));
    options.argv.insert(options.argv.end(), {NORMLAB_RANKS_BINARY, "--run"});
    options.environment = {"OMP_NUM_THREADS=1", "OMP_WAIT_POLICY=passive", "PATH=/usr/bin:/bin"};
    options.input_fd = file.get();
    options.output_path = absl::StrCat(folder_, "/worker.log");
    auto launcher = common::Subprocess::Start(options);
    ASSERT_TRUE(launcher.ok()) << launcher.status();
    worker_.emplace(*std::move(launcher));
  }

  Finished RunRanksToTheEnd(const v1::WorkerAssignment& assignment) {
    StartRanks(assignment);
    EXPECT_EQ(Wait(), common::kExitDone) << Log();
    return Collect();
  }

  // The launcher's children.
  std::vector<pid_t> RankPids() const {
    std::vector<pid_t> pids;
    std::ifstream children(
        absl::StrCat("/proc/", worker_->pid(), "/task/", worker_->pid(), "/children"));
    for (pid_t pid = 0; children >> pid;) {
      pids.push_back(pid);
    }
    return pids;
  }

  // Of Open MPI, which its launcher cannot remove when it is killed.
  std::filesystem::path SessionFolder() const {
    for (const auto& user : std::filesystem::directory_iterator("/tmp")) {
      const std::filesystem::path folder = user.path() / absl::StrCat("pid.", worker_->pid());
      if (user.path().filename().string().starts_with("ompi.") && std::filesystem::exists(folder)) {
        return folder;
      }
    }
    return "/no/session";
  }

  void WaitUntilGone(const std::vector<pid_t>& pids) {
    const absl::Time deadline = absl::Now() + absl::Milliseconds(kDeadlineMs);
    for (const pid_t pid : pids) {
      while (common::ProcessIdentity::Of(pid).ok() && IsRunning(pid)) {
        ASSERT_LT(absl::Now(), deadline) << "rank " << pid << " outlives its launcher";
        absl::SleepFor(absl::Milliseconds(5));
      }
    }
  }
  static bool IsRunning(pid_t pid) {
    const std::string stat = common::ReadFile(absl::StrCat("/proc/", pid, "/stat")).value_or(") Z");
    const char state = stat[stat.rfind(')') + 2];
    return state != 'Z' && state != 'X';
  }

  static bool HasSteps(const FakeServer::Seen& seen, int64_t steps) {
    return !seen.reports.empty() && seen.reports.back().progress().step() >= steps;
  }
};

TEST_F(RanksProcessTest, TwoRanksAreOneProcessAndOnlyRank0Reports) {
  const Finished alone = RunToTheEnd(Spec(60), 1);
  NewServer();
  const Finished two = RunRanksToTheEnd(Assignment(RanksSpec(60, 2), 2));
  EXPECT_EQ(two.outcome.state(), v1::Job::SUCCEEDED) << Log();
  ASSERT_THAT(server_->seen().hellos, SizeIs(1));
  EXPECT_EQ(server_->seen().hellos[0].secret(), "sesame");
  ASSERT_EQ(two.points.size(), alone.points.size());
  for (size_t i = 0; i < alone.points.size(); ++i) {
    EXPECT_EQ(two.points[i].series, alone.points[i].series);
    EXPECT_NEAR(two.points[i].value, alone.points[i].value,
                kTolerance * std::max(1.0, std::abs(alone.points[i].value)))
        << two.points[i].series << " at " << two.points[i].step;
  }
  NewServer();
  const Finished again = RunRanksToTheEnd(Assignment(RanksSpec(60, 2), 3));
  EXPECT_EQ(again.points, two.points);
  EXPECT_EQ(again.outcome.result().weights_sha256(), two.outcome.result().weights_sha256());
}

TEST_F(RanksProcessTest, ThreeRanksGoOnWhereTwoStopped) {
  const Finished alone = RunToTheEnd(Spec(3000), 1);
  NewServer();
  StartRanks(Assignment(RanksSpec(3000, 2), 2));
  ASSERT_TRUE(server_->WaitFor([](const FakeServer::Seen& seen) { return HasSteps(seen, 50); }))
      << Log();
  server_->RequestCheckpoint(v1::FailureReason::PAUSED);
  EXPECT_EQ(Wait(), common::kExitDone) << Log();
  EXPECT_EQ(Collect().outcome.state(), v1::Job::PAUSED);
  std::string checkpoint;
  for (const auto& entry : std::filesystem::directory_iterator(
           absl::StrCat(folder_, "/work/jobs/abc/attempt-2/checkpoints"))) {
    checkpoint = std::max(checkpoint, entry.path().string());
  }
  NewServer();
  v1::WorkerAssignment assignment = Assignment(RanksSpec(3000, 3), 3);
  assignment.set_resume_from(checkpoint);
  const Finished resumed = RunRanksToTheEnd(assignment);
  ASSERT_EQ(resumed.outcome.state(), v1::Job::SUCCEEDED) << Log();
  EXPECT_GT(server_->seen().hellos[0].plan().start_step(), 0);
  // Thousands of steps multiply roundings; the net is as good.
  EXPECT_NEAR(resumed.outcome.result().final_metrics().at("test/accuracy"),
              alone.outcome.result().final_metrics().at("test/accuracy"), 0.1);
}

TEST_F(RanksProcessTest, TheDeathOfOneIsTheEndOfAll) {
  constexpr int kShellSignal = 128;
  NewServer();
  StartRanks(Assignment(RanksSpec(50'000'000, 3)));
  ASSERT_TRUE(server_->WaitFor([](const FakeServer::Seen& seen) { return HasSteps(seen, 5); }))
      << Log();
  std::vector<pid_t> ranks = RankPids();
  ASSERT_THAT(ranks, SizeIs(3));
  ASSERT_EQ(kill(ranks[1], SIGKILL), 0);
  EXPECT_EQ(Wait(), kShellSignal + SIGKILL) << Log();
  WaitUntilGone(ranks);

  NewServer();
  StartRanks(Assignment(RanksSpec(50'000'000, 2), 2));
  ASSERT_TRUE(server_->WaitFor([](const FakeServer::Seen& seen) { return HasSteps(seen, 5); }))
      << Log();
  ranks = RankPids();
  ASSERT_THAT(ranks, SizeIs(2));
  const std::filesystem::path session = SessionFolder();
  EXPECT_TRUE(std::filesystem::exists(session));
  ASSERT_TRUE(worker_->Signal(SIGKILL).ok());
  EXPECT_EQ(Wait(), 1000 + SIGKILL);
  WaitUntilGone(ranks);
  EXPECT_FALSE(std::filesystem::exists(session)) << session;
}

TEST_F(RanksProcessTest, AnErrorOfPlanningIsReportedOnce) {
  NewServer();
  v1::WorkerAssignment assignment = Assignment(RanksSpec(60, 2));
  assignment.set_resume_from("/no/such/checkpoint");
  const Finished run = RunRanksToTheEnd(assignment);
  EXPECT_EQ(run.outcome.state(), v1::Job::FAILED);
  EXPECT_EQ(run.outcome.failure().reason(), v1::FailureReason::CHECKPOINT_ERROR);
  EXPECT_THAT(run.outcome.failure().message(), HasSubstr("rank 0: "));
  EXPECT_THAT(server_->seen().hellos, SizeIs(1));
}

TEST_F(RanksProcessTest, DataThatCannotBeOpenedIsToldByTheExitCode) {
  NewServer();
  v1::WorkerAssignment assignment = Assignment(RanksSpec(60, 2));
  assignment.set_data_cache("/no/such/file");
  StartRanks(assignment);
  EXPECT_EQ(Wait(), common::kExitDataUnusable) << Log();
}

TEST_F(RanksProcessTest, WhatIsNoAssignmentIsRefusedByAll) {
  v1::WorkerAssignment nothing;
  *nothing.mutable_resolved_spec() = RanksSpec(1, 2);
  StartRanks(nothing);
  EXPECT_EQ(Wait(), common::kExitUsage) << Log();
}

}  // namespace
}  // namespace normlab::engine
