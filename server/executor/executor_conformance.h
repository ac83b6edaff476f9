#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"

#include "server/executor/executor.h"

// What every Executor must do (executor.h), as tests over any of them: executor_conformance.cc has the
// cases; whoever has an executor instantiates them.
namespace normlab::server {

// What an attempt's process does.
enum class Behaviour {
  kExit0,
  kExit7,
  kCrash,        // dies of SIGSEGV
  kRun,          // until it is ended
  kRunStubborn,  // the same, and SIGTERM and SIGUSR1 do not end it
  kRunPolite,    // SIGTERM ends it with exit code 5, SIGUSR1 with 6
};

// An executor, and how its processes are told what to do.
class ExecutorUnderTest {
 public:
  virtual ~ExecutorUnderTest() = default;

  virtual Executor& executor() = 0;
  // Another server takes over what is left of the present one.
  virtual void Restart() = 0;
  // Of a fresh attempt; `number` is 1 or more. Of several ranks the first behaves so; the others crash when
  // it shall (which then runs), end with it, or run until they are ended.
  virtual SubmitRequest Request(const std::string& job,
                                int32_t number,
                                Behaviour behaviour,
                                int ranks) = 0;
  // For executors without processes: does what the process would do by itself, or upon a signal.
  virtual void Act(const AttemptKey& attempt, Behaviour behaviour) {
    (void)attempt;
    (void)behaviour;
  }
  virtual void ActOnSignal(const AttemptKey& attempt, AttemptSignal signal, Behaviour behaviour) {
    (void)attempt;
    (void)signal;
    (void)behaviour;
  }
  // How often an attempt's process has begun.
  virtual int Starts(const AttemptKey& attempt) = 0;
  // Waits until it has; processes that handle signals do so from then on.
  virtual void WaitForStart(const AttemptKey& attempt) = 0;
  // Takes away what the executor remembers of an attempt that runs, as if the server had died before it
  // noted its identity.
  virtual void ForgetIdentity(const AttemptKey& attempt, const std::string& identity) {
    (void)attempt;
    (void)identity;
  }
  virtual bool has_processes() const { return true; }
  // How many processes of an attempt of several ranks have begun, the first aside.
  virtual int RankStarts(const AttemptKey& attempt) {
    (void)attempt;
    return 0;
  }
};

using ExecutorFactory = std::unique_ptr<ExecutorUnderTest> (*)();
struct ExecutorParam {
  std::string name;
  ExecutorFactory make;
};

// The same for executors whose workers are processes: a folder in which each attempt has one, with a
// script of what it does, and a worker program that runs it.
class ScriptedAttempts {
 public:
  ScriptedAttempts();
  ~ScriptedAttempts();
  ScriptedAttempts(const ScriptedAttempts&) = delete;
  ScriptedAttempts& operator=(const ScriptedAttempts&) = delete;

  const std::string& folder() const { return folder_; }
  std::string worker_binary() const { return folder_ + "/worker.sh"; }
  SubmitRequest Request(const std::string& job, int32_t number, Behaviour behaviour, int ranks);
  int Starts(const AttemptKey& attempt) const;
  int RankStarts(const AttemptKey& attempt) const;
  void WaitForStart(const AttemptKey& attempt) const;
  std::string AttemptFolder(const AttemptKey& attempt) const;

 private:
  std::string folder_;
};

class ExecutorConformanceTest : public ::testing::TestWithParam<ExecutorParam> {
 protected:
  ExecutorConformanceTest();
  ~ExecutorConformanceTest() override;

  Executor& executor() { return under_test_->executor(); }
  // Waits for the answer; then does what the process does.
  absl::StatusOr<std::string> Submit(int32_t number, Behaviour behaviour, int ranks = 1);
  absl::StatusOr<std::string> SubmitRequestOf(SubmitRequest request, Behaviour behaviour);
  AttemptKey Key(int32_t number) const { return {job_, number}; }
  absl::Status Signal(int32_t number, AttemptSignal signal, Behaviour behaviour);
  AttemptView Look(int32_t number);
  // Waits until a look says so.
  AttemptView WaitForState(int32_t number, AttemptView::State state);
  ProcessExit WaitForExit(int32_t number);
  size_t ExitCount(int32_t number);
  void Restart();

  const std::string job_;
  std::unique_ptr<ExecutorUnderTest> under_test_;

 private:
  void Listen();

  absl::Mutex mu_;
  std::map<int32_t, std::vector<ProcessExit>> exits_ ABSL_GUARDED_BY(mu_);
  std::map<int32_t, bool> answered_ ABSL_GUARDED_BY(mu_);
};

}  // namespace normlab::server
