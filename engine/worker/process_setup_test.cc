#include "engine/worker/process_setup.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

#include "common/worker_exit.h"

namespace normlab::engine {
namespace {

// The address sanitizer's allocator does not know the new handler, and its shadow needs more than
// any limit.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kOwnAllocator = true;
#else
constexpr bool kOwnAllocator = false;
#endif

constexpr int64_t kLimitBytes = int64_t{512} << 20;
constexpr size_t kBeyondBytes = size_t{1} << 30;

std::vector<int> Cores(const cpu_set_t& set) {
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) {
      cores.push_back(core);
    }
  }
  return cores;
}

TEST(ProcessSetupTest, MissingCoresAreNamedWhateverTheThreadIsBoundTo) {
  const std::vector<int> cores = Cores(CurrentAffinity());
  ASSERT_FALSE(cores.empty());
  EXPECT_TRUE(CheckCores({}).ok());
  std::thread bound([&] {
    const cpu_set_t one = CoreSet({cores.front()});
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    EXPECT_TRUE(CheckCores(std::vector<int>(cores.rbegin(), cores.rend())).ok());
    EXPECT_EQ(Cores(CurrentAffinity()), Cores(one));
    const absl::Status status = CheckCores({cores.front(), 1023});
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(absl::StrContains(status.message(), "the cores 1023 of")) << status;
    EXPECT_EQ(Cores(CurrentAffinity()), Cores(one));
  });
  bound.join();
}

TEST(ProcessSetupTest, ThreadsOfAnAffinityScopeInheritItsCores) {
  const cpu_set_t all = CurrentAffinity();
  const cpu_set_t one = CoreSet({Cores(all).front()});
  std::thread bound([&] {
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    std::vector<int> inherited;
    {
      const AffinityScope scope(all);
      std::thread started([&] { inherited = Cores(CurrentAffinity()); });
      started.join();
    }
    EXPECT_EQ(inherited, Cores(all));
    EXPECT_EQ(Cores(CurrentAffinity()), Cores(one));
  });
  bound.join();
}

TEST(ProcessSetupDeathTest, LowersPriorityAndLeavesNoCore) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        SetUpProcess("setup-test");
        rlimit core{};
        getrlimit(RLIMIT_CORE, &core);
        _exit(getpriority(PRIO_PROCESS, 0) >= 5 && core.rlim_cur == 0 ? 7 : 1);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST(ProcessSetupDeathTest, GivesUpPrivilegesAndLimitsFiles) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        SetUpProcess("setup-test");
        rlimit files{};
        getrlimit(RLIMIT_NOFILE, &files);
        rlimit bytes{};
        getrlimit(RLIMIT_FSIZE, &bytes);
        const bool limited = files.rlim_max <= static_cast<rlim_t>(kMaxOpenFiles) &&
                             bytes.rlim_max <= static_cast<rlim_t>(kMaxFileBytes);
        _exit(limited && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 7 : 1);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST(ProcessSetupDeathTest, AFileThatGrowsBeyondTheLimitIsAnErrorNotADeath) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        SetUpProcess("setup-test");
        rlimit small;
        small.rlim_cur = 100;
        small.rlim_max = 100;
        setrlimit(RLIMIT_FSIZE, &small);
        std::FILE* file = std::tmpfile();
        const char text[200] = {};
        const bool written =
            std::fwrite(text, 1, sizeof(text), file) == sizeof(text) && std::fflush(file) == 0;
        _exit(!written && errno == EFBIG ? 7 : 1);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST(ProcessSetupDeathTest, TheTrainingThreadCatchesWhatBreaksTheLimit) {
  if (kOwnAllocator) {
    GTEST_SKIP() << "a sanitizer's allocator is in use";
  }
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        SetUpProcess("setup-test");
        if (!LimitMemory(kLimitBytes).ok()) {
          _exit(1);
        }
        InstallOutOfMemoryHandler(1 << 20);
        try {
          const auto memory = std::make_unique<std::vector<char>>(kBeyondBytes);
          _exit(memory->empty() ? 2 : 3);
        } catch (const std::bad_alloc&) {
          _exit(7);
        }
      },
      ::testing::ExitedWithCode(7), "");
}

TEST(ProcessSetupDeathTest, AnotherThreadThatBreaksTheLimitEndsTheProcessWithItsCode) {
  if (kOwnAllocator) {
    GTEST_SKIP() << "a sanitizer's allocator is in use";
  }
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        SetUpProcess("setup-test");
        if (!LimitMemory(kLimitBytes).ok()) {
          _exit(1);
        }
        InstallOutOfMemoryHandler(1 << 20);
        std::thread other([] { std::cerr << std::vector<char>(kBeyondBytes).size(); });
        other.join();
      },
      ::testing::ExitedWithCode(common::kExitOutOfMemory), "out of memory");
}

}  // namespace
}  // namespace normlab::engine
