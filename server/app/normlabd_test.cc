// The program itself, as a process.
#include <signal.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/subprocess.h"

namespace normlab::server {
namespace {

using ::testing::HasSubstr;

// Only a bug waits so long.
constexpr absl::Duration kDeadline = absl::Seconds(60);

template <typename Condition>
bool Eventually(Condition condition) {
  const absl::Time deadline = absl::Now() + kDeadline;
  while (!condition()) {
    if (absl::Now() > deadline) {
      return false;
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

class NormlabdTest : public ::testing::Test {
 protected:
  NormlabdTest() {
    std::string pattern = absl::StrCat(::testing::TempDir(), "normlabd.XXXXXX");
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    data_dir_ = folder_ + "/data";
    port_file_ = folder_ + "/ports";
  }
  ~NormlabdTest() override { std::filesystem::remove_all(folder_); }

  common::Subprocess Run(std::vector<std::string> flags) {
    std::vector<std::string> argv = {NORMLABD_BINARY,
                                     "--data_dir=" + data_dir_,
                                     "--listen=127.0.0.1:0",
                                     "--http_listen=127.0.0.1:0",
                                     "--worker_binary=/bin/true",
                                     "--port_file=" + port_file_};
    argv.insert(argv.end(), flags.begin(), flags.end());
    std::vector<std::string> environment;
    for (const char* name : {"PATH", "LD_LIBRARY_PATH", "ASAN_OPTIONS", "TSAN_OPTIONS",
                             "UBSAN_OPTIONS", "LSAN_OPTIONS"}) {
      if (const char* value = getenv(name)) {
        environment.push_back(absl::StrCat(name, "=", value));
      }
    }
    auto process = common::Subprocess::Start(
        {.argv = argv, .environment = environment, .output_path = folder_ + "/log"});
    EXPECT_TRUE(process.ok()) << process.status();
    return *std::move(process);
  }
  static std::string Ending(const common::Subprocess& process) {
    EXPECT_TRUE(Eventually([&] { return process.HasEnded(); }));
    const auto exit = process.Reap();
    return exit.ok() ? exit->ToString() : exit.status().ToString();
  }
  bool WaitUntilReady() {
    return Eventually([&] { return std::filesystem::exists(port_file_); });
  }
  std::string Log() { return common::ReadFile(folder_ + "/log").value_or(""); }

  std::string folder_;
  std::string data_dir_;
  std::string port_file_;
};

TEST_F(NormlabdTest, EndsCleanlyOnSigtermAndSigint) {
  for (const int signal : {SIGTERM, SIGINT}) {
    std::filesystem::remove(port_file_);
    const common::Subprocess process = Run({});
    ASSERT_TRUE(WaitUntilReady()) << Log();
    ASSERT_TRUE(process.Signal(signal).ok());
    EXPECT_EQ(Ending(process), "exit code 0") << Log();
  }
  EXPECT_THAT(Log(), HasSubstr("is ready"));
  EXPECT_THAT(Log(), HasSubstr("stopped"));
}

TEST_F(NormlabdTest, ASecondOneIsRefusedAndAKilledOneLeavesNoLock) {
  const common::Subprocess first = Run({});
  ASSERT_TRUE(WaitUntilReady()) << Log();
  EXPECT_EQ(Ending(Run({})), "exit code 1");
  EXPECT_THAT(Log(), HasSubstr(absl::StrCat("process ", first.pid())));
  ASSERT_TRUE(first.Signal(SIGKILL).ok());
  Ending(first);
  std::filesystem::remove(port_file_);
  const common::Subprocess next = Run({});
  ASSERT_TRUE(WaitUntilReady()) << Log();
  ASSERT_TRUE(next.Signal(SIGTERM).ok());
  EXPECT_EQ(Ending(next), "exit code 0") << Log();
}

// Two signals at once must not end it uncleanly either.
TEST_F(NormlabdTest, ASecondSignalDuringTheShutdownIsHarmless) {
  const common::Subprocess process = Run({});
  ASSERT_TRUE(WaitUntilReady()) << Log();
  ASSERT_TRUE(process.Signal(SIGTERM).ok());
  ASSERT_TRUE(process.Signal(SIGINT).ok());
  EXPECT_EQ(Ending(process), "exit code 0") << Log();
}

TEST_F(NormlabdTest, RefusesAnOpenAddressWithAdvice) {
  EXPECT_EQ(Ending(Run({"--listen=0.0.0.0:0"})), "exit code 2");
  EXPECT_THAT(Log(), HasSubstr("ssh -L"));
  EXPECT_EQ(Ending(Run({"stray"})), "exit code 2");
  EXPECT_EQ(Ending(Run({"--log_level=loud"})), "exit code 2");
  EXPECT_EQ(Ending(Run({"--memory=lots"})), "exit code 2");
  EXPECT_EQ(Ending(Run({"--auth=tokens"})), "exit code 2");
  EXPECT_THAT(Log(), HasSubstr("--auth=tokens needs --tokens_file"));
  EXPECT_EQ(Ending(Run({"--auth=tokens", "--tokens_file=/etc/hostname", "--listen=0.0.0.0:0"})),
            "exit code 2");
  EXPECT_THAT(Log(), HasSubstr("--allow_plaintext"));
}

TEST_F(NormlabdTest, TheHealthCheckSaysWhetherItTakesJobs) {
  EXPECT_EQ(Ending(Run({"--healthcheck"})), "exit code 1");
  EXPECT_THAT(Log(), HasSubstr("is normlabd running"));
  const common::Subprocess server = Run({});
  ASSERT_TRUE(WaitUntilReady()) << Log();
  EXPECT_EQ(Ending(Run({"--healthcheck"})), "exit code 0") << Log();
  ASSERT_TRUE(server.Signal(SIGTERM).ok());
  EXPECT_EQ(Ending(server), "exit code 0") << Log();
  // The port file is there still, and nobody at its address.
  EXPECT_EQ(Ending(Run({"--healthcheck"})), "exit code 1");
  EXPECT_THAT(Log(), HasSubstr("nothing answers HTTP"));
}

TEST_F(NormlabdTest, HelpAndVersionNeedNothing) {
  EXPECT_EQ(Ending(Run({"--help"})), "exit code 0");
  EXPECT_THAT(Log(), HasSubstr("What jobs may use"));
  EXPECT_EQ(Ending(Run({"--version"})), "exit code 0");
  EXPECT_THAT(Log(), HasSubstr("normlabd 0."));
  EXPECT_FALSE(std::filesystem::exists(data_dir_));
}

}  // namespace
}  // namespace normlab::server
