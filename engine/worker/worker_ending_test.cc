// Everything else that can become of the program.

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "engine/worker/worker_process_fixture.h"

namespace normlab::engine {
namespace {

class WorkerEndingTest : public WorkerProcessTest {
 protected:
  static uint64_t MaskOf(int signal) { return uint64_t{1} << (signal - 1); }
  // Those for which the worker has a handler.
  uint64_t HandledSignals() const {
    std::ifstream status(absl::StrCat("/proc/", worker_->pid(), "/status"));
    for (std::string line; std::getline(status, line);) {
      if (absl::StartsWith(line, "SigCgt:")) {
        return std::stoull(line.substr(line.find('\t')), nullptr, 16);
      }
    }
    ADD_FAILURE() << "no SigCgt of " << worker_->pid();
    return 0;
  }
};

TEST_F(WorkerEndingTest, TellsWhyItCannotTrain) {
  server_->Start();
  v1::WorkerAssignment no_checkpoint = Assignment(Spec(5), 2);
  no_checkpoint.set_resume_from(folder_ + "/no/such/checkpoint");
  StartRun(no_checkpoint);
  EXPECT_EQ(Wait(), common::kExitDone) << Log();
  const Finished run = Collect();
  EXPECT_EQ(run.outcome.state(), v1::Job::FAILED);
  EXPECT_EQ(run.outcome.failure().reason(), v1::FailureReason::CHECKPOINT_ERROR)
      << run.outcome.ShortDebugString();
}

// The server has the decoded set made again: no outcome of the job.
TEST_F(WorkerEndingTest, ADecodedSetThatIsDamagedIsRemovedAndNotTheJobsFault) {
  server_->Start();
  v1::WorkerAssignment assignment = Assignment(Spec(5));
  const std::string cut = folder_ + "/cut.nldata";
  std::filesystem::copy_file(assignment.data_cache(), cut);
  std::filesystem::resize_file(cut, std::filesystem::file_size(cut) / 2);
  for (const std::string& data : {cut, folder_ + "/absent.nldata"}) {
    assignment.set_data_cache(data);
    StartRun(assignment);
    EXPECT_EQ(Wait(), common::kExitDataUnusable) << Log();
    EXPECT_FALSE(std::filesystem::exists(data));
    const std::string name = std::filesystem::path(data).filename();
    EXPECT_TRUE(absl::StrContains(Log(), name)) << Log();
  }
}

TEST_F(WorkerEndingTest, TooLittleMemoryIsAFailureWithBothNumbers) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's shadow memory needs more than any limit";
#endif
  server_->Start();
  v1::JobSpec spec = Spec(5);
  v1::Mlp& mlp = *spec.mutable_model()->mutable_mlp();
  mlp.clear_hidden();
  mlp.add_hidden(12'345);
  mlp.add_hidden(12'347);  // some 600 MB of weights
  v1::WorkerAssignment assignment = Assignment(spec);
  assignment.set_memory_estimate_bytes(int64_t{200} << 20);
  assignment.set_memory_limit_bytes(int64_t{300} << 20);
  StartRun(assignment);
  EXPECT_EQ(Wait(), common::kExitDone) << Log();
  const Finished run = Collect();
  EXPECT_EQ(run.outcome.state(), v1::Job::FAILED);
  EXPECT_EQ(run.outcome.failure().reason(), v1::FailureReason::OUT_OF_MEMORY);
  EXPECT_TRUE(absl::StrContains(run.outcome.failure().message(), "200.0 MiB"))
      << run.outcome.failure().message();
  EXPECT_TRUE(absl::StrContains(run.outcome.failure().message(), "300.0 MiB"))
      << run.outcome.failure().message();
}

TEST_F(WorkerEndingTest, TakesItsAssignmentFromAFileOnceAndOnlyAPrivateOne) {
  server_->Start();
  const std::string path = folder_ + "/assignment";
  const auto write = [&](int mode) {
    std::filesystem::remove(path);
    ASSERT_TRUE(common::WriteFileSynced(path, Assignment(Spec(5)).SerializeAsString(), mode).ok());
    ASSERT_EQ(chmod(path.c_str(), static_cast<mode_t>(mode)), 0);
  };
  write(0640);
  Start({"--run-file", path}, -1);
  EXPECT_EQ(Wait(), common::kExitUsage) << Log();
  EXPECT_TRUE(server_->seen().hellos.empty());
  write(0600);
  Start({"--run-file", path}, -1);
  EXPECT_EQ(Wait(), common::kExitDone) << Log();
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(Collect().outcome.state(), v1::Job::SUCCEEDED);
  // Whoever runs the same script again has nothing to start from.
  Start({"--run-file", path}, -1);
  EXPECT_EQ(Wait(), common::kExitRunAgain);
  // Of authorities that cannot be read.
  write(0600);
  Start({"--server-ca", folder_ + "/none.pem", "--run-file", path}, -1);
  EXPECT_EQ(Wait(), common::kExitUsage);
  EXPECT_EQ(server_->seen().hellos.size(), 1u);
}

TEST_F(WorkerEndingTest, ASignalToLeaveMakesACheckpointToGoOnFrom) {
  server_->Start();
  StartRun(Assignment(Spec(100'000'000)));
  ASSERT_TRUE(server_->WaitFor([](const FakeServer::Seen& seen) {
    return seen.reports.size() > 2;
  })) << Log();
  // No handler may interrupt oneDNN's code: see engine/worker/signals.h.
  EXPECT_EQ(HandledSignals() & (MaskOf(SIGUSR1) | MaskOf(SIGTERM)), 0u);
  ASSERT_TRUE(worker_->Signal(SIGUSR1).ok());
  EXPECT_EQ(Wait(), common::kExitDone) << Log();
  const Finished run = Collect();
  EXPECT_EQ(run.outcome.state(), v1::Job::PAUSED);
  EXPECT_EQ(run.outcome.failure().reason(), v1::FailureReason::PREEMPTED);
  bool has_checkpoint = false;
  for (const v1::WorkerReport& report : server_->seen().reports) {
    has_checkpoint = has_checkpoint || report.has_checkpoint();
  }
  EXPECT_TRUE(has_checkpoint);
}

TEST_F(WorkerEndingTest, AFencedWorkerExitsAtOnce) {
  server_->RefuseHello(absl::FailedPreconditionError("attempt 1 is not the current one"));
  server_->Start();
  StartRun(Assignment(Spec(100'000'000)));
  EXPECT_EQ(Wait(), common::kExitFenced) << Log();
  EXPECT_TRUE(absl::StrContains(Log(), "attempt 1 is not the current one"));

  // The same in the middle of the training.
  NewServer();
  server_->SetScript([](const v1::WorkerReport& report) {
    return report.number() >= 3 ? Reaction::kRefuse : Reaction::kAcknowledge;
  });
  StartRun(Assignment(Spec(100'000'000), 2));
  EXPECT_EQ(Wait(), common::kExitFenced) << Log();
}

TEST_F(WorkerEndingTest, AWorkerWhoseFolderIsRemovedExits) {
  server_->Start();
  const v1::WorkerAssignment assignment = Assignment(Spec(100'000'000));
  StartRun(assignment);
  ASSERT_TRUE(server_->WaitFor([](const FakeServer::Seen& seen) { return !seen.reports.empty(); }))
      << Log();
  std::filesystem::remove_all(assignment.attempt_folder());
  EXPECT_EQ(Wait(), common::kExitFenced) << Log();
}

TEST_F(WorkerEndingTest, AWorkerWithoutAServerGivesUpAfterTheOrphanTimeout) {
  v1::WorkerAssignment assignment = Assignment(Spec(100'000'000));
  assignment.set_orphan_timeout_ms(300);
  StartRun(assignment);
  EXPECT_EQ(Wait(), common::kExitOrphaned) << Log();
}

TEST_F(WorkerEndingTest, SigtermEndsTheTrainingWithoutAnOutcome) {
  server_->Start();
  StartRun(Assignment(Spec(100'000'000)));
  ASSERT_TRUE(server_->WaitFor([](const FakeServer::Seen& seen) { return !seen.reports.empty(); }))
      << Log();
  ASSERT_TRUE(worker_->Signal(SIGTERM).ok());
  EXPECT_EQ(Wait(), common::kExitTerminated) << Log();
  EXPECT_FALSE(server_->seen().reports.back().has_outcome());
}

TEST_F(WorkerEndingTest, SigtermEndsAWorkerThatOnlyWaitsForTheServer) {
  server_->Start();
  server_->SetScript([](const v1::WorkerReport&) { return Reaction::kStoreSilently; });
  StartRun(Assignment(Spec(5)));
  ASSERT_TRUE(server_->WaitFor([](const FakeServer::Seen& seen) {
    return !seen.reports.empty() && seen.reports.back().has_outcome();
  })) << Log();
  ASSERT_TRUE(worker_->Signal(SIGTERM).ok());
  EXPECT_EQ(Wait(), common::kExitTerminated) << Log();
}

TEST_F(WorkerEndingTest, RunsAtLowerPriority) {
  server_->Start();
  StartRun(Assignment(Spec(100'000'000)));
  ASSERT_TRUE(server_->WaitFor([](const FakeServer::Seen& seen) { return !seen.hellos.empty(); }))
      << Log();
  EXPECT_GE(getpriority(PRIO_PROCESS, static_cast<id_t>(worker_->pid())), 5);
}

// OpenMP binds the training's threads to one core each before main; what sends the reports must not
// be bound with them.
TEST_F(WorkerEndingTest, OnlyTheTrainingOfAPinnedWorkerIsBoundToSingleCores) {
  cpu_set_t ours;
  CPU_ZERO(&ours);
  ASSERT_EQ(sched_getaffinity(0, sizeof(ours), &ours), 0);
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE && cores.size() < 2; ++core) {
    if (CPU_ISSET(core, &ours)) {
      cores.push_back(core);
    }
  }
  if (cores.size() < 2) {
    GTEST_SKIP() << "one core only";
  }
  more_environment_ = {"OMP_PROC_BIND=true",
                       absl::StrCat("OMP_PLACES={", cores[0], "},{", cores[1], "}")};
  v1::WorkerAssignment assignment = Assignment(Spec(100'000'000));
  assignment.mutable_cores()->Assign(cores.begin(), cores.end());
  server_->Start();
  StartRun(assignment);
  ASSERT_TRUE(server_->WaitFor([](const FakeServer::Seen& seen) { return !seen.reports.empty(); }))
      << Log();
  int bound = 0;
  int free = 0;
  for (const auto& task :
       std::filesystem::directory_iterator(absl::StrCat("/proc/", worker_->pid(), "/task"))) {
    cpu_set_t set;
    CPU_ZERO(&set);
    ASSERT_EQ(sched_getaffinity(std::stoi(task.path().filename().string()), sizeof(set), &set), 0);
    (CPU_COUNT(&set) == 1 ? bound : free) += 1;
  }
  EXPECT_EQ(bound, 1);  // the training's one thread
  EXPECT_GE(free, 3);   // reporter, writer, reader, and gRPC's own
  EXPECT_FALSE(absl::StrContains(Log(), "cannot be used")) << Log();
}

TEST_F(WorkerEndingTest, TheHelperAnswersAndEndsWithItsServer) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  common::UniqueFd ours(ends[0]);
  {
    const common::UniqueFd theirs(ends[1]);
    Start({"--helper"}, theirs.get());
  }
  v1::HelperRequest request;
  request.set_id(5);
  request.mutable_engine_info();
  const std::string bytes = request.SerializeAsString();
  ASSERT_LT(bytes.size(), 256U);
  const std::string frame = std::string({static_cast<char>(bytes.size()), 0, 0, 0}) + bytes;
  ASSERT_EQ(send(ours.get(), frame.data(), frame.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(frame.size()));
  unsigned char prefix[4] = {};
  ASSERT_EQ(recv(ours.get(), prefix, 4, MSG_WAITALL), 4) << Log();
  std::string answer(prefix[0], '\0');
  ASSERT_EQ(recv(ours.get(), answer.data(), answer.size(), MSG_WAITALL),
            static_cast<ssize_t>(answer.size()));
  v1::HelperResponse response;
  ASSERT_TRUE(response.ParseFromString(answer));
  EXPECT_EQ(response.id(), 5);
  EXPECT_FALSE(response.engine_info().isa().empty());
  ours.Reset();
  EXPECT_EQ(Wait(), 0) << Log();
}

TEST_F(WorkerEndingTest, IsNotStartedByHand) {
  Start({}, -1);
  EXPECT_EQ(Wait(), common::kExitUsage);
  EXPECT_TRUE(absl::StrContains(Log(), "normlabd"));
  Start({"--help"}, -1);
  EXPECT_EQ(Wait(), common::kExitUsage);
  Start({"--run"}, -1);
  EXPECT_EQ(Wait(), common::kExitUsage);
  Start({"--version"}, -1);
  EXPECT_EQ(Wait(), 0);
  EXPECT_TRUE(absl::StrContains(Log(), "normlab-worker 0."));
}

}  // namespace
}  // namespace normlab::engine
