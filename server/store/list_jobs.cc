#include "server/store/list_jobs.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/sha256.h"
#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/store/job_rows.h"

namespace normlab::server {
namespace {

constexpr int64_t kLatest = std::numeric_limits<int64_t>::max();

// Where a page ended: jobs are ordered by (create time, key), newest first.
struct Position {
  int64_t create_time_us = kLatest;
  int64_t key = kLatest;
};

// The same text for the same filter, whatever the order of its labels.
std::string FilterHash(const JobFilter& filter) {
  std::vector<std::pair<std::string, std::string>> labels = filter.labels;
  std::sort(labels.begin(), labels.end());
  common::Sha256 hash;
  const auto add = [&](absl::string_view part) {
    hash.Update(absl::StrCat(part.size(), ":"));
    hash.Update(part);
  };
  add(filter.state.has_value() ? absl::StrCat(static_cast<int>(*filter.state)) : "");
  add(filter.owner.has_value() ? absl::StrCat("=", *filter.owner) : "");
  add(filter.created_at_or_after.has_value()
          ? absl::StrCat(absl::ToUnixMicros(*filter.created_at_or_after))
          : "");
  add(filter.created_before.has_value() ? absl::StrCat(absl::ToUnixMicros(*filter.created_before))
                                        : "");
  for (const auto& [label, value] : labels) {
    add(label);
    add(value);
  }
  return hash.FinishHex().substr(0, 16);
}

std::string MakeToken(const Position& position, const JobFilter& filter) {
  return absl::WebSafeBase64Escape(
      absl::StrCat("1 ", position.create_time_us, " ", position.key, " ", FilterHash(filter)));
}

absl::StatusOr<Position> ParseToken(const std::string& token, const JobFilter& filter) {
  Position position;
  if (token.empty()) {
    return position;
  }
  std::string text;
  if (!absl::WebSafeBase64Unescape(token, &text)) {
    return InvalidPageToken();
  }
  const std::vector<std::string> parts = absl::StrSplit(text, ' ');
  if (parts.size() != 4 || parts[0] != "1" ||
      !absl::SimpleAtoi(parts[1], &position.create_time_us) ||
      !absl::SimpleAtoi(parts[2], &position.key) || parts[3] != FilterHash(filter)) {
    return InvalidPageToken();
  }
  return position;
}

// The first microsecond at or after a time, so that both bounds of a filter are exact.
int64_t CeilMicros(absl::Time time) {
  const int64_t micros = absl::ToUnixMicros(time);
  return absl::FromUnixMicros(micros) < time && micros < kLatest ? micros + 1 : micros;
}

// The statement that walks one index from `start` on. With labels it walks the first one's jobs,
// and the other conditions are looked at row by row; without, the index answers all of them.
std::string WalkSql(const JobFilter& filter) {
  std::string sql;
  if (!filter.labels.empty()) {
    return "SELECT job_key, create_time_us FROM labels WHERE label = ? AND value = ? "
           "AND create_time_us >= ? AND create_time_us <= ? "
           "AND (create_time_us < ? OR job_key < ?) "
           "ORDER BY create_time_us DESC, job_key DESC";
  }
  const char* index = filter.owner.has_value()
                          ? (filter.state.has_value() ? "jobs_by_owner_state" : "jobs_by_owner")
                          : (filter.state.has_value() ? "jobs_by_state" : "jobs_by_time");
  return absl::StrCat("SELECT key, create_time_us FROM jobs INDEXED BY ", index, " WHERE ",
                      filter.owner.has_value() ? "owner = ? AND " : "",
                      filter.state.has_value() ? "state = ? AND " : "",
                      "create_time_us >= ? AND create_time_us <= ? "
                      "AND (create_time_us < ? OR key < ?) ORDER BY create_time_us DESC, key DESC");
}

// Whether a job that has the first label fulfils the other conditions.
bool Matches(Connection& connection, const JobFilter& filter, const Position& row) {
  if (filter.labels.empty()) {
    return true;
  }
  for (size_t i = 1; i < filter.labels.size(); ++i) {
    Query has(connection,
              "SELECT 1 FROM labels WHERE label = ? AND value = ? AND create_time_us = ? "
              "AND job_key = ?",
              filter.labels[i].first, filter.labels[i].second, row.create_time_us, row.key);
    if (!has.Step()) {
      return false;
    }
  }
  if (!filter.state.has_value() && !filter.owner.has_value()) {
    return true;
  }
  Query job(connection, "SELECT state, owner FROM jobs WHERE key = ?", row.key);
  return job.Step() && (!filter.state.has_value() || job.Int(0) == *filter.state) &&
         (!filter.owner.has_value() || job.Text(1) == *filter.owner);
}

}  // namespace

absl::StatusOr<JobPage> ListJobPage(Connection& connection,
                                    const JobFilter& filter,
                                    int page_size,
                                    const std::string& page_token,
                                    int max_examined) {
  NORMLAB_ASSIGN_OR_RETURN(const Position start, ParseToken(page_token, filter));
  const int64_t from = filter.created_at_or_after.has_value()
                           ? CeilMicros(*filter.created_at_or_after)
                           : std::numeric_limits<int64_t>::min();
  int64_t to = start.create_time_us;
  if (filter.created_before.has_value()) {
    const int64_t before = CeilMicros(*filter.created_before);
    if (before == std::numeric_limits<int64_t>::min()) {
      return JobPage{};
    }
    to = std::min(to, before - 1);
  }
  Query walk(connection, WalkSql(filter));
  int parameter = 0;
  if (!filter.labels.empty()) {
    walk.Bind(++parameter, filter.labels[0].first);
    walk.Bind(++parameter, filter.labels[0].second);
  } else {
    if (filter.owner.has_value()) {
      walk.Bind(++parameter, *filter.owner);
    }
    if (filter.state.has_value()) {
      walk.Bind(++parameter, static_cast<int64_t>(*filter.state));
    }
  }
  walk.Bind(++parameter, from);
  walk.Bind(++parameter, to);
  walk.Bind(++parameter, start.create_time_us);
  walk.Bind(++parameter, start.key);

  JobPage page;
  const size_t wanted = static_cast<size_t>(std::max(page_size, 1));
  Position last_examined;
  int examined = 0;
  std::vector<Position> taken;
  bool more = false;
  bool stopped_early = false;
  while (walk.Step()) {
    if (examined == max_examined) {
      stopped_early = true;
      break;
    }
    ++examined;
    const Position row = {walk.Int(1), walk.Int(0)};
    if (Matches(connection, filter, row)) {
      if (taken.size() == wanted) {
        more = true;
        break;
      }
      taken.push_back(row);
    }
    last_examined = row;
  }
  if (more) {
    page.next_page_token = MakeToken(taken.back(), filter);
  } else if (stopped_early) {
    page.next_page_token = MakeToken(last_examined, filter);
  }
  size_t bytes = 0;
  for (size_t i = 0; i < taken.size(); ++i) {
    NORMLAB_ASSIGN_OR_RETURN(v1::Job job,
                             ReadJobByKey(connection, taken[i].key, JobParts::kSummary));
    bytes += job.ByteSizeLong();
    if (i > 0 && bytes > kMaxPageBytes) {
      page.next_page_token = MakeToken(taken[i - 1], filter);
      break;
    }
    page.jobs.push_back(std::move(job));
  }
  return page;
}

}  // namespace normlab::server
