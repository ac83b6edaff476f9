#include "server/executor/local_process.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/atomic_file.h"
#include "common/subprocess.h"

namespace normlab::server {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::Duration kDeadline = absl::Seconds(60);
// What the times that a process used are rounded to. [s]
constexpr double kClockTick = 0.02;

// What exit callbacks told.
class Exits {
 public:
  Executor::ExitCallback Callback() {
    return [this](const ProcessExit& exit) {
      absl::MutexLock lock(&mu_);
      exits_[exit.attempt.number].push_back(exit);
    };
  }
  ProcessExit WaitFor(int32_t attempt) {
    absl::MutexLock lock(&mu_);
    const auto told = [this, attempt]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return exits_.count(attempt) > 0; };
    if (!mu_.AwaitWithTimeout(absl::Condition(&told), kDeadline)) {
      ADD_FAILURE() << "attempt " << attempt << " did not end";
      return {};
    }
    return exits_[attempt].front();
  }
  size_t Count(int32_t attempt) {
    absl::MutexLock lock(&mu_);
    const auto found = exits_.find(attempt);
    return found == exits_.end() ? 0 : found->second.size();
  }

 private:
  absl::Mutex mu_;
  std::map<int32_t, std::vector<ProcessExit>> exits_ ABSL_GUARDED_BY(mu_);
};

class LocalProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = absl::StrCat(::testing::TempDir(), "/local_process.XXXXXX");
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // An executor whose worker is this shell script.
  std::unique_ptr<Executor> MakeExecutor(const std::string& script) {
    // A new file each time: a shell reads its script as it goes.
    const std::string path = absl::StrCat(folder_, "/worker", ++scripts_, ".sh");
    std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
    chmod(path.c_str(), 0755);
    absl::StatusOr<std::unique_ptr<Executor>> executor = NewLocalProcessExecutor({path});
    EXPECT_TRUE(executor.ok()) << executor.status();
    (*executor)->SetExitCallback(exits_.Callback());
    return *std::move(executor);
  }

  SubmitRequest Request(int32_t number) const {
    SubmitRequest request;
    request.attempt = {"job", number};
    request.assignment.set_job("jobs/job");
    request.assignment.set_attempt(number);
    request.assignment.set_secret("a secret of no file's, argument's or variable's");
    request.log_path = folder_ + "/worker.log";
    return request;
  }

  static absl::StatusOr<std::string> Submit(Executor& executor, const SubmitRequest& request) {
    absl::StatusOr<std::string> answer = absl::InternalError("not answered at once");
    executor.Submit(request,
                    [&answer](absl::StatusOr<std::string> said) { answer = std::move(said); });
    return answer;
  }
  static absl::StatusOr<absl::Duration> Adopt(Executor& executor,
                                              const AttemptKey& attempt,
                                              const std::string& identity) {
    const AttemptView view = executor.Reconcile({{attempt, identity}}).front();
    return view.state == AttemptView::State::kRunning
               ? absl::StatusOr<absl::Duration>(view.running_for)
               : absl::NotFoundError(view.reason);
  }

  std::string Log() const { return common::ReadFile(folder_ + "/worker.log").value_or(""); }

  std::string folder_;
  int scripts_ = 0;
  Exits exits_;
};

TEST_F(LocalProcessTest, HandsOverTheAssignmentOnDescriptor3AndNowhereElse) {
  const auto executor = MakeExecutor(
      "cat <&3 >received; echo \"arguments: $@\"; env; ls /proc/self/fd | tr '\\n' ' '");
  SubmitRequest request = Request(1);
  // More than a pipe would hold.
  request.assignment.set_data_cache(std::string(300'000, 'x'));
  const std::string before = std::filesystem::current_path();
  std::filesystem::current_path(folder_);
  setenv("NORMLAB_TEST_SECRETIVE", "1", 1);
  setenv("ASAN_OPTIONS", "detect_leaks=1", 1);
  const auto identity = Submit(*executor, request);
  std::filesystem::current_path(before);
  ASSERT_TRUE(identity.ok()) << identity.status();
  const ProcessExit exit = exits_.WaitFor(1);
  EXPECT_EQ(exit.code, 0);
  EXPECT_EQ(exit.cause, ExitCause::kExited);
  EXPECT_GT(exit.peak_memory_bytes, 100'000);

  v1::WorkerAssignment received;
  ASSERT_TRUE(received.ParseFromString(*common::ReadFile(folder_ + "/received")));
  EXPECT_EQ(received.SerializeAsString(), request.assignment.SerializeAsString());
  EXPECT_THAT(Log(), HasSubstr("arguments: --run\n"));
  EXPECT_THAT(Log(), HasSubstr("ASAN_OPTIONS=detect_leaks=1"));
  EXPECT_THAT(Log(), Not(HasSubstr("NORMLAB_TEST_SECRETIVE")));
  EXPECT_THAT(Log(), Not(HasSubstr("a secret of")));
}

TEST_F(LocalProcessTest, PinsAndTellsOpenMpWhere) {
  cpu_set_t set;
  CPU_ZERO(&set);
  ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  int core = 0;
  while (!CPU_ISSET(core, &set)) {
    ++core;
  }
  const auto executor = MakeExecutor("env; grep Cpus_allowed_list /proc/self/status");
  SubmitRequest request = Request(1);
  request.assignment.add_cores(core);
  ASSERT_TRUE(Submit(*executor, request).ok());
  exits_.WaitFor(1);
  EXPECT_THAT(Log(), HasSubstr("OMP_NUM_THREADS=1\n"));
  EXPECT_THAT(Log(), HasSubstr(absl::StrCat("OMP_PLACES={", core, "}\n")));
  EXPECT_THAT(Log(), HasSubstr("OMP_WAIT_POLICY=active\n"));
  EXPECT_THAT(Log(), HasSubstr(absl::StrCat("Cpus_allowed_list:\t", core, "\n")));
}

TEST(WorkerEnvironmentTest, ThreadsOfUnpinnedWorkersDoNotSpin) {
  const std::vector<std::string> unpinned = WorkerEnvironment(3, {});
  EXPECT_THAT(unpinned, Contains("OMP_NUM_THREADS=3"));
  EXPECT_THAT(unpinned, Contains("OMP_WAIT_POLICY=passive"));
  EXPECT_THAT(unpinned, Not(Contains(HasSubstr("OMP_PLACES"))));
  EXPECT_THAT(WorkerEnvironment(2, {4, 7}), Contains("OMP_PLACES={4},{7}"));
}

TEST_F(LocalProcessTest, TellsHowProcessesEnd) {
  const auto executor = MakeExecutor("exit 7");
  ASSERT_TRUE(Submit(*executor, Request(1)).ok());
  const ProcessExit exit = exits_.WaitFor(1);
  EXPECT_EQ(exit.attempt.job_id, "job");
  EXPECT_EQ(exit.cause, ExitCause::kExited);
  EXPECT_EQ(exit.code, 7);
  EXPECT_EQ(exit.description, "exit code 7");
  EXPECT_NE(exit.cause, ExitCause::kOutOfMemory);
}

TEST_F(LocalProcessTest, KillEndsTheProcessAndOnlyThatOne) {
  const auto executor = MakeExecutor("exec sleep 1000");
  ASSERT_TRUE(Submit(*executor, Request(1)).ok());
  const auto second = Submit(*executor, Request(2));
  ASSERT_TRUE(second.ok());
  ASSERT_TRUE(executor->Signal({"job", 1}, AttemptSignal::kKill).ok());
  const ProcessExit exit = exits_.WaitFor(1);
  EXPECT_EQ(exit.cause, ExitCause::kSignalled);
  EXPECT_EQ(exit.code, SIGKILL);
  EXPECT_EQ(exit.description, "signal 9 (Killed)");
  EXPECT_EQ(exits_.Count(2), 0u);
  EXPECT_TRUE(executor->Signal({"job", 1}, AttemptSignal::kKill).ok()) << "gone is fine";
  EXPECT_TRUE(executor->Signal({"job", 2}, AttemptSignal::kKill).ok());
  exits_.WaitFor(2);
  EXPECT_EQ(exits_.Count(1), 1u);
}

TEST_F(LocalProcessTest, AWorkerOutlivesItsExecutorAndIsAdoptedByTheNext) {
  auto executor = MakeExecutor("exec sleep 1000");
  const auto identity = Submit(*executor, Request(1));
  ASSERT_TRUE(identity.ok());
  executor.reset();
  executor = MakeExecutor("exit 1");
  const absl::StatusOr<absl::Duration> age = Adopt(*executor, {"job", 5}, *identity);
  ASSERT_TRUE(age.ok()) << age.status();
  EXPECT_GE(*age, absl::ZeroDuration());
  EXPECT_LT(*age, absl::Minutes(5)) << "it has just been started";
  EXPECT_EQ(exits_.Count(5), 0u);
  ASSERT_TRUE(executor->Signal({"job", 5}, AttemptSignal::kKill).ok());
  EXPECT_EQ(exits_.WaitFor(5).code, -1) << "only a parent learns how";
  // The adopter was no parent; this process is, and cleans up.
  const auto parsed = common::ProcessIdentity::Parse(*identity);
  waitpid(parsed->pid, nullptr, 0);
  EXPECT_EQ(Adopt(*executor, {"job", 6}, *identity).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Adopt(*executor, {"job", 7}, "nonsense").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LocalProcessTest, CountsWhatProcessesUseAlsoAfterTheirEnd) {
  // Looks until the first process has computed for at least `seconds`.
  const auto usage_with = [](Executor& executor, double seconds) {
    const absl::Time deadline = absl::Now() + kDeadline;
    WorkerUsage usage = executor.GetUsage();
    while (usage.cpu_seconds < seconds && absl::Now() < deadline) {
      usage = executor.GetUsage();
    }
    return usage;
  };
  auto executor = MakeExecutor("while :; do :; done");
  EXPECT_EQ(executor->GetUsage().processes, 0);
  const auto identity = Submit(*executor, Request(1));
  ASSERT_TRUE(identity.ok());
  const WorkerUsage running = usage_with(*executor, 0.2);
  EXPECT_EQ(running.processes, 1);
  EXPECT_GE(running.cpu_seconds, 0.2);
  EXPECT_GT(running.resident_bytes, 100'000);

  // What it used before it was taken over is not this executor's.
  auto next = MakeExecutor("exit 1");
  ASSERT_TRUE(Adopt(*next, {"job", 1}, *identity).ok());
  const WorkerUsage since = next->GetUsage();
  EXPECT_LE(since.cpu_seconds, executor->GetUsage().cpu_seconds - 0.2 + kClockTick);
  EXPECT_EQ(since.processes, 1);
  next.reset();

  ASSERT_TRUE(executor->Signal({"job", 1}, AttemptSignal::kKill).ok());
  exits_.WaitFor(1);
  const WorkerUsage ended = executor->GetUsage();
  EXPECT_EQ(ended.processes, 0);
  EXPECT_EQ(ended.resident_bytes, 0);
  EXPECT_GE(ended.cpu_seconds, running.cpu_seconds) << "a counter never falls";
}

TEST_F(LocalProcessTest, NeverAdoptsAnotherProcessOfTheSameNumber) {
  const auto executor = MakeExecutor("exit 1");
  auto identity = common::ProcessIdentity::Of(getpid());
  ASSERT_TRUE(identity.ok());
  identity->start_ticks += 1;
  EXPECT_EQ(Adopt(*executor, {"job", 1}, identity->ToString()).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(LocalProcessTest, SaysWhatIsWrongWithTheWorkerProgram) {
  const auto executor = NewLocalProcessExecutor({"/no/such/worker"});
  EXPECT_EQ(executor.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(executor.status().message()), HasSubstr("--worker_binary"));

  const auto vanishing = MakeExecutor("exit 0");
  std::filesystem::remove(folder_ + "/worker1.sh");
  const auto launched = Submit(*vanishing, Request(1));
  EXPECT_FALSE(launched.ok());
  EXPECT_THAT(std::string(launched.status().message()), HasSubstr("worker1.sh"));
  EXPECT_EQ(exits_.Count(1), 0u);
}

TEST_F(LocalProcessTest, ManyProcessesAtOnceAreAllToldOnce) {
  const auto executor = MakeExecutor("exit 0");
  constexpr int kProcesses = 40;
  for (int i = 1; i <= kProcesses; ++i) {
    ASSERT_TRUE(Submit(*executor, Request(i)).ok());
  }
  for (int i = 1; i <= kProcesses; ++i) {
    exits_.WaitFor(i);
    EXPECT_EQ(exits_.Count(i), 1u);
  }
}

}  // namespace
}  // namespace normlab::server
