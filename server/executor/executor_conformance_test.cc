// The fake and the local executor do what every executor must.
#include "server/executor/executor_conformance.h"

#include <signal.h>

#include <memory>
#include <utility>

#include "server/executor/fake_executor.h"
#include "server/executor/local_process.h"

namespace normlab::server {
namespace {

class FakeUnderTest final : public ExecutorUnderTest {
 public:
  Executor& executor() override { return *executor_; }
  void Restart() override {
    // What ran goes on, and the next one is told of it.
    auto next = std::make_unique<FakeExecutor>();
    for (const auto& [key, identity] : running_) {
      if (executor_->IsRunning({key.first, key.second})) {
        next->AddSurvivor(identity);
      }
    }
    executor_ = std::move(next);
  }
  SubmitRequest Request(const std::string& job,
                        int32_t number,
                        Behaviour /*behaviour*/,
                        int ranks) override {
    SubmitRequest request;
    request.attempt = {job, number};
    request.assignment.mutable_resolved_spec()->mutable_data_parallel()->set_ranks(ranks);
    return request;
  }
  void Act(const AttemptKey& attempt, Behaviour behaviour) override {
    const auto view = executor_->Observe(std::vector<AttemptKey>{attempt}).front();
    running_[{attempt.job_id, attempt.number}] = view.identity;
    // What a process does upon a signal is ours to do then.
    executor_->IgnoreKills(behaviour == Behaviour::kRunPolite);
    if (behaviour == Behaviour::kExit0 || behaviour == Behaviour::kExit7) {
      executor_->ExitWithCode(attempt, behaviour == Behaviour::kExit0 ? 0 : 7);
    } else if (behaviour == Behaviour::kCrash) {
      ProcessExit exit;
      exit.cause = ExitCause::kSignalled;
      exit.code = SIGSEGV;
      executor_->Exit(attempt, exit);
    }
  }
  void ActOnSignal(const AttemptKey& attempt, AttemptSignal signal, Behaviour behaviour) override {
    if (behaviour == Behaviour::kRunPolite && signal != AttemptSignal::kKill) {
      EXPECT_EQ(executor_->signals().back().second, signal) << "it was handed on";
      executor_->IgnoreKills(false);
      executor_->ExitWithCode(attempt, signal == AttemptSignal::kStop ? 5 : 6);
    }
  }
  int Starts(const AttemptKey& attempt) override {
    return running_.count({attempt.job_id, attempt.number}) > 0 ? 1 : 0;
  }
  void WaitForStart(const AttemptKey& /*attempt*/) override {}
  bool has_processes() const override { return false; }

 private:
  std::map<std::pair<std::string, int32_t>, std::string> running_;
  std::unique_ptr<FakeExecutor> executor_ = std::make_unique<FakeExecutor>();
};

class LocalUnderTest final : public ExecutorUnderTest {
 public:
  LocalUnderTest() { Restart(); }
  Executor& executor() override { return *executor_; }
  void Restart() override {
    auto made = NewLocalProcessExecutor({attempts_.worker_binary()});
    ASSERT_TRUE(made.ok()) << made.status();
    executor_ = *std::move(made);
  }
  SubmitRequest Request(const std::string& job,
                        int32_t number,
                        Behaviour behaviour,
                        int ranks) override {
    return attempts_.Request(job, number, behaviour, ranks);
  }
  int RankStarts(const AttemptKey& attempt) override { return attempts_.RankStarts(attempt); }
  int Starts(const AttemptKey& attempt) override { return attempts_.Starts(attempt); }
  void WaitForStart(const AttemptKey& attempt) override { attempts_.WaitForStart(attempt); }

 private:
  ScriptedAttempts attempts_;
  std::unique_ptr<Executor> executor_;
};

template <typename Made>
std::unique_ptr<ExecutorUnderTest> Make() {
  return std::make_unique<Made>();
}

INSTANTIATE_TEST_SUITE_P(Executors,
                         ExecutorConformanceTest,
                         ::testing::Values(ExecutorParam{"Fake", &Make<FakeUnderTest>},
                                           ExecutorParam{"LocalProcess", &Make<LocalUnderTest>}),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace normlab::server
