#include "common/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>

#include "absl/time/clock.h"
#include <gtest/gtest.h>

#include "common/atomic_file.h"

namespace normlab::common {
namespace {

void WaitForEnd(const Subprocess& process) {
  pollfd entry = {process.pidfd(), POLLIN, 0};
  ASSERT_EQ(poll(&entry, 1, 30'000), 1) << "the process did not end within 30 s";
}

std::string OutputPath() {
  return testing::TempDir() + "/subprocess_test." + std::to_string(getpid());
}

TEST(SubprocessTest, RunsWithTheGivenEnvironmentDescriptorAndOutput) {
  const std::string output = OutputPath();
  std::filesystem::remove(output);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  ASSERT_EQ(write(ends[1], "secret", 6), 6);
  close(ends[1]);
  auto process = Subprocess::Start(
      {.argv = {"/bin/sh", "-c", "echo $COLOR; cat <&3; ls /proc/$$/fd | wc -l; exit 7"},
       .environment = {"COLOR=blue", "PATH=/usr/bin:/bin"},
       .inherited_fd = ends[0],
       .output_path = output});
  ASSERT_TRUE(process.ok()) << process.status();
  WaitForEnd(*process);
  const auto exit = process->Reap();
  ASSERT_TRUE(exit.ok());
  EXPECT_FALSE(exit->by_signal);
  EXPECT_EQ(exit->code, 7);
  EXPECT_EQ(exit->ToString(), "exit code 7");
  // 0, 1, 2, 3 and nothing of ours.
  EXPECT_EQ(ReadFile(output).value(), "blue\nsecret4\n");
  close(ends[0]);
  std::filesystem::remove(output);
}

TEST(SubprocessTest, StandardInputMayBeGiven) {
  const std::string output = OutputPath();
  std::filesystem::remove(output);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  ASSERT_EQ(write(ends[1], "secret", 6), 6);
  close(ends[1]);
  auto process = Subprocess::Start({.argv = {"/bin/sh", "-c", "cat; ls /proc/$$/fd | wc -l"},
                                    .environment = {"PATH=/usr/bin:/bin"},
                                    .input_fd = ends[0],
                                    .output_path = output});
  ASSERT_TRUE(process.ok()) << process.status();
  WaitForEnd(*process);
  ASSERT_TRUE(process->Reap().ok());
  EXPECT_EQ(ReadFile(output).value(), "secret3\n");
  close(ends[0]);
  std::filesystem::remove(output);
}

TEST(SubprocessTest, UsageCountsChildrenWhereAsked) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  // The shell writes a line once it has its child, then waits for it.
  auto process = Subprocess::Start({.argv = {"/bin/sh", "-c", "/bin/sleep 1000 & echo >&3; wait"},
                                    .environment = {"PATH=/usr/bin:/bin"},
                                    .inherited_fd = ends[1]});
  ASSERT_TRUE(process.ok()) << process.status();
  close(ends[1]);
  char line = 0;
  ASSERT_EQ(read(ends[0], &line, 1), 1);
  const auto alone = process->GetUsage();
  ASSERT_TRUE(alone.ok());
  EXPECT_GT(alone->resident_bytes, 0);
  // While the child becomes the other program it has no memory at all.
  int64_t family_bytes = 0;
  for (int i = 0; i < 5000 && family_bytes <= alone->resident_bytes; ++i) {
    const auto family = process->GetUsageWithChildren();
    ASSERT_TRUE(family.ok()) << family.status();
    family_bytes = family->resident_bytes;
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_GT(family_bytes, alone->resident_bytes);
  const std::string children = ReadFile("/proc/" + std::to_string(process->pid()) + "/task/" +
                                        std::to_string(process->pid()) + "/children")
                                   .value();
  ASSERT_TRUE(process->Signal(SIGKILL).ok());
  WaitForEnd(*process);
  kill(std::stoi(children), SIGKILL);
  close(ends[0]);
}

TEST(SubprocessTest, ASignalIsReported) {
  auto process = Subprocess::Start({.argv = {"/bin/sleep", "1000"}, .environment = {}});
  ASSERT_TRUE(process.ok()) << process.status();
  EXPECT_FALSE(process->HasEnded());
  EXPECT_EQ(process->Reap().status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(process->Signal(SIGKILL).ok());
  WaitForEnd(*process);
  EXPECT_EQ(process->Reap()->ToString(), "signal 9 (Killed)");
  EXPECT_TRUE(process->Signal(SIGKILL).ok()) << "a process that is gone is no error";
}

TEST(SubprocessTest, PinsToTheGivenCores) {
  cpu_set_t ours;
  ASSERT_EQ(sched_getaffinity(0, sizeof(ours), &ours), 0);
  int core = 0;
  while (!CPU_ISSET(core, &ours)) {
    ++core;
  }
  const std::string output = OutputPath();
  std::filesystem::remove(output);
  auto process =
      Subprocess::Start({.argv = {"/bin/sh", "-c", "grep Cpus_allowed_list /proc/self/status"},
                         .environment = {"PATH=/usr/bin:/bin"},
                         .output_path = output,
                         .cores = {core}});
  ASSERT_TRUE(process.ok()) << process.status();
  WaitForEnd(*process);
  ASSERT_TRUE(process->Reap().ok());
  EXPECT_EQ(ReadFile(output).value(), "Cpus_allowed_list:\t" + std::to_string(core) + "\n");
  std::filesystem::remove(output);
}

TEST(SubprocessTest, AdoptsOnlyTheVeryProcess) {
  auto process = Subprocess::Start({.argv = {"/bin/sleep", "1000"}, .environment = {}});
  ASSERT_TRUE(process.ok()) << process.status();
  const auto parsed = ProcessIdentity::Parse(process->identity().ToString());
  ASSERT_TRUE(parsed.ok());
  auto adopted = Subprocess::Adopt(*parsed);
  ASSERT_TRUE(adopted.ok()) << adopted.status();

  ProcessIdentity impostor = *parsed;
  impostor.start_ticks += 1;
  EXPECT_EQ(Subprocess::Adopt(impostor).status().code(), absl::StatusCode::kNotFound);

  ASSERT_TRUE(adopted->Signal(SIGTERM).ok());
  WaitForEnd(*process);
  EXPECT_EQ(Subprocess::Adopt(*parsed).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(process->Reap().ok());
}

TEST(SubprocessTest, AMissingProgramIsAnErrorWithItsName) {
  const auto process = Subprocess::Start({.argv = {"/no/such/program"}, .environment = {}});
  ASSERT_FALSE(process.ok());
  EXPECT_NE(process.status().ToString().find("/no/such/program"), std::string::npos);
}

}  // namespace
}  // namespace normlab::common
