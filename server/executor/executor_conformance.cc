#include "server/executor/executor_conformance.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "common/atomic_file.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/worker_exit.h"
#include "server/executor/rank_launch.h"
#include "server/executor/slurm_submission.h"

namespace normlab::server {
namespace {

// Of things that take a second where nothing else runs.
constexpr absl::Duration kDeadline = absl::Seconds(60);
constexpr absl::Duration kPause = absl::Milliseconds(5);

template <typename Condition>
bool WaitUntil(Condition condition) {
  const absl::Duration deadline = common::Clock::Real().Monotonic() + kDeadline;
  while (!condition()) {
    if (common::Clock::Real().Monotonic() > deadline) {
      return false;
    }
    absl::SleepFor(kPause);
  }
  return true;
}

// The worker finds in its assignment what to do, whichever way that comes.
constexpr char kWorker[] = R"(#!/bin/sh
if [ "$1" = --run ]; then
  text=$(grep -a -o 'BEHAVE:[^:]*:' <&3)
else
  while [ "$1" != --run-file ]; do shift; done
  text=$(grep -a -o 'BEHAVE:[^:]*:' "$2")
  rm -f "$2"
fi
script=${text#BEHAVE:}
exec /bin/sh "${script%:}"
)";

// One of several: only the first has the assignment, and tells the others. Who started them may be killed
// without ending them.
constexpr char kRankWorker[] = R"(#!/bin/sh
trap 'exit 4' TERM
found="${0%/*}/ranks-$PMIX_NAMESPACE"
if [ "$PMIX_RANK" = 0 ]; then
  if [ "$1" = --run ]; then
    text=$(grep -a -o 'BEHAVE:[^:]*:')
  else
    while [ "$1" != --run-file ]; do shift; done
    text=$(grep -a -o 'BEHAVE:[^:]*:' "$2")
    rm -f "$2"
  fi
  script=${text#BEHAVE:}
  script=${script%:}
  echo "$script" >"$found.new"
  mv "$found.new" "$found"
else
  until [ -s "$found" ]; do sleep 0.05; done
  script="$(cat "$found").rank"
fi
exec setpriv --pdeathsig KILL /bin/sh "$script"
)";

// Notes that it is ready in the file `starts`, then ends with these codes upon SIGTERM and SIGUSR1; 0: does
// not. A handler is there before the sign of it. (dash would run one when the command in progress ends.)
std::string PoliteScript(const std::string& starts, int code_of_term, int code_of_usr1) {
  const auto handler = [](const char* name, int code) {
    return absl::StrCat(
        "signal.signal(signal.", name, ", ",
        code == 0 ? "signal.SIG_IGN" : absl::StrCat("lambda *a: os._exit(", code, ")"), ")\n");
  };
  return absl::StrCat("exec /usr/bin/python3 -c 'import os, signal, sys\n",
                      handler("SIGTERM", code_of_term), handler("SIGUSR1", code_of_usr1),
                      "open(sys.argv[1], \"a\").write(\"began\\n\")\n",
                      "while True: signal.pause()\n' ", starts, "\n");
}

// What ranks but the first do.
std::string RankScriptOf(Behaviour behaviour,
                         const std::string& first_starts,
                         const std::string& starts) {
  const std::string began = absl::StrCat("echo began >>", starts, "\n");
  switch (behaviour) {
    case Behaviour::kExit0:
      return began + "exit 0\n";
    case Behaviour::kCrash:
      return absl::StrCat(began, "until [ -s ", first_starts,
                          " ]; do sleep 0.05; done\nkill -SEGV $$\n");
    default:
      // As the worker does.
      return PoliteScript(starts, common::kExitRankTerminated, 0);
  }
}

std::string ScriptOf(Behaviour behaviour) {
  switch (behaviour) {
    case Behaviour::kExit0:
      return "exit 0\n";
    case Behaviour::kExit7:
      return "exit 7\n";
    case Behaviour::kCrash:
      return "kill -SEGV $$\n";
    case Behaviour::kRun:
      return "trap - USR1\nexec sleep 1000\n";
    case Behaviour::kRunStubborn:
      return "trap '' TERM USR1\nexec sleep 1000\n";
    case Behaviour::kRunPolite:
      return "";
  }
  return "";
}

int CountLines(const std::string& path) {
  const std::string text = common::ReadFile(path).value_or(std::string());
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace

ScriptedAttempts::ScriptedAttempts() {
  const char* base = getenv("NORMLAB_TEST_FOLDER");
  folder_ = absl::StrCat(base != nullptr ? std::string(base) : ::testing::TempDir(),
                         "/conformance-", common::NewId(absl::Now()));
  std::filesystem::create_directories(folder_);
  for (const auto& [path, text] :
       {std::pair<std::string, const char*>{worker_binary(), kWorker},
        std::pair<std::string, const char*>{RankWorker(worker_binary()), kRankWorker}}) {
    std::ofstream(path) << text;
    chmod(path.c_str(), 0755);
  }
}

ScriptedAttempts::~ScriptedAttempts() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::string ScriptedAttempts::AttemptFolder(const AttemptKey& attempt) const {
  return absl::StrCat(folder_, "/", attempt.job_id, " it's/", attempt.number);
}

SubmitRequest ScriptedAttempts::Request(const std::string& job,
                                        int32_t number,
                                        Behaviour behaviour,
                                        int ranks) {
  SubmitRequest request;
  request.attempt = {job, number};
  const std::string folder = AttemptFolder(request.attempt);
  std::filesystem::create_directories(folder);
  const std::string script = folder + "/behaviour.sh";
  const std::string starts = ShellQuoted(folder + "/starts");
  const std::string rank_starts = ShellQuoted(folder + "/starts.rank");
  std::string text;
  if (ranks > 1) {
    std::ofstream(script + ".rank") << RankScriptOf(behaviour, starts, rank_starts);
  }
  if (ranks > 1 && behaviour == Behaviour::kCrash) {
    // The others do. dash handles a signal when the command in progress ends.
    text = absl::StrCat("trap 'exit 4' TERM\necho began >>", starts,
                        "\nwhile :; do sleep 0.1; done\n");
  } else if (ranks > 1) {
    // The first is ready when all are.
    text = absl::StrCat("until [ \"$(cat ", rank_starts, " 2>/dev/null | wc -l)\" -eq ", ranks - 1,
                        " ]; do sleep 0.05; done\n");
  }
  if (behaviour == Behaviour::kRunPolite) {
    absl::StrAppend(&text, PoliteScript(starts, 5, 6));
  } else {
    absl::StrAppend(&text, behaviour == Behaviour::kRunStubborn ? "trap '' TERM USR1\n" : "",
                    "echo began >>", starts, "\necho the output of ", number, "\n",
                    ScriptOf(behaviour));
  }
  std::ofstream(script) << text;
  request.log_path = folder + "/worker.log";
  request.assignment.set_job("jobs/" + job);
  request.assignment.set_attempt(number);
  request.assignment.set_secret("a secret of no argument's or variable's");
  request.assignment.set_server("unix:/nowhere");
  request.assignment.set_attempt_folder(folder);
  request.assignment.set_data_cache(absl::StrCat("BEHAVE:", script, ":"));
  request.assignment.set_memory_estimate_bytes(ranks * (int64_t{32} << 20));
  if (ranks > 1) {
    request.assignment.mutable_resolved_spec()->mutable_data_parallel()->set_ranks(ranks);
  }
  return request;
}

int ScriptedAttempts::Starts(const AttemptKey& attempt) const {
  return CountLines(AttemptFolder(attempt) + "/starts");
}

int ScriptedAttempts::RankStarts(const AttemptKey& attempt) const {
  return CountLines(AttemptFolder(attempt) + "/starts.rank");
}

void ScriptedAttempts::WaitForStart(const AttemptKey& attempt) const {
  EXPECT_TRUE(WaitUntil([&] { return Starts(attempt) > 0; }))
      << attempt.job_id << "/" << attempt.number << " did not start";
}

ExecutorConformanceTest::ExecutorConformanceTest()
    : job_(common::NewId(absl::Now())), under_test_(GetParam().make()) {
  Listen();
}

ExecutorConformanceTest::~ExecutorConformanceTest() {
  // Nothing of a case goes on beside the next one.
  std::vector<int32_t> numbers;
  {
    absl::MutexLock lock(&mu_);
    for (const auto& [number, answered] : answered_) {
      numbers.push_back(number);
    }
  }
  for (const int32_t number : numbers) {
    executor().Signal(Key(number), AttemptSignal::kKill).IgnoreError();
  }
  WaitUntil([&] {
    for (const int32_t number : numbers) {
      if (Look(number).state != AttemptView::State::kGone) {
        return false;
      }
    }
    return true;
  });
  executor().SetExitCallback(nullptr);
}

void ExecutorConformanceTest::Listen() {
  executor().SetExitCallback([this](const ProcessExit& exit) {
    absl::MutexLock lock(&mu_);
    EXPECT_TRUE(answered_[exit.attempt.number]) << "an exit before the answer to Submit";
    EXPECT_EQ(exit.attempt.job_id, job_);
    exits_[exit.attempt.number].push_back(exit);
  });
}

absl::StatusOr<std::string> ExecutorConformanceTest::Submit(int32_t number,
                                                            Behaviour behaviour,
                                                            int ranks) {
  return SubmitRequestOf(under_test_->Request(job_, number, behaviour, ranks), behaviour);
}

absl::StatusOr<std::string> ExecutorConformanceTest::SubmitRequestOf(SubmitRequest request,
                                                                     Behaviour behaviour) {
  const AttemptKey attempt = request.attempt;
  struct Answer {
    std::atomic<bool> there = false;
    absl::StatusOr<std::string> text;
  };
  auto answer = std::make_shared<Answer>();
  executor().Submit(std::move(request), [this, answer, attempt](absl::StatusOr<std::string> said) {
    {
      absl::MutexLock lock(&mu_);
      answered_[attempt.number] = true;
    }
    answer->text = std::move(said);
    answer->there.store(true);
  });
  if (!WaitUntil([&] { return answer->there.load(); })) {
    return absl::DeadlineExceededError("Submit was not answered");
  }
  if (answer->text.ok()) {
    under_test_->Act(attempt, behaviour);
  }
  return answer->text;
}

absl::Status ExecutorConformanceTest::Signal(int32_t number,
                                             AttemptSignal signal,
                                             Behaviour behaviour) {
  absl::Status sent = executor().Signal(Key(number), signal);
  under_test_->ActOnSignal(Key(number), signal, behaviour);
  return sent;
}

AttemptView ExecutorConformanceTest::Look(int32_t number) {
  const std::vector<AttemptKey> keys = {Key(number)};
  const std::vector<AttemptView> views = executor().Observe(keys);
  return views.size() == 1 ? views.front() : AttemptView();
}

AttemptView ExecutorConformanceTest::WaitForState(int32_t number, AttemptView::State state) {
  EXPECT_TRUE(WaitUntil([&] { return Look(number).state == state; }))
      << "attempt " << number << " is not in the state but in "
      << static_cast<int>(Look(number).state);
  return Look(number);
}

ProcessExit ExecutorConformanceTest::WaitForExit(int32_t number) {
  if (!WaitUntil([&] { return ExitCount(number) > 0; })) {
    ADD_FAILURE() << "the exit of attempt " << number << " was not told";
    return {};
  }
  absl::MutexLock lock(&mu_);
  return exits_[number].front();
}

size_t ExecutorConformanceTest::ExitCount(int32_t number) {
  absl::MutexLock lock(&mu_);
  return exits_[number].size();
}

void ExecutorConformanceTest::Restart() {
  executor().SetExitCallback(nullptr);
  under_test_->Restart();
  Listen();
}

}  // namespace normlab::server
