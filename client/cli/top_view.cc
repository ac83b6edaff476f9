#include "client/cli/top_view.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "client/cli/job_view.h"
#include "client/cli/net_view.h"
#include "client/cli/spec_view.h"
#include "client/lib/number_format.h"
#include "client/lib/proto_time.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;
using normlab::v1::ServerInfo;

constexpr double kDefaultBatchSize = 64;  // of a spec that leaves it open
constexpr double kUnknown = std::numeric_limits<double>::infinity();

double SecondsLeft(const Job& job) {
  const double speed = StepsPerSecond(job);
  const int64_t left = job.progress().total_steps() - job.progress().step();
  return job.state() == Job::RUNNING && speed > 0 && left >= 0 ? static_cast<double>(left) / speed
                                                               : kUnknown;
}

double Loss(const Job& job) {
  const auto& metrics =
      job.has_result() ? job.result().final_metrics() : job.progress().latest_metrics();
  const auto found = metrics.find("train/loss");
  return found == metrics.end() ? std::nan("") : found->second;
}

double CreatedAt(const Job& job) {
  return absl::ToDoubleSeconds(ToTime(job.create_time()) - absl::UnixEpoch());
}

double Share(const Job& job) {
  return job.progress().total_steps() > 0 ? static_cast<double>(job.progress().step()) /
                                                static_cast<double>(job.progress().total_steps())
                                          : 0;
}

// Running jobs first, then those that are about to, then those that wait.
int Rank(const Job& job) {
  switch (job.state()) {
    case Job::RUNNING:
      return 0;
    case Job::STARTING:
      return 1;
    case Job::QUEUED:
      return 2;
    case Job::PAUSED:
      return 3;
    default:
      return 4;
  }
}

// Numbers are compared so that the smallest comes first; what is NaN comes last.
double SortNumber(TopSort sort, const Job& job) {
  switch (sort) {
    case TopSort::kState:
      return Rank(job);
    case TopSort::kAge:
      return CreatedAt(job);
    case TopSort::kProgress:
      return -Share(job);
    case TopSort::kSpeed:
      return -StepsPerSecond(job);
    case TopSort::kEta:
      return SecondsLeft(job);
    case TopSort::kLoss:
      return Loss(job);
    case TopSort::kCores:
      return -job.estimate().cores();
    case TopSort::kMemory:
      return -static_cast<double>(job.estimate().memory_bytes());
    case TopSort::kOwner:
      return 0;
  }
  return 0;
}

struct Column {
  const char* title;
  bool right;  // numbers stand at the right
  std::string (*cell)(const Job& job, absl::Time now);
};

std::string Age(const Job& job, absl::Time now) {
  // A job that was made after the server told its time has no age yet.
  return FormatSeconds(std::max(0.0, absl::ToDoubleSeconds(now - ToTime(job.create_time()))));
}

const std::vector<Column>& Columns() {
  static const auto& columns = *new std::vector<Column>{
      {"JOB", false, [](const Job& job, absl::Time) { return Printable(job.name()); }},
      {"STATE", false, [](const Job& job, absl::Time) { return Job::State_Name(job.state()); }},
      {"STEP", true,
       [](const Job& job, absl::Time) {
         return job.progress().total_steps() == 0
                    ? std::string("-")
                    : absl::StrCat(job.progress().step(), "/", job.progress().total_steps());
       }},
      {"DONE", true,
       [](const Job& job, absl::Time) { return absl::StrFormat("%.0f%%", 100 * Share(job)); }},
      {"STEPS/S", true,
       [](const Job& job, absl::Time) {
         const double speed = job.state() == Job::RUNNING ? StepsPerSecond(job) : 0;
         return speed <= 0 ? std::string("-")
                           : absl::StrFormat(speed < 100 ? "%.1f" : "%.0f", speed);
       }},
      {"ETA", true,
       [](const Job& job, absl::Time) {
         const double left = SecondsLeft(job);
         return std::isfinite(left) ? FormatSeconds(left) : std::string("-");
       }},
      {"LOSS", true,
       [](const Job& job, absl::Time) {
         const double loss = Loss(job);
         return std::isnan(loss) && !job.has_result() ? std::string("-") : FormatRounded(loss);
       }},
      {"CORES", true,
       [](const Job& job, absl::Time) { return absl::StrCat(job.estimate().cores()); }},
      {"MEMORY", true,
       [](const Job& job, absl::Time) {
         return FormatBytes(static_cast<double>(job.estimate().memory_bytes()));
       }},
      {"AGE", true, Age},
      {"OWNER", false,
       [](const Job& job, absl::Time) { return Shorten(Printable(job.owner()), 12); }},
      {"MODEL", false,
       [](const Job& job, absl::Time) {
         return Shorten(absl::StrCat(FormatNet(job.spec().model()), " ",
                                     FormatNormalization(job.spec().normalization())),
                        28);
       }},
      {"NAME", false,
       [](const Job& job, absl::Time) { return Shorten(Printable(job.display_name()), 30); }}};
  return columns;
}

constexpr size_t kStateColumn = 1;

// By the server's clock, as all times of jobs are.
absl::Time ServerTime(const TopSample& sample) {
  return sample.info.has_time() ? ToTime(sample.info.time()) : sample.time;
}

std::string ServerLines(const Output& out, const TopSample& sample, int width) {
  const ServerInfo& info = sample.info;
  const absl::Time now = ServerTime(sample);
  const std::string first = absl::StrCat(
      "normlab top - ", absl::FormatTime("%H:%M:%S", sample.time, absl::LocalTimeZone()), ", up ",
      FormatSeconds(absl::ToDoubleSeconds(now - ToTime(info.start_time()))), ", ",
      info.running_jobs(), " running, ", info.queued_jobs(), " waiting");
  std::string second = absl::StrCat("cores ", info.reserved_cores(), "/", info.cores(), ", memory ",
                                    FormatBytes(static_cast<double>(info.reserved_memory_bytes())),
                                    "/", FormatBytes(static_cast<double>(info.memory_bytes())));
  for (const normlab::v1::Disk& disk : info.disks()) {
    absl::StrAppend(&second,
                    disk.kind() == normlab::v1::Disk::DATA ? ", data disk " : ", work disk ",
                    FormatBytes(static_cast<double>(disk.free_bytes())), " free");
  }
  return absl::StrCat(out.Paint(Color::kBold, Shorten(first, width)), "\n", Shorten(second, width),
                      "\n");
}

}  // namespace

const std::vector<std::string>& TopSortNames() {
  static const auto& names = *new std::vector<std::string>{
      "state", "age", "progress", "speed", "eta", "loss", "cores", "memory", "owner"};
  return names;
}

TopSort TopSortOfName(absl::string_view name) {
  const std::vector<std::string>& names = TopSortNames();
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? TopSort::kState : static_cast<TopSort>(found - names.begin());
}

TopSort TopSortOfKey(int key, TopSort now) {
  // First letters differ, but for state and speed.
  for (const std::string& name : TopSortNames()) {
    if (absl::ascii_tolower(static_cast<unsigned char>(key)) == name[0]) {
      // "s" is state, and pressed again speed.
      return name == "state" && now == TopSort::kState ? TopSort::kSpeed : TopSortOfName(name);
    }
  }
  return now;
}

double StepsPerSecond(const Job& job) {
  const double batch_size =
      job.spec().batch_size() > 0 ? job.spec().batch_size() : kDefaultBatchSize;
  return job.progress().examples_per_second() / batch_size;
}

void SortTop(TopSort sort, TopSample& sample) {
  std::stable_sort(sample.jobs.begin(), sample.jobs.end(), [&](const Job& a, const Job& b) {
    if (sort == TopSort::kOwner && a.owner() != b.owner()) {
      return a.owner() < b.owner();
    }
    const double first = SortNumber(sort, a);
    const double second = SortNumber(sort, b);
    if (std::isnan(first) || std::isnan(second)) {
      return std::isnan(second) && !std::isnan(first);
    }
    if (first != second) {
      return first < second;
    }
    return CreatedAt(a) < CreatedAt(b);
  });
}

std::string RenderTop(const Output& out, const TopSample& sample, int width) {
  const std::vector<Column>& columns = Columns();
  std::vector<std::vector<std::string>> rows(1);
  for (const Column& column : columns) {
    rows[0].emplace_back(column.title);
  }
  const absl::Time now = ServerTime(sample);
  for (const Job& job : sample.jobs) {
    std::vector<std::string>& row = rows.emplace_back();
    for (const Column& column : columns) {
      row.push_back(column.cell(job, now));
    }
  }
  std::vector<int> widths(columns.size(), 0);
  for (const std::vector<std::string>& row : rows) {
    for (size_t i = 0; i < columns.size(); ++i) {
      widths[i] = std::max(widths[i], DisplayWidth(row[i]));
    }
  }
  std::string text = absl::StrCat(ServerLines(out, sample, width), "\n");
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    int used = 0;
    // What does not fit is left out by whole columns, the last ones first.
    for (size_t i = 0; i < columns.size(); ++i) {
      const int gap = i == 0 ? 0 : 2;
      if (used + gap + widths[i] > width) {
        break;
      }
      const std::string padding(
          static_cast<size_t>(std::max(0, widths[i] - DisplayWidth(rows[r][i]))), ' ');
      std::string cell = rows[r][i];
      if (r == 0) {
        cell = out.Paint(Color::kBold, cell);
      } else if (i == kStateColumn) {
        cell = PaintState(out, sample.jobs[r - 1].state());
      }
      absl::StrAppend(&line, std::string(static_cast<size_t>(gap), ' '),
                      columns[i].right ? absl::StrCat(padding, cell) : absl::StrCat(cell, padding));
      used += gap + widths[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  if (sample.jobs.empty()) {
    absl::StrAppend(&text, out.Paint(Color::kDim, "no job waits or runs"), "\n");
  }
  return text;
}

}  // namespace normlab::client
