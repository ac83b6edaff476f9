#include "server/app/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

#include "common/atomic_file.h"

namespace normlab::server {
namespace {

constexpr size_t kMaxFileBytes = 64 << 10;
// Group v1 writes "no limit" as a number near 2^63.
constexpr int64_t kNoLimit = int64_t{1} << 60;

std::optional<std::string> Read(const std::string& path) {
  absl::StatusOr<std::string> contents = common::ReadFile(path, kMaxFileBytes);
  if (!contents.ok()) {
    return std::nullopt;
  }
  return std::string(absl::StripAsciiWhitespace(*contents));
}

std::optional<double> ReadNumber(const std::string& path) {
  const std::optional<std::string> text = Read(path);
  double value = 0;
  if (!text.has_value() || !absl::SimpleAtod(*text, &value)) {
    return std::nullopt;
  }
  return value;
}

void Tighten(double value, double& limit) {
  if (value > 0 && (limit == 0 || value < limit)) {
    limit = value;
  }
}

void Tighten(double value, int64_t& limit) {
  if (value > 0 && value < static_cast<double>(kNoLimit) &&
      (limit == 0 || value < static_cast<double>(limit))) {
    limit = static_cast<int64_t>(value);
  }
}

void ReadCpuV2(const std::string& folder, Machine& machine) {
  const std::optional<std::string> text = Read(folder + "/cpu.max");
  if (!text.has_value()) {
    return;
  }
  const std::pair<std::string, std::string> fields = absl::StrSplit(*text, absl::MaxSplits(' ', 1));
  double quota = 0;
  double period = 0;
  if (absl::SimpleAtod(fields.first, &quota) && absl::SimpleAtod(fields.second, &period) &&
      period > 0) {
    Tighten(quota / period, machine.cpu_quota);
  }
}

void ReadCpuV1(const std::string& folder, Machine& machine) {
  const std::optional<double> quota = ReadNumber(folder + "/cpu.cfs_quota_us");
  const std::optional<double> period = ReadNumber(folder + "/cpu.cfs_period_us");
  if (quota && period && *quota > 0 && *period > 0) {
    Tighten(*quota / *period, machine.cpu_quota);
  }
}

void ReadMemory(const std::string& path, Machine& machine) {
  if (const std::optional<double> bytes = ReadNumber(path)) {
    Tighten(*bytes, machine.cgroup_memory_limit);
  }
}

// Calls `read` for the group's folder and every one above it. In a container the path may be one
// that only the host sees; its folders are then missing, and the walk ends at the mount, which is
// the container's own group.
template <typename ReadFolder>
void WalkUp(const std::string& mount, std::string path, const ReadFolder& read) {
  while (!path.empty() && path != "/") {
    read(mount + path);
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
  read(mount);
}

void ReadControlGroups(const std::string& root, Machine& machine) {
  const std::string mount = root + "/sys/fs/cgroup";
  const std::string groups = Read(root + "/proc/self/cgroup").value_or("");
  // Lines are id:controllers:path; group v2 has id 0 and no controllers.
  for (const absl::string_view line : absl::StrSplit(groups, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) {
      continue;
    }
    const std::string& path = fields[2];
    if (fields[1].empty()) {
      WalkUp(mount, path, [&](const std::string& folder) {
        ReadCpuV2(folder, machine);
        ReadMemory(folder + "/memory.max", machine);
      });
      continue;
    }
    for (const absl::string_view controller : absl::StrSplit(fields[1], ',')) {
      if (controller == "cpu") {
        WalkUp(mount + "/cpu", path,
               [&](const std::string& folder) { ReadCpuV1(folder, machine); });
      } else if (controller == "memory") {
        WalkUp(mount + "/memory", path, [&](const std::string& folder) {
          ReadMemory(folder + "/memory.limit_in_bytes", machine);
        });
      }
    }
  }
}

std::vector<int> AffinityMask() {
  std::vector<int> cores;
  // Grown until the kernel's mask fits.
  for (int size = 1024; size <= (1 << 20); size *= 4) {
    cpu_set_t* set = CPU_ALLOC(size);
    const size_t bytes = CPU_ALLOC_SIZE(size);
    CPU_ZERO_S(bytes, set);
    const bool read = sched_getaffinity(0, bytes, set) == 0;
    for (int core = 0; read && core < size; ++core) {
      if (CPU_ISSET_S(core, bytes, set)) {
        cores.push_back(core);
      }
    }
    CPU_FREE(set);
    if (read) {
      break;
    }
  }
  if (cores.empty()) {
    cores.push_back(0);
  }
  return cores;
}

}  // namespace

Machine DetectMachine(const std::string& root) {
  Machine machine;
  machine.cores = AffinityMask();
  machine.physical_memory = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  ReadControlGroups(root, machine);
  return machine;
}

std::vector<int> DefaultCores(const Machine& machine) {
  std::vector<int> cores = machine.cores;
  if (machine.cpu_quota > 0) {
    const size_t allowed = std::max<size_t>(1, static_cast<size_t>(machine.cpu_quota));
    cores.resize(std::min(cores.size(), allowed));
  }
  return cores;
}

int64_t DefaultMemory(const Machine& machine) {
  int64_t bytes = machine.physical_memory;
  if (machine.cgroup_memory_limit > 0) {
    bytes = std::min(bytes, machine.cgroup_memory_limit);
  }
  return bytes / 10 * 9;
}

}  // namespace normlab::server
