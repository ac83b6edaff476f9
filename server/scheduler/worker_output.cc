#include "server/scheduler/worker_output.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

#include "server/domain/transitions.h"
#include "server/scheduler/failures.h"

namespace normlab::server {
namespace {

constexpr size_t kReadBytes = size_t{64} << 10;
// Altogether and with what a record has beside its text, far less than a commit may have.
constexpr size_t kMostBytes = size_t{16} << 10;
constexpr size_t kMostLines = 100;
constexpr size_t kMostCharacters = 500;

// "2026-11-23T05:39:30.921 info text", as the worker's logger writes it.
bool IsWorkersOwn(absl::string_view line) {
  constexpr absl::string_view kTime = "0000-00-00T00:00:00.000 ";
  if (line.size() < kTime.size()) {
    return false;
  }
  for (size_t i = 0; i < kTime.size(); ++i) {
    const bool fits = kTime[i] == '0' ? absl::ascii_isdigit(static_cast<unsigned char>(line[i]))
                                      : line[i] == kTime[i];
    if (!fits) {
      return false;
    }
  }
  line.remove_prefix(kTime.size());
  constexpr std::array<absl::string_view, 6> kLevels = {"trace ",   "debug ", "info ",
                                                        "warning ", "error ", "critical "};
  return std::any_of(kLevels.begin(), kLevels.end(),
                     [line](absl::string_view level) { return absl::StartsWith(line, level); });
}

}  // namespace

std::vector<v1::Segment> OutputRecords(const std::string& log_path,
                                       int32_t attempt,
                                       absl::Time now) {
  const std::string tail = LogTail(log_path, kReadBytes);
  const std::vector<absl::string_view> lines = absl::StrSplit(tail, '\n');
  std::vector<v1::Segment> records;
  size_t bytes = 0;
  for (auto line = lines.rbegin(); line != lines.rend() && records.size() < kMostLines; ++line) {
    const absl::string_view text =
        absl::StripTrailingAsciiWhitespace(*line).substr(0, kMostCharacters);
    if (text.empty() || IsWorkersOwn(text)) {
      continue;
    }
    bytes += text.size();
    if (bytes > kMostBytes) {
      break;
    }
    records.push_back(LogRecord(v1::LogLine::INFO, absl::StrCat("output: ", text), attempt, now));
  }
  std::reverse(records.begin(), records.end());
  return records;
}

}  // namespace normlab::server
