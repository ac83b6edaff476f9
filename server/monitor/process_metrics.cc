#include "server/monitor/process_metrics.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "common/unique_fd.h"
#include "server/monitor/catalogue.h"

namespace normlab::server {
namespace {

std::string ReadWhole(const char* path) {
  std::ifstream in(path);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// As it is now, through a descriptor that is kept: when no file can be opened any more is when these
// numbers are needed.
std::string ReadOwnStat() {
  static const common::UniqueFd file(open("/proc/self/stat", O_RDONLY | O_CLOEXEC));
  std::array<char, 4096> text;  // some 350 characters
  const ssize_t count = pread(file.get(), text.data(), text.size(), 0);
  return count > 0 ? std::string(text.data(), static_cast<size_t>(count)) : std::string();
}

// Fields of /proc/self/stat from the third on (the second, the name, may hold anything).
std::vector<std::string> StatFields() {
  const std::string stat = ReadOwnStat();
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) {
    return {};
  }
  return absl::StrSplit(stat.substr(name_end + 1), absl::ByAnyChar(" \n"), absl::SkipEmpty());
}

// Seconds since 1970 at which the machine booted.
std::optional<double> BootTime() {
  const std::string stat = ReadWhole("/proc/stat");
  for (absl::string_view line : absl::StrSplit(stat, '\n')) {
    double seconds = 0;
    if (absl::ConsumePrefix(&line, "btime ") && absl::SimpleAtod(line, &seconds)) {
      return seconds;
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<prometheus::MetricFamily> ProcessFamilies() {
  std::vector<prometheus::MetricFamily> families;
  const auto gauge = [&](const char* name, const char* help, double value) {
    families.push_back(GaugeFamily(name, help));
    families.back().metric.push_back(GaugeValue(value));
  };

  const std::vector<std::string> fields = StatFields();
  // Numbers as in proc(5), which counts from 1 and starts with pid and name.
  const auto field = [&](size_t number) -> std::optional<double> {
    double value = 0;
    const size_t index = number - 3;
    if (index < fields.size() && absl::SimpleAtod(fields[index], &value)) {
      return value;
    }
    return std::nullopt;
  };
  const auto ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  const auto page_bytes = static_cast<double>(sysconf(_SC_PAGESIZE));
  if (const auto user = field(14), system = field(15); user && system) {
    prometheus::MetricFamily cpu;
    cpu.name = "process_cpu_seconds_total";
    cpu.help = "Total user and system CPU time spent in seconds.";
    cpu.type = prometheus::MetricType::Counter;
    cpu.metric.emplace_back();
    cpu.metric.back().counter.value = (*user + *system) / ticks_per_second;
    families.push_back(std::move(cpu));
  }
  if (const auto virtual_bytes = field(23)) {
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", *virtual_bytes);
  }
  if (const auto resident_pages = field(24)) {
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.",
          *resident_pages * page_bytes);
  }
  static const std::optional<double> boot_time = BootTime();
  if (const auto start = field(22); start && boot_time) {
    gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.",
          *boot_time + *start / ticks_per_second);
  }
  rlimit limit{};
  const bool has_limit = getrlimit(RLIMIT_NOFILE, &limit) == 0;
  const auto most = static_cast<double>(limit.rlim_cur);
  std::error_code error;
  const std::filesystem::directory_iterator descriptors("/proc/self/fd", error);
  if (!error || (error == std::errc::too_many_files_open && has_limit)) {
    gauge("process_open_fds", "Number of open file descriptors.",
          error ? most : static_cast<double>(std::distance(begin(descriptors), end(descriptors))));
  }
  if (has_limit) {
    gauge("process_max_fds", "Maximum number of open file descriptors.", most);
  }
  return families;
}

}  // namespace normlab::server
