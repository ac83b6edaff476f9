// What is said to Slurm's commands, and what they say, without a Slurm.
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/atomic_file.h"
#include "common/worker_exit.h"
#include "server/executor/command.h"
#include "server/executor/slurm_client.h"
#include "server/executor/slurm_records.h"
#include "server/executor/slurm_states.h"
#include "server/executor/slurm_submission.h"

namespace normlab::server {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// ---- Commands.

CommandOptions Shell(const std::string& script) {
  return {.argv = {"/bin/sh", "-c", script}, .environment = {"PATH=/usr/bin:/bin", "A=one"}};
}

TEST(CommandTest, TellsOutputErrorsAndCode) {
  const auto result = RunCommand(Shell("echo out $A; echo err >&2; exit 3"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->code, 3);
  EXPECT_EQ(result->output, "out one\n");
  EXPECT_EQ(result->errors, "err\n");
}

TEST(CommandTest, TakesLargeOutputsOfBothKinds) {
  const auto result = RunCommand(Shell("head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->output.size(), 3'000'000u);
  EXPECT_EQ(result->errors.size(), 2'000'000u);
}

TEST(CommandTest, EndsWhatWritesTooMuch) {
  CommandOptions options = Shell("yes");
  options.max_output_bytes = 100'000;
  EXPECT_EQ(RunCommand(options).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(CommandTest, EndsWhatTakesTooLongAndWhatItStarted) {
  CommandOptions options = Shell("sleep 1000 & sleep 1000");
  options.timeout = absl::Milliseconds(50);
  const auto result = RunCommand(options);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("50ms"));
}

TEST(CommandTest, SignalsAndMissingProgramsAreTold) {
  const auto killed = RunCommand(Shell("kill -9 $$"));
  ASSERT_TRUE(killed.ok());
  EXPECT_EQ(killed->code, 128 + SIGKILL);
  EXPECT_EQ(RunCommand({.argv = {"/no/such/program"}}).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(CommandTest, HandsOverNoDescriptors) {
  const auto result = RunCommand(Shell("ls /proc/self/fd | tr '\\n' ' '"));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->output, "0 1 2 3 ") << "3 is the folder that ls reads";
}

// ---- What squeue says.

// Of Slurm 22.05.8, shortened.
constexpr char kOldQueue[] = R"({"meta": {}, "errors": [], "jobs": [
  {"job_id": 12, "array_job_id": 0, "array_task_id": null, "array_task_string": "", "name": "normlab-x-a-1",
   "job_state": "FAILED", "state_reason": "NonZeroExitCode", "exit_code": 768, "start_time": 1795398643, "nodes": "n1"},
  {"job_id": 14, "array_job_id": 0, "array_task_id": null, "array_task_string": "", "name": "normlab-x-b-2",
   "job_state": "FAILED", "state_reason": "JobLaunchFailure", "exit_code": 9, "start_time": 1795398644, "nodes": "n2"},
  {"job_id": 17, "array_job_id": 15, "array_task_id": 0, "array_task_string": "", "name": "normlab-x-array-q",
   "job_state": "RUNNING", "state_reason": "None", "exit_code": 0, "start_time": 1795398645, "nodes": "n1"},
  {"job_id": 15, "array_job_id": 15, "array_task_id": null, "array_task_string": "1,3-4", "name": "normlab-x-array-q",
   "job_state": "PENDING", "state_reason": "Resources", "exit_code": 0, "start_time": 0, "nodes": ""},
  {"job_id": 18, "array_job_id": 0, "name": "somebody-elses", "job_state": "RUNNING"}]})";

// Of Slurm 24.11, shortened.
constexpr char kNewQueue[] = R"({"meta": {}, "errors": [], "warnings": [], "jobs": [
  {"job_id": 12, "array_job_id": {"set": true, "infinite": false, "number": 0},
   "array_task_id": {"set": false, "infinite": false, "number": 0}, "array_task_string": "", "name": "normlab-x-a-1",
   "job_state": ["FAILED"], "state_reason": "NonZeroExitCode", "nodes": "n1",
   "exit_code": {"status": ["ERROR"], "return_code": {"set": true, "infinite": false, "number": 3},
                 "signal": {"id": {"set": false, "infinite": false, "number": 0}, "name": ""}},
   "start_time": {"set": true, "infinite": false, "number": 1795398643}},
  {"job_id": 17, "array_job_id": {"set": true, "infinite": false, "number": 15},
   "array_task_id": {"set": true, "infinite": false, "number": 0}, "array_task_string": "", "name": "normlab-x-array-q",
   "job_state": ["CANCELLED", "COMPLETING"], "state_reason": "None", "nodes": "n1",
   "exit_code": {"return_code": {"set": true, "number": 0}, "signal": {"id": {"set": true, "number": 15}}},
   "start_time": {"set": true, "infinite": false, "number": 1795398645}}]})";

TEST(SlurmRecordsTest, ReadsTheQueueOfSlurm22) {
  const auto records = ParseSqueue(kOldQueue, "normlab-x-", 0);
  ASSERT_TRUE(records.ok()) << records.status();
  ASSERT_EQ(records->size(), 6u);
  EXPECT_EQ((*records)[0].Id(), "12");
  EXPECT_EQ((*records)[0].exit_code, 3);
  EXPECT_EQ((*records)[0].exit_signal, 0);
  EXPECT_EQ((*records)[0].start, absl::FromUnixSeconds(1795398643));
  EXPECT_EQ((*records)[1].exit_signal, 9);
  EXPECT_EQ((*records)[2].Id(), "15_0");
  EXPECT_EQ((*records)[2].state, "RUNNING");
  std::vector<std::string> waiting;
  for (size_t i = 3; i < 6; ++i) {
    EXPECT_EQ((*records)[i].state, "PENDING");
    waiting.push_back((*records)[i].Id());
  }
  EXPECT_THAT(waiting, ElementsAre("15_1", "15_3", "15_4"));
}

TEST(SlurmRecordsTest, ReadsTheQueueOfSlurm24) {
  const auto records = ParseSqueue(kNewQueue, "normlab-x-", 0);
  ASSERT_TRUE(records.ok()) << records.status();
  ASSERT_EQ(records->size(), 2u);
  EXPECT_EQ((*records)[0].Id(), "12");
  EXPECT_EQ((*records)[0].exit_code, 3);
  EXPECT_EQ((*records)[0].state, "FAILED");
  EXPECT_EQ((*records)[1].Id(), "15_0");
  EXPECT_EQ((*records)[1].state, "COMPLETING") << "it has not gone yet";
  EXPECT_EQ((*records)[1].exit_signal, 15);
}

TEST(SlurmRecordsTest, RefusesWhatIsNoQueue) {
  for (const char* text : {"", "[]", "{}", "{\"jobs\": 3}", "slurm_load_jobs error: x",
                           R"({"errors": [{"error": "no"}], "jobs": []})"}) {
    EXPECT_EQ(ParseSqueue(text, "", 0).status().code(), absl::StatusCode::kDataLoss) << text;
  }
  EXPECT_TRUE(ParseSqueue(R"({"jobs": [3, {"name": 4}, {"job_id": "x"}]})", "a", 0).ok());
}

TEST(SlurmRecordsTest, WhatOthersWriteIntoTheirJobsIsNoMatterOfOurs) {
  const auto records = ParseSqueue(
      "{\"jobs\": [{\"job_id\": 1, \"name\": \"Pr\xfc"
      "fung\", \"user_id\": 7},"
      "{\"job_id\": 2, \"name\": \"a-1\", \"user_id\": 7},"
      "{\"job_id\": 3, \"name\": \"a-1\", \"user_id\": 8, \"job_state\": \"RUNNING\"}]}",
      "a-", 8);
  ASSERT_TRUE(records.ok()) << records.status();
  ASSERT_EQ(records->size(), 1u);
  EXPECT_EQ(records->front().job_id, 3);
}

TEST(SlurmRecordsTest, ReadsKeysAndValues) {
  const auto shown = ParseKeyValues(
      "JobId=18 ArrayJobId=15 ArrayTaskId=7 JobName=normlab-x-array-q UserId=root(0) "
      "JobState=NODE_FAIL "
      "Reason=None Dependency=(null) ExitCode=0:9 StartTime=2026-11-23T01:50:43 NodeList=n2 "
      "Command=/a=b");
  ASSERT_TRUE(shown.ok()) << shown.status();
  EXPECT_EQ(shown->Id(), "15_7");
  EXPECT_EQ(shown->name, "normlab-x-array-q");
  EXPECT_EQ(shown->state, "NODE_FAIL");
  EXPECT_EQ(shown->exit_signal, 9);
  EXPECT_EQ(shown->nodes, "n2");
  EXPECT_FALSE(ParseKeyValues("slurm_load_jobs error: Invalid job id specified").ok());
}

TEST(SlurmRecordsTest, FindsACompletionByTheLastOfItsLines) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/jobcomp-", getpid(), ".txt");
  std::ofstream(path)
      << "JobId=4 Name=normlab-x-a-1 JobState=NODE_FAIL NodeList=n1 ExitCode=0:0 \n"
         "JobId=41 Name=other JobState=COMPLETED NodeList=n1 ExitCode=0:0 \n"
         "JobId=9 Name=q JobState=COMPLETED NodeList=n2 ArrayJobId=4 ArrayTaskId=2 ExitCode=5:0 \n"
         "JobId=4 Name=normlab-x-a-1 JobState=FAILED NodeList=n1 ExitCode=2:0 \n";
  EXPECT_EQ(FindCompletion(path, 4, std::nullopt)->exit_code, 2);
  EXPECT_EQ(FindCompletion(path, 4, 2)->exit_code, 5);
  EXPECT_TRUE(absl::IsNotFound(FindCompletion(path, 4, 3).status()));
  EXPECT_TRUE(absl::IsNotFound(FindCompletion(path, 1, std::nullopt).status()));
  EXPECT_TRUE(absl::IsNotFound(FindCompletion("/no/such/file", 1, std::nullopt).status()));
  std::filesystem::remove(path);
}

TEST(SlurmRecordsTest, ReadsRangesOfElements) {
  EXPECT_THAT(ParseTaskRanges("0-3,7,10-20:5%2"), ElementsAre(0, 1, 2, 3, 7, 10, 15, 20));
  for (const char* text : {"", "x", "3-", "5-4", "0-99999999999", "1:0", "1-2:0", "-1"}) {
    EXPECT_THAT(ParseTaskRanges(text), IsEmpty()) << text;
  }
}

TEST(SlurmRecordsTest, ReadsTheConfiguration) {
  const std::string text =
      "Configuration data as of now\nMaxArraySize            = 1001\nJobCompLoc  = /var/log/x y\n"
      "DebugFlags              = (null)\n";
  EXPECT_EQ(ConfigValue(text, "MaxArraySize"), "1001");
  EXPECT_EQ(ConfigValue(text, "JobCompLoc"), "/var/log/x y");
  EXPECT_EQ(ConfigValue(text, "DebugFlags"), "");
  EXPECT_EQ(ConfigValue(text, "ArraySize"), "");
}

// ---- What states mean.

SlurmRecord InState(const std::string& state, const std::string& reason = "None") {
  SlurmRecord record;
  record.job_id = 17;
  record.nodes = "n2";
  record.state = state;
  record.reason = reason;
  return record;
}

TEST(SlurmStatesTest, EachEndHasItsCause) {
  const std::vector<std::pair<std::string, ExitCause>> ends = {
      {"COMPLETED", ExitCause::kExited},
      {"OUT_OF_MEMORY", ExitCause::kOutOfMemory},
      {"PREEMPTED", ExitCause::kPreempted},
      {"NODE_FAIL", ExitCause::kNodeFailed},
      {"BOOT_FAIL", ExitCause::kNodeFailed},
      {"TIMEOUT", ExitCause::kTimeLimit},
      {"DEADLINE", ExitCause::kTimeLimit},
      {"CANCELLED", ExitCause::kCancelledOutside},
      {"CANCELLED by 1000", ExitCause::kCancelledOutside},
      {"SOMETHING_NEW", ExitCause::kUnknown}};
  for (const auto& [state, cause] : ends) {
    const auto exit = ExitOf(InState(state), false);
    ASSERT_TRUE(exit.has_value()) << state;
    EXPECT_EQ(exit->cause, cause) << state;
    EXPECT_THAT(exit->description, HasSubstr("Slurm job 17 on n2")) << state;
  }
  EXPECT_EQ(ExitOf(InState("COMPLETED"), false)->code, 0);
  EXPECT_EQ(ExitOf(InState("COMPLETED"), true)->code, 0) << "it was quicker than we";
  EXPECT_EQ(ExitOf(InState("CANCELLED"), true)->cause, ExitCause::kSignalled);
  EXPECT_EQ(ExitOf(InState("FAILED"), true)->cause, ExitCause::kExited) << "so it was there, too";
  for (const char* state :
       {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "STAGE_OUT"}) {
    EXPECT_FALSE(ExitOf(InState(state), true).has_value()) << state;
  }
}

TEST(SlurmStatesTest, FailedHasACodeASignalOrNeverStarted) {
  SlurmRecord record = InState("FAILED", "NonZeroExitCode");
  record.exit_code = 7;
  EXPECT_EQ(ExitOf(record, false)->cause, ExitCause::kExited);
  EXPECT_EQ(ExitOf(record, false)->code, 7);
  record.exit_code = 0;
  record.exit_signal = SIGSEGV;
  EXPECT_EQ(ExitOf(record, false)->cause, ExitCause::kSignalled);
  EXPECT_EQ(ExitOf(record, false)->code, SIGSEGV);
  record.exit_signal = 53;
  EXPECT_EQ(ExitOf(record, false)->cause, ExitCause::kNodeFailed);
  EXPECT_THAT(ExitOf(record, false)->description, HasSubstr("is the work folder mounted"));
  // As srun tells that a rank was killed; what a worker says of itself stays what it is.
  record.exit_signal = 0;
  record.exit_code = 128 + SIGKILL;
  EXPECT_EQ(ExitOf(record, false)->cause, ExitCause::kSignalled);
  EXPECT_EQ(ExitOf(record, false)->code, SIGKILL);
  EXPECT_THAT(ExitOf(record, false)->description,
              HasSubstr("signal 9 of a process (Killed; Slurm"));
  for (const int code : {common::kExitTerminated, common::kExitDataUnusable, 255}) {
    record.exit_code = code;
    EXPECT_EQ(ExitOf(record, false)->cause, ExitCause::kExited);
    EXPECT_EQ(ExitOf(record, false)->code, code);
  }
  record.exit_signal = 0;
  record.exit_code = common::kExitRunAgain;
  EXPECT_EQ(ExitOf(record, false)->cause, ExitCause::kNodeFailed);
  EXPECT_THAT(ExitOf(record, false)->description, HasSubstr("a second time"));
  record = InState("FAILED", "BadConstraints");
  record.nodes.clear();
  EXPECT_EQ(ExitOf(record, false)->cause, ExitCause::kRefused);
  EXPECT_THAT(ExitOf(record, false)->description, HasSubstr("BadConstraints"));
}

TEST(SlurmStatesTest, SaysWhatToDoAboutWhatNeverStarts) {
  const auto reason = [](const std::string& word) {
    return ViewOf(InState("PENDING", word), absl::FromUnixSeconds(1000)).reason;
  };
  EXPECT_EQ(reason("PartitionTimeLimit"),
            "PartitionTimeLimit (Slurm will not start it as it is: cancel it, and submit it with "
            "another slurm.partition, a smaller slurm.time_limit or fewer threads)");
  EXPECT_THAT(reason("BadConstraints"), HasSubstr("another slurm.constraint"));
  EXPECT_THAT(reason("AccountNotAllowed"), HasSubstr("another slurm.account"));
  EXPECT_THAT(reason("QOSMaxWallDurationPerJobLimit"), HasSubstr("a smaller slurm.time_limit"));
  EXPECT_THAT(reason("JobHeldUser"), HasSubstr("scontrol release"));
  for (const std::string word : {"Priority", "Resources", "Licenses", "QOSGrpCpuLimit",
                                 "QOSMaxJobsPerUserLimit", "BeginTime"}) {
    EXPECT_EQ(reason(word), word) << "waiting helps";
  }
}

TEST(SlurmStatesTest, SaysForWhatItWaitsAndWhereItRuns) {
  const absl::Time now = absl::FromUnixSeconds(1000);
  const AttemptView waiting = ViewOf(InState("PENDING", "Resources"), now);
  EXPECT_EQ(waiting.state, AttemptView::State::kWaiting);
  EXPECT_EQ(waiting.reason, "Resources");
  SlurmRecord record = InState("RUNNING");
  record.start = absl::FromUnixSeconds(940);
  const AttemptView running = ViewOf(record, now);
  EXPECT_EQ(running.state, AttemptView::State::kRunning);
  EXPECT_EQ(running.running_for, absl::Minutes(1));
  EXPECT_EQ(running.place, "Slurm job 17 on n2");
  record.start = absl::InfiniteFuture();
  EXPECT_EQ(ViewOf(record, now).running_for, absl::ZeroDuration());
}

TEST(SlurmStatesTest, TellsRefusalsFromTroubles) {
  for (const char* text :
       {"Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "Batch job submission failed: Socket timed out on send/recv operation",
        "Batch job submission failed: Zero Bytes were transmitted or received"}) {
    EXPECT_TRUE(IsTransientRefusal(text)) << text;
    EXPECT_FALSE(IsLimit(text)) << text;
  }
  for (const char* text :
       {"Slurm temporarily unable to accept job, sleeping and retrying",
        "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's "
        "size)"}) {
    EXPECT_TRUE(IsLimit(text)) << text;
    EXPECT_FALSE(IsTransientRefusal(text)) << text;
  }
  for (const char* text :
       {"Batch job submission failed: Invalid partition name specified",
        "Batch job submission failed: Requested node configuration is not available",
        "Batch job submission failed: Invalid account or account/partition combination specified",
        "Memory specification can not be satisfied"}) {
    EXPECT_FALSE(IsTransientRefusal(text)) << text;
  }
}

// ---- What is handed to sbatch.

TEST(SlurmSubmissionTest, ArgumentsSayWhatIsWished) {
  SbatchJob job;
  job.name = "normlab-x-a-1";
  job.script = "/w/run.sh";
  job.log_path = "/w/100% mine/worker.log";
  job.folder = "/w";
  job.shape.cores = 3;
  job.shape.memory_bytes = (int64_t{100} << 20) + 1;
  std::vector<std::string> plain = SbatchArguments(job);
  EXPECT_THAT(plain, Contains("--job-name=normlab-x-a-1"));
  EXPECT_THAT(plain, Contains("--no-requeue"));
  EXPECT_THAT(plain, Contains("--cpus-per-task=3"));
  EXPECT_THAT(plain, Contains("--mem=165M"));
  EXPECT_THAT(plain, Contains("--output=/w/100%% mine/worker.log"));
  EXPECT_THAT(plain, Contains("--signal=B:USR1@60"));
  EXPECT_EQ(plain.back(), "/w/run.sh");
  for (const char* flag :
       {"--partition", "--account", "--constraint", "--qos", "--time", "--array"}) {
    EXPECT_THAT(plain, Not(Contains(HasSubstr(flag)))) << flag;
  }
  job.shape.wishes = {"gpu", "ml", "[a|b]", "high", absl::Seconds(90)};
  job.elements = 12;
  const std::vector<std::string> full = SbatchArguments(job);
  EXPECT_THAT(full, Contains("--partition=gpu"));
  EXPECT_THAT(full, Contains("--account=ml"));
  EXPECT_THAT(full, Contains("--constraint=[a|b]"));
  EXPECT_THAT(full, Contains("--qos=high"));
  EXPECT_THAT(full, Contains("--time=2")) << "whole minutes, rounded up";
  EXPECT_THAT(full, Contains("--signal=B:USR1@22"));
  EXPECT_THAT(full, Contains("--array=0-11"));
}

TEST(SlurmSubmissionTest, RanksAreTasksWithTheirShareOfTheMemory) {
  v1::WorkerAssignment assignment;
  assignment.set_memory_estimate_bytes((int64_t{1000} << 20) + 1);
  assignment.mutable_resolved_spec()->set_threads(3);
  assignment.mutable_resolved_spec()->mutable_data_parallel()->set_ranks(5);
  SbatchJob job;
  job.shape = ShapeOf(assignment, {});
  EXPECT_EQ(job.shape.ranks, 5);
  EXPECT_EQ(job.shape.cores, 3);
  const std::vector<std::string> arguments = SbatchArguments(job);
  EXPECT_THAT(arguments, Contains("--ntasks=5"));
  EXPECT_THAT(arguments, Contains("--cpus-per-task=3"));
  EXPECT_THAT(arguments, Contains("--mem-per-cpu=89M")) << "(1000 + 5 * 64) / 15, rounded up";
  EXPECT_THAT(arguments, Not(Contains(HasSubstr("--mem="))));
  EXPECT_THAT(arguments, Not(Contains(HasSubstr("--nodes")))) << "as many as Slurm likes";
  assignment.mutable_resolved_spec()->mutable_data_parallel()->set_ranks(1);
  job.shape = ShapeOf(assignment, {});
  EXPECT_THAT(SbatchArguments(job), Contains("--nodes=1"));
}

TEST(SlurmSubmissionTest, TheJobsWishesComeBeforeTheServers) {
  v1::WorkerAssignment assignment;
  assignment.set_memory_estimate_bytes(1234);
  v1::JobSpec& spec = *assignment.mutable_resolved_spec();
  spec.set_threads(3);
  const SlurmWishes server = {"work", "lab", "fast", "normal", absl::Minutes(30)};
  const SlurmShape plain = ShapeOf(assignment, server);
  EXPECT_TRUE(plain.wishes == server);
  EXPECT_EQ(plain.cores, 3);
  EXPECT_EQ(plain.memory_bytes, 1234);
  spec.mutable_slurm()->set_partition("gpu");
  spec.mutable_slurm()->set_qos("high");
  spec.mutable_slurm()->mutable_time_limit()->set_seconds(90);
  const SlurmWishes expected = {"gpu", "lab", "fast", "high", absl::Seconds(90)};
  EXPECT_TRUE(ShapeOf(assignment, server).wishes == expected);
}

TEST(SlurmSubmissionTest, TheEarlySignalLeavesTimeToTrain) {
  EXPECT_EQ(EarlySignal(absl::Seconds(60)), absl::Seconds(15));
  EXPECT_EQ(EarlySignal(absl::Hours(5)), absl::Minutes(1));
  EXPECT_EQ(EarlySignal(absl::ZeroDuration()), absl::Minutes(1)) << "the partition's limit";
}

TEST(SlurmSubmissionTest, ReadsTheIdOfSbatch) {
  EXPECT_EQ(*ParseSbatch("4711\n"), 4711);
  EXPECT_EQ(*ParseSbatch("4711;cluster\n"), 4711);
  for (const char* text : {"", "Submitted batch job 4711", "0", "-3"}) {
    EXPECT_EQ(ParseSbatch(text).status().code(), absl::StatusCode::kDataLoss) << text;
  }
}

// A worker that says how it was called, and removes the file that it is handed.
class SlurmScriptTest : public ::testing::Test {
 protected:
  SlurmScriptTest() : folder_(absl::StrCat(::testing::TempDir(), "/it's a folder ", getpid())) {
    std::filesystem::create_directories(folder_);
    std::ofstream(folder_ + "/worker") << "#!/bin/sh\nfor a; do echo \"[$a]\"; done\ntrap\n";
    chmod((folder_ + "/worker").c_str(), 0755);
  }
  ~SlurmScriptTest() override { std::filesystem::remove_all(folder_); }

  std::string Run(const std::string& script, const std::string& environment = "A=b") {
    std::ofstream(folder_ + "/run.sh") << script;
    const auto result = RunCommand({.argv = {"/bin/sh", folder_ + "/run.sh"},
                                    .environment = {"PATH=/usr/bin:/bin", environment}});
    EXPECT_TRUE(result.ok() && result->code == 0) << result.status() << result->errors;
    return result->output;
  }

  std::string folder_;
};

TEST_F(SlurmScriptTest, OneAttemptStartsItsWorker) {
  v1::WorkerAssignment assignment;
  assignment.set_attempt_folder(folder_);
  EXPECT_EQ(Run(ScriptOf({folder_ + "/worker", ""}, SlurmShape(), assignment)),
            absl::StrCat("[--run-file]\n[", folder_, "/assignment]\n"));
  EXPECT_EQ(Run(ScriptOf({folder_ + "/worker", "/ca's.pem"}, SlurmShape(), assignment)),
            absl::StrCat("[--server-ca]\n[/ca's.pem]\n[--run-file]\n[", folder_, "/assignment]\n"));
}

TEST_F(SlurmScriptTest, RanksAreStartedBySrun) {
  // As srun does it, with one task; the words before the command are the first lines of its output.
  std::ofstream(folder_ + "/srun")
      << "#!/bin/sh\nwhile [ \"$1\" != /bin/sh ]; do echo \"$1\"; shift; done\nexec \"$@\"\n";
  chmod((folder_ + "/srun").c_str(), 0755);
  v1::WorkerAssignment assignment;
  assignment.set_attempt_folder(folder_);
  const SlurmShape shape = {.ranks = 4, .cores = 2};
  WorkerCommand worker = {.binary = "/not/this/one",
                          .server_ca_file = "/ca's.pem",
                          .srun = folder_ + "/srun",
                          .rank_binary = folder_ + "/worker",
                          .mpi = "pmix_v4"};
  EXPECT_EQ(Run(ScriptOf(worker, shape, assignment)),
            absl::StrCat("--mpi=pmix_v4\n--ntasks=4\n--cpus-per-task=2\n--kill-on-bad-exit=1\n"
                         "--input=none\n[--server-ca]\n[/ca's.pem]\n[--run-file]\n[",
                         folder_, "/assignment]\n"));
  worker.rank_binary = folder_ + "/none";
  const std::string path = folder_ + "/run.sh";
  std::ofstream(path) << ScriptOf(worker, shape, assignment);
  const auto missing = RunCommand(
      {.argv = {"/bin/sh", path}, .environment = {"PATH=/usr/bin:/bin", "SLURMD_NODENAME=n7"}});
  ASSERT_TRUE(missing.ok());
  EXPECT_EQ(missing->code, common::kExitRankUsage);
  EXPECT_THAT(missing->errors, HasSubstr(absl::StrCat("the node n7 has no ", folder_, "/none")));
  EXPECT_THAT(missing->errors, HasSubstr("install normlab-worker-mpi"));
}

TEST_F(SlurmScriptTest, AnElementOfAnArrayFindsItsAttempt) {
  std::vector<ListedAttempt> attempts;
  for (int32_t number = 1; number <= 3; ++number) {
    attempts.push_back({{"job", number}, absl::StrCat(folder_, "/$HOME `id` ", number)});
    std::filesystem::create_directories(attempts.back().folder);
  }
  const std::string list = folder_ + "/attempts";
  std::ofstream(list) << ListOf(attempts);
  const std::string script = ArrayScript({folder_ + "/worker", ""}, SlurmShape(), list);
  EXPECT_EQ(Run(script, "SLURM_ARRAY_TASK_ID=1"), "");
  EXPECT_EQ(common::ReadFile(attempts[1].folder + "/worker.log").value_or(""),
            absl::StrCat("[--run-file]\n[", attempts[1].folder, "/assignment]\n"));
  EXPECT_FALSE(std::filesystem::exists(attempts[0].folder + "/worker.log"));

  const std::vector<ListedAttempt> read = ParseList(ListOf(attempts));
  ASSERT_EQ(read.size(), 3u);
  EXPECT_EQ(read[2].attempt.number, 3);
  EXPECT_EQ(read[2].folder, attempts[2].folder);
}

TEST_F(SlurmScriptTest, OnlyTheOwnerCanReadAnAssignment) {
  v1::WorkerAssignment assignment;
  assignment.set_attempt_folder(folder_);
  assignment.set_secret("secret");
  const mode_t before = umask(0);
  ASSERT_TRUE(WriteAssignment(assignment).ok());
  ASSERT_TRUE(WriteAssignment(assignment).ok()) << "again, as the first answer was lost";
  umask(before);
  struct stat info {};
  ASSERT_EQ(stat(AssignmentPath(folder_).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  v1::WorkerAssignment read;
  ASSERT_TRUE(read.ParseFromString(*common::ReadFile(AssignmentPath(folder_))));
  EXPECT_EQ(read.secret(), "secret");
  assignment.set_attempt_folder(folder_ + "/none");
  EXPECT_FALSE(WriteAssignment(assignment).ok());
}

}  // namespace
}  // namespace normlab::server
