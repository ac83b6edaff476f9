// The Slurm executor does what every executor must, on the real Slurm that NORMLAB_SLURM_BIN has the commands
// of (tests/slurm/run starts one).
#include <stdlib.h>

#include <memory>
#include <utility>

#include "server/executor/executor_conformance.h"
#include "server/executor/slurm_executor.h"

namespace normlab::server {
namespace {

class SlurmUnderTest final : public ExecutorUnderTest {
 public:
  SlurmUnderTest() { Restart(); }
  Executor& executor() override { return *executor_; }
  void Restart() override {
    SlurmOptions options;
    options.worker_binary = attempts_.worker_binary();
    options.work_dir = attempts_.folder();
    options.server_id = "conformance";
    options.bin = getenv("NORMLAB_SLURM_BIN");
    options.poll_interval = absl::Milliseconds(100);
    auto made = NewSlurmExecutor(options);
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

INSTANTIATE_TEST_SUITE_P(Executors,
                         ExecutorConformanceTest,
                         ::testing::Values(ExecutorParam{
                             "Slurm",
                             []() -> std::unique_ptr<ExecutorUnderTest> {
                               return std::make_unique<SlurmUnderTest>();
                             }}),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace normlab::server
