#include "engine/worker/process_setup.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <new>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/worker_exit.h"

namespace normlab::engine {
namespace {

constexpr int kNice = 5;
constexpr size_t kStackBytes = size_t{2} << 20;
constexpr int kMaxHeaps = 2;

thread_local bool may_throw = false;
std::atomic<void*> reserve{nullptr};

void OnOutOfMemory() {
  if (!may_throw) {
    constexpr char kText[] = "normlab-worker: out of memory outside of the training\n";
    static_cast<void>(!write(STDERR_FILENO, kText, sizeof(kText) - 1));
    _exit(common::kExitOutOfMemory);
  }
  // Without the handler operator new throws; the reserve makes room for whoever catches it.
  free(reserve.exchange(nullptr));
  throw std::bad_alloc();
}

// Both limits, so that it cannot be raised again; never raises one.
void LowerLimit(__rlimit_resource resource, int64_t value) {
  rlimit limit{};
  getrlimit(resource, &limit);
  limit.rlim_max = std::min(limit.rlim_max, static_cast<rlim_t>(value));
  limit.rlim_cur = limit.rlim_max;
  setrlimit(resource, &limit);
}

}  // namespace

void SetUpProcess(const char* name) {
  prctl(PR_SET_NAME, name);
  signal(SIGPIPE, SIG_IGN);
  errno = 0;
  // Raises the number only: an already nicer process stays as it is.
  if (getpriority(PRIO_PROCESS, 0) < kNice) {
    setpriority(PRIO_PROCESS, 0, kNice);
  }
  LowerLimit(RLIMIT_CORE, 0);
  LowerLimit(RLIMIT_NOFILE, kMaxOpenFiles);
  // The signal would kill; without it the write fails and can be reported.
  signal(SIGXFSZ, SIG_IGN);
  LowerLimit(RLIMIT_FSIZE, kMaxFileBytes);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) == 0) {
    pthread_attr_setstacksize(&attributes, kStackBytes);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
  }
  mallopt(M_ARENA_MAX, kMaxHeaps);
}

absl::Status LimitMemory(int64_t bytes) {
  if (bytes <= 0) {
    return absl::OkStatus();
  }
  rlimit limit{};
  getrlimit(RLIMIT_DATA, &limit);
  limit.rlim_max = std::min(limit.rlim_max, static_cast<rlim_t>(bytes));
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_DATA, &limit) != 0) {
    return absl::InternalError(
        absl::StrCat("cannot limit the memory to ", bytes, " bytes: ", strerror(errno)));
  }
  return absl::OkStatus();
}

absl::Status CheckCores(const std::vector<int>& cores) {
  if (cores.empty()) {
    return absl::OkStatus();
  }
  // The kernel takes away from a set what a container's or system's limits (cpusets, offline cores)
  // forbid.
  const AffinityScope scope(CoreSet(cores));
  const cpu_set_t granted = CurrentAffinity();
  std::vector<int> missing;
  std::copy_if(cores.begin(), cores.end(), std::back_inserter(missing), [&](int core) {
    return core < 0 || core >= CPU_SETSIZE || !CPU_ISSET(core, &granted);
  });
  if (!missing.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the cores ", absl::StrJoin(missing, ","), " of ", absl::StrJoin(cores, ","),
                     " cannot be used: the cores of the machine or container were changed; restart "
                     "the server so that "
                     "it sees the present ones"));
  }
  return absl::OkStatus();
}

cpu_set_t CoreSet(const std::vector<int>& cores) {
  if (cores.empty()) {
    return CurrentAffinity();
  }
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) {
    if (core >= 0 && core < CPU_SETSIZE) {
      CPU_SET(core, &set);
    }
  }
  return set;
}

cpu_set_t CurrentAffinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof(set), &set);
  return set;
}

AffinityScope::AffinityScope(const cpu_set_t& cores) : before_(CurrentAffinity()) {
  sched_setaffinity(0, sizeof(cores), &cores);
}

AffinityScope::~AffinityScope() {
  sched_setaffinity(0, sizeof(before_), &before_);
}

void InstallOutOfMemoryHandler(int64_t reserve_bytes) {
  may_throw = true;
  void* memory = malloc(static_cast<size_t>(reserve_bytes));
  if (memory != nullptr) {
    memset(memory, 0, static_cast<size_t>(reserve_bytes));
  }
  free(reserve.exchange(memory));
  std::set_new_handler(OnOutOfMemory);
}

}  // namespace normlab::engine
