#pragma once

#include <sched.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace normlab::engine {

// What both kinds of worker process do first: a name in `ps` (at most 15 characters), lower
// priority than the server's, no core dumps (the data and models of others), no way to gain
// privileges, kMaxOpenFiles descriptors, files of kMaxFileBytes at most (writing more fails, with
// EFBIG), SIGPIPE ignored, and small thread stacks and few heaps, because a limit of private memory
// counts both in full. Before any thread is started. Never fails: none of it is essential.
inline constexpr int64_t kMaxOpenFiles = 1024;
// Far above any checkpoint; a runaway writer must not fill a disk of terabytes.
inline constexpr int64_t kMaxFileBytes = int64_t{64} << 30;
void SetUpProcess(const char* name);

// Limits the private memory of the process (RLIMIT_DATA), within the limit it has already; 0: no
// further limit. INTERNAL.
absl::Status LimitMemory(int64_t bytes);

// Checks that the process may run on each of these cores. FAILED_PRECONDITION, naming those that
// are missing. (OpenMP may have bound the calling thread to one of them before main; that does not
// count.)
absl::Status CheckCores(const std::vector<int>& cores);

// The cores that the calling thread may run on.
cpu_set_t CurrentAffinity();

// `cores` as a set; CurrentAffinity() when empty.
cpu_set_t CoreSet(const std::vector<int>& cores);

// Lets the calling thread, and every thread it starts meanwhile, run on `cores`; the destructor
// takes the calling thread back to where it was. Best effort. For one thread.
class AffinityScope {
 public:
  explicit AffinityScope(const cpu_set_t& cores);
  ~AffinityScope();
  AffinityScope(const AffinityScope&) = delete;
  AffinityScope& operator=(const AffinityScope&) = delete;

 private:
  const cpu_set_t before_;
};

// From now on, memory that runs out on the calling thread throws std::bad_alloc as usual, and on
// any other thread ends the process with kExitOutOfMemory: nobody could handle the exception there.
// Frees `reserve` bytes, held back for this, when it first happens, so that what is left to say can
// be said.
void InstallOutOfMemoryHandler(int64_t reserve_bytes);

}  // namespace normlab::engine
