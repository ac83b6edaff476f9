#include "server/executor/slurm_records.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include <nlohmann/json.hpp>

namespace normlab::server {
namespace {

using Json = nlohmann::json;

// No array has more elements than this, whatever a text says.
constexpr int64_t kMostTasks = 4'000'000;

// 5, or {"set": true, "number": 5}; nothing for null and what is not set.
std::optional<int64_t> Number(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) {
    return std::nullopt;
  }
  if (found->is_number()) {
    return found->get<int64_t>();
  }
  if (found->is_object() && found->value("set", false) && found->contains("number") &&
      (*found)["number"].is_number()) {
    return (*found)["number"].get<int64_t>();
  }
  return std::nullopt;
}

std::string Text(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) {
    return "";
  }
  if (found->is_string()) {
    return found->get<std::string>();
  }
  // A state, and flags of it: ["CANCELLED", "COMPLETING"]. What it is doing still counts.
  if (found->is_array() && !found->empty()) {
    for (const Json& one : *found) {
      if (one.is_string() && one.get<std::string>() == "COMPLETING") {
        return "COMPLETING";
      }
    }
    return found->front().is_string() ? found->front().get<std::string>() : "";
  }
  return "";
}

// A status of wait(2), or {"return_code": ..., "signal": {"id": ...}}.
void ReadExitCode(const Json& object, SlurmRecord& record) {
  const auto found = object.find("exit_code");
  if (found == object.end()) {
    return;
  }
  if (found->is_number()) {
    const int64_t status = found->get<int64_t>();
    record.exit_code = static_cast<int>((status >> 8) & 0xff);
    record.exit_signal = static_cast<int>(status & 0x7f);
  } else if (found->is_object()) {
    record.exit_code = static_cast<int>(Number(*found, "return_code").value_or(0));
    if (const auto signal = found->find("signal"); signal != found->end() && signal->is_object()) {
      record.exit_signal = static_cast<int>(
          Number(*signal, "id").value_or(Number(*signal, "signal_id").value_or(0)));
    }
  }
}

void ReadJob(const Json& job, std::vector<SlurmRecord>& records) {
  SlurmRecord record;
  const int64_t job_id = Number(job, "job_id").value_or(0);
  const int64_t array = Number(job, "array_job_id").value_or(0);
  record.job_id = array != 0 ? array : job_id;
  record.name = Text(job, "name");
  record.state = Text(job, "job_state");
  record.reason = Text(job, "state_reason");
  record.nodes = Text(job, "nodes");
  record.processes = static_cast<int>(Number(job, "tasks").value_or(1));
  ReadExitCode(job, record);
  if (const auto start = Number(job, "start_time"); start.value_or(0) > 0) {
    record.start = absl::FromUnixSeconds(*start);
  }
  if (array == 0) {
    records.push_back(std::move(record));
    return;
  }
  const std::vector<int64_t> waiting = ParseTaskRanges(Text(job, "array_task_string"));
  if (const auto task = Number(job, "array_task_id"); waiting.empty() && task.has_value()) {
    record.task = *task;
    records.push_back(std::move(record));
    return;
  }
  for (const int64_t task : waiting) {
    record.task = task;
    records.push_back(record);
  }
}

}  // namespace

std::string SlurmRecord::Id() const {
  return task.has_value() ? absl::StrCat(job_id, "_", *task) : absl::StrCat(job_id);
}

absl::StatusOr<std::vector<SlurmRecord>> ParseSqueue(absl::string_view json,
                                                     absl::string_view prefix,
                                                     int64_t user) {
  // A name or comment of anybody's job may be anything; ours are ASCII.
  std::string ascii(json);
  std::replace_if(
      ascii.begin(), ascii.end(), [](char c) { return static_cast<unsigned char>(c) > 0x7f; }, '?');
  const Json answer = Json::parse(ascii, nullptr, /*allow_exceptions=*/false);
  if (answer.is_discarded() || !answer.is_object() || !answer.contains("jobs") ||
      !answer["jobs"].is_array()) {
    return absl::DataLossError(
        absl::StrCat("squeue --json printed no list of jobs: ", json.substr(0, 200)));
  }
  if (const auto errors = answer.find("errors");
      errors != answer.end() && errors->is_array() && !errors->empty()) {
    std::string words;
    for (const Json& one : *errors) {
      absl::StrAppend(&words, ": ", Text(one, "description"), " (", Text(one, "source"), ", ",
                      Text(one, "error"), ")");
    }
    return absl::DataLossError(absl::StrCat("squeue --json", words.substr(0, 300)));
  }
  std::vector<SlurmRecord> records;
  for (const Json& job : answer["jobs"]) {
    if (job.is_object() && absl::StartsWith(Text(job, "name"), prefix) &&
        Number(job, "user_id").value_or(user) == user) {
      ReadJob(job, records);
    }
  }
  return records;
}

absl::StatusOr<SlurmRecord> ParseKeyValues(absl::string_view line) {
  SlurmRecord record;
  int64_t array = 0;
  for (const absl::string_view word : absl::StrSplit(line, absl::ByAnyChar(" \n"))) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(word, absl::MaxSplits('=', 1));
    const auto& [key, value] = pair;
    int64_t number = 0;
    if (key == "JobId" && absl::SimpleAtoi(value, &number)) {
      record.job_id = number;
    } else if (key == "ArrayJobId" && absl::SimpleAtoi(value, &number)) {
      array = number;
    } else if (key == "ArrayTaskId" && absl::SimpleAtoi(value, &number)) {
      record.task = number;
    } else if (key == "JobName" || key == "Name") {
      record.name = std::string(value);
    } else if (key == "JobState") {
      record.state = std::string(value);
    } else if (key == "Reason") {
      record.reason = std::string(value);
    } else if ((key == "NodeList") && value != "(null)") {
      record.nodes = std::string(value);
    } else if (key == "StartTime") {
      std::string error;
      if (absl::Time start;
          absl::ParseTime("%Y-%m-%dT%H:%M:%S", value, absl::LocalTimeZone(), &start, &error)) {
        record.start = start;
      }
    } else if (key == "ExitCode") {
      const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(value, ':');
      if (!absl::SimpleAtoi(parts.first, &record.exit_code) ||
          !absl::SimpleAtoi(parts.second, &record.exit_signal)) {
        record.exit_code = record.exit_signal = 0;
      }
    }
  }
  if (record.job_id == 0 || record.state.empty()) {
    return absl::DataLossError(
        absl::StrCat("not the description of a Slurm job: ", line.substr(0, 200)));
  }
  if (array != 0) {
    record.job_id = array;
  }
  return record;
}

std::vector<int64_t> ParseTaskRanges(absl::string_view text) {
  std::vector<int64_t> tasks;
  const absl::string_view ranges = text.substr(0, text.find('%'));
  if (ranges.empty()) {
    return tasks;
  }
  for (const absl::string_view part : absl::StrSplit(ranges, ',')) {
    const std::pair<absl::string_view, absl::string_view> stepped =
        absl::StrSplit(part, absl::MaxSplits(':', 1));
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(stepped.first, absl::MaxSplits('-', 1));
    int64_t step = 1;
    int64_t first = 0;
    if ((!stepped.second.empty() && !absl::SimpleAtoi(stepped.second, &step)) || step < 1 ||
        !absl::SimpleAtoi(ends.first, &first)) {
      return {};
    }
    int64_t last = first;
    if (absl::EndsWith(stepped.first, "-") ||
        (!ends.second.empty() && !absl::SimpleAtoi(ends.second, &last)) || first < 0 ||
        last - first > kMostTasks) {
      return {};
    }
    for (int64_t task = first; task <= last; task += step) {
      tasks.push_back(task);
    }
  }
  return tasks;
}

std::string ConfigValue(absl::string_view config, absl::string_view name) {
  for (const absl::string_view line : absl::StrSplit(config, '\n')) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(line, absl::MaxSplits('=', 1));
    if (absl::StripAsciiWhitespace(pair.first) == name) {
      const absl::string_view value = absl::StripAsciiWhitespace(pair.second);
      return value == "(null)" ? "" : std::string(value);
    }
  }
  return "";
}

}  // namespace normlab::server
