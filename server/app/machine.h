#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace normlab::server {

// What this process may use of the machine it runs on.
struct Machine {
  std::vector<int> cores;           // of the affinity mask, ascending
  double cpu_quota = 0;             // of the control groups, in cores; 0: none
  int64_t physical_memory = 0;      // [bytes]
  int64_t cgroup_memory_limit = 0;  // [bytes]; 0: none
};

// Looks at the affinity mask, the physical memory and the limits of the control groups (v1 or v2,
// the tightest from the process's own group up to the root). What cannot be read counts as no
// limit. `root` stands before /proc and /sys, for tests.
Machine DetectMachine(const std::string& root = "");

// The cores that jobs use by default: those of the mask, but no more of them than the quota allows,
// and at least one.
std::vector<int> DefaultCores(const Machine& machine);

// The memory that jobs use by default: nine tenths of what there is, so that the server and the
// page cache have some.
int64_t DefaultMemory(const Machine& machine);

}  // namespace normlab::server
