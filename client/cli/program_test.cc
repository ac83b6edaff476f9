// The program as a process: signals, closed pipes and terminals.
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "client/lib/testing/fake_jobs_service.h"
#include "common/unique_fd.h"

namespace normlab::client {
namespace {

using common::UniqueFd;
using normlab::v1::Job;
using testing::AllOf;
using testing::HasSubstr;

constexpr int kPatienceMs = 60'000;

// The program under test; its standard output and error are the descriptors given.
class Program {
 public:
  Program(const std::vector<std::string>& arguments, int out, int err) {
    std::vector<std::string> words = {NORMLAB_PROGRAM};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) {
      argv.push_back(word.data());
    }
    argv.push_back(nullptr);
    std::vector<std::string> variables = {"LC_ALL=C.UTF-8", "TERM=xterm", "PATH=/usr/bin:/bin"};
    std::vector<char*> environment;
    for (std::string& variable : variables) {
      environment.push_back(variable.data());
    }
    environment.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
    EXPECT_EQ(
        posix_spawn(&pid_, NORMLAB_PROGRAM, &actions, nullptr, argv.data(), environment.data()), 0);
    posix_spawn_file_actions_destroy(&actions);
  }
  ~Program() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void Signal(int number) const { kill(pid_, number); }

  // Waits for the end; -1 when it died by a signal.
  int Wait() {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_ = 0;
};

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    read = UniqueFd(ends[0]);
    write = UniqueFd(ends[1]);
  }
  UniqueFd read;
  UniqueFd write;
};

// Reads until `text` was seen, or to the end when it is empty; what was read.
std::string ReadUntil(int fd, const std::string& text) {
  std::string seen;
  while (text.empty() || !absl::StrContains(seen, text)) {
    pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
    if (poll(&waiting, 1, kPatienceMs) <= 0) {
      ADD_FAILURE() << "no \"" << text << "\" in time after: " << seen;
      break;
    }
    std::array<char, 4096> buffer{};
    const ssize_t count = read(fd, buffer.data(), buffer.size());
    if (count <= 0) {  // a terminal ends with EIO
      break;
    }
    seen.append(buffer.data(), static_cast<size_t>(count));
  }
  return seen;
}

Job NamedJob(const std::string& name, Job::State state) {
  Job job;
  job.set_name(name);
  job.set_state(state);
  job.mutable_progress()->set_total_steps(4);
  return job;
}

FakePoints Point(int64_t step) {
  return {.step = step,
          .elapsed_us = 1000 * (step + 1),
          .values = {{"train/loss", 1.0 / static_cast<double>(step + 1)}}};
}

TEST(ProgramTest, CtrlCLeavesTheJobRunningAndSaysHowToGoOn) {
  FakeServer server;
  server.AddJob(NamedJob("jobs/live", Job::RUNNING), {FakeState(Job::RUNNING), Point(0), Point(1)});
  for (const int signal : {SIGINT, SIGTERM}) {
    Pipe out;
    Pipe err;
    Program program({"watch", "live", "--output", "json", "--server", server.address()},
                    out.write.get(), err.write.get());
    out.write.Reset();
    err.write.Reset();
    ReadUntil(out.read.get(), "\"sequence\":\"3\"");
    program.Signal(signal);
    EXPECT_EQ(program.Wait(), 128 + signal);
    EXPECT_THAT(ReadUntil(err.read.get(), ""),
                HasSubstr("jobs/live goes on. Watch on with: normlab watch jobs/live --after 3\n"));
  }
}

TEST(ProgramTest, AClosedPipeEndsQuietly) {
  FakeServer server;
  std::vector<FakeRecord> records;
  for (int64_t step = 0; step < 50'000; ++step) {  // more than a pipe holds
    records.emplace_back(Point(step));
  }
  records.push_back(FakeState(Job::SUCCEEDED));
  server.AddJob(NamedJob("jobs/long", Job::SUCCEEDED), records);
  for (const std::string command : {"metrics", "watch"}) {
    Pipe out;
    Pipe err;
    Program program({command, "long", "--output", "json", "--server", server.address()},
                    out.write.get(), err.write.get());
    out.write.Reset();
    err.write.Reset();
    ReadUntil(out.read.get(), "{");
    out.read.Reset();
    EXPECT_EQ(program.Wait(), 141) << command;
    EXPECT_EQ(ReadUntil(err.read.get(), ""), "") << command;
  }
}

TEST(ProgramTest, AFullDiskIsAnError) {
  FakeServer server;
  server.AddJob(NamedJob("jobs/a", Job::SUCCEEDED), {FakeState(Job::SUCCEEDED)});
  const UniqueFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  Pipe err;
  Program program({"get", "a", "--server", server.address()}, full.get(), err.write.get());
  err.write.Reset();
  EXPECT_EQ(program.Wait(), 4);
  EXPECT_THAT(ReadUntil(err.read.get(), ""), HasSubstr("cannot write the output: No space left"));
}

TEST(ProgramTest, ATerminalShowsALiveLineThenOutcomeAndCurve) {
  FakeServer server;
  server.AddJob(NamedJob("jobs/live", Job::RUNNING), {FakeState(Job::RUNNING), Point(0)});
  int master = -1;
  int slave = -1;
  winsize size{};
  size.ws_row = 24;
  size.ws_col = 70;
  ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, &size), 0);
  const UniqueFd terminal(master);
  UniqueFd other_end(slave);
  Program program({"watch", "live", "--server", server.address()}, slave, slave);
  other_end.Reset();
  std::string seen = ReadUntil(master, "1/4");
  server.AppendRecord("jobs/live", Point(1));
  server.AppendRecord("jobs/live", Point(2));
  server.AppendRecord("jobs/live", Point(3));
  server.AppendRecord("jobs/live", FakeState(Job::SUCCEEDED));
  seen += ReadUntil(master, "");
  EXPECT_EQ(program.Wait(), 0);
  EXPECT_THAT(
      seen, AllOf(HasSubstr("\x1b[36mRUNNING"), HasSubstr("\r\x1b[K"),
                  HasSubstr("\x1b[32mSUCCEEDED"), HasSubstr("4/4  loss 0.25"), HasSubstr("\u2588"),
                  HasSubstr("train/loss\r\n"), HasSubstr("\u2524"), HasSubstr("step 0")));
}

}  // namespace
}  // namespace normlab::client
