#pragma once

#include <cmath>
#include <cstdio>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

#include "client/cli/command_line.h"
#include "client/lib/testing/fake_jobs_service.h"

// What the tests of the command line share: a fake server with jobs of every kind, and calls.
namespace normlab::client {

struct Outcome {
  int exit_code = -1;
  std::string out;
  std::string err;
};

inline std::string ReadBack(std::FILE* file) {
  std::string text;
  std::rewind(file);
  for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) {
    text.push_back(static_cast<char>(c));
  }
  std::fclose(file);
  return text;
}

inline Outcome RunWith(const std::vector<std::string>& arguments, const std::string& input = "") {
  std::istringstream in(input);
  std::FILE* out = std::tmpfile();
  std::FILE* err = std::tmpfile();
  Outcome outcome;
  outcome.exit_code = RunCommandLine(arguments, in, out, err);
  outcome.out = ReadBack(out);
  outcome.err = ReadBack(err);
  return outcome;
}

inline std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  EXPECT_EQ(lines.back(), "") << "output must end with a line break: " << text;
  lines.pop_back();
  return lines;
}

inline normlab::v1::Job NamedJob(const std::string& name, normlab::v1::Job::State state) {
  using normlab::v1::Job;
  Job job;
  job.set_name(name);
  job.set_state(state);
  job.mutable_progress()->set_total_steps(9);
  job.mutable_progress()->set_total_epochs(3);
  if (state == Job::SUCCEEDED) {
    (*job.mutable_result()->mutable_final_metrics())["test/accuracy"] = 0.8725;
    job.mutable_result()->set_steps(9);
  }
  if (state == Job::FAILED) {
    job.mutable_failure()->set_reason(normlab::v1::FailureReason::OUT_OF_MEMORY);
    job.mutable_failure()->set_message("needed more than was estimated");
  }
  return job;
}

// States, a log line, training points at steps 0..4 and one evaluation at step 3.
inline std::vector<FakeRecord> History(normlab::v1::Job::State end) {
  using normlab::v1::Job;
  return {FakeState(Job::QUEUED),
          FakeState(Job::RUNNING),
          FakeLog("hello\x1b[31m"),
          FakePoints{.step = 0, .elapsed_us = 10, .values = {{"train/loss", 0.1}}},
          FakePoints{.step = 1, .elapsed_us = 20, .values = {{"train/loss", 1.0 / 3}}},
          FakePoints{.step = 2, .elapsed_us = 30, .values = {{"train/loss", std::nan("")}}},
          FakePoints{.step = 3, .values = {{"test/loss", 2.5e-7}, {"test/accuracy", 0.5}}},
          FakePoints{.step = 3, .elapsed_us = 40, .values = {{"train/loss", INFINITY}}},
          FakePoints{.step = 4, .elapsed_us = 50, .values = {{"train/loss", -0.0}}},
          FakeState(end, "the end")};
}

class CommandLineTest : public testing::Test {
 protected:
  CommandLineTest() {
    using normlab::v1::Job;
    for (const auto& [id, state] :
         std::vector<std::pair<std::string, Job::State>>{{"ok", Job::SUCCEEDED},
                                                         {"failed", Job::FAILED},
                                                         {"cancelled", Job::CANCELLED},
                                                         {"diverged", Job::DIVERGED}}) {
      server_.AddJob(NamedJob(absl::StrCat("jobs/", id), state), History(state));
    }
  }

  Outcome Call(std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.end(), {"--server", server_.address(), "--retry-for", "5s"});
    return RunWith(arguments, input);
  }

  FakeServer server_;
};

}  // namespace normlab::client
