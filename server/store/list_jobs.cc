#include "server/store/list_jobs.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/clock.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/store/job_rows.h"
#include "server/store/page_token.h"

namespace normlab::server {
namespace {

// Rows are looked up one by one where no index answers: some thousand of them take so long, and
// the page that was found until then is answered.
constexpr absl::Duration kMaxExaminingTime = absl::Milliseconds(10);
constexpr int kRowsBetweenLooks = 64;

using Position = PagePosition;

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
  add(filter.experiment.has_value() ? absl::StrCat("=", *filter.experiment) : "");
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

// The first microsecond at or after a time, so that both bounds of a filter are exact.
int64_t CeilMicros(absl::Time time) {
  const int64_t micros = absl::ToUnixMicros(time);
  return absl::FromUnixMicros(micros) < time && micros < std::numeric_limits<int64_t>::max()
             ? micros + 1
             : micros;
}

// Which index a list walks; conditions that it does not answer are looked at row by row. A walk of
// one owner's jobs comes across no other's rows: neither their number nor their times show in where
// a page ends or how long it takes.
enum class Walk {
  kExperiment,
  kOwnerExperiment,
  kLabel,
  kOwnerLabel,
  kOwnerState,
  kOwner,
  kState,
  kTime
};

bool WalksLabels(Walk walk) {
  return walk == Walk::kLabel || walk == Walk::kOwnerLabel;
}

Walk ChooseWalk(const JobFilter& filter) {
  if (filter.experiment.has_value()) {
    // At most some thousand jobs.
    return filter.owner.has_value() ? Walk::kOwnerExperiment : Walk::kExperiment;
  }
  if (!filter.labels.empty()) {
    return filter.owner.has_value() ? Walk::kOwnerLabel : Walk::kLabel;
  }
  if (filter.owner.has_value()) {
    return filter.state.has_value() ? Walk::kOwnerState : Walk::kOwner;
  }
  return filter.state.has_value() ? Walk::kState : Walk::kTime;
}

std::string WalkSql(Walk walk) {
  constexpr const char* kRange =
      " create_time_us >= ? AND create_time_us <= ? AND (create_time_us < ? OR ";
  const auto jobs = [&](const char* index, const char* condition) {
    return absl::StrCat("SELECT key, create_time_us FROM jobs INDEXED BY ", index, " WHERE ",
                        condition, kRange, "key < ?) ORDER BY create_time_us DESC, key DESC");
  };
  const auto labels = [&](const char* condition) {
    return absl::StrCat("SELECT job_key, create_time_us FROM labels ", condition,
                        "label = ? AND value = ? AND", kRange,
                        "job_key < ?) ORDER BY create_time_us DESC, job_key DESC");
  };
  switch (walk) {
    case Walk::kExperiment:
      return jobs("jobs_by_experiment", "experiment > '' AND experiment = ? AND");
    case Walk::kOwnerExperiment:
      return jobs("jobs_by_owner_experiment",
                  "owner = ? AND experiment > '' AND experiment = ? AND");
    case Walk::kLabel:
      return labels("WHERE ");
    case Walk::kOwnerLabel:
      return labels("INDEXED BY labels_by_owner WHERE owner = ? AND ");
    case Walk::kOwnerState:
      return jobs("jobs_by_owner_state", "owner = ? AND state = ? AND");
    case Walk::kOwner:
      return jobs("jobs_by_owner", "owner = ? AND");
    case Walk::kState:
      return jobs("jobs_by_state", "state = ? AND");
    case Walk::kTime:
      break;
  }
  return jobs("jobs_by_time", "");
}

// The label that the fewest jobs have, as far as a short look tells: its jobs are walked.
size_t RarestLabel(Connection& connection, const JobFilter& filter, int64_t from, int64_t to) {
  constexpr int kLook = 500;
  size_t rarest = 0;
  int64_t least = std::numeric_limits<int64_t>::max();
  for (size_t i = 0; i < filter.labels.size() && filter.labels.size() > 1 && least > 0; ++i) {
    Query query(connection, filter.owner.has_value()
                                ? "SELECT count(*) FROM (SELECT 1 FROM labels INDEXED BY "
                                  "labels_by_owner WHERE label = ? AND value = ? "
                                  "AND create_time_us >= ? AND create_time_us <= ? AND owner = ? "
                                  "LIMIT ?)"
                                : "SELECT count(*) FROM (SELECT 1 FROM labels WHERE label = ? AND "
                                  "value = ? AND create_time_us >= ? AND create_time_us <= ? "
                                  "LIMIT ?)");
    int parameter = 0;
    query.Bind(++parameter, filter.labels[i].first);
    query.Bind(++parameter, filter.labels[i].second);
    query.Bind(++parameter, from);
    query.Bind(++parameter, to);
    if (filter.owner.has_value()) {
      query.Bind(++parameter, *filter.owner);
    }
    query.Bind(++parameter, kLook);
    if (query.Step() && query.Int(0) < least) {
      least = query.Int(0);
      rarest = i;
    }
  }
  return rarest;
}

// Whether a job fulfils the conditions that the walk has not answered; every walk answers the owner.
// `walked_label`: the one that the walk goes along, if it does.
bool Matches(Connection& connection,
             const JobFilter& filter,
             Walk walk,
             size_t walked_label,
             const Position& row) {
  for (size_t i = 0; i < filter.labels.size(); ++i) {
    if (WalksLabels(walk) && i == walked_label) {
      continue;
    }
    Query has(connection,
              "SELECT 1 FROM labels WHERE label = ? AND value = ? AND create_time_us = ? "
              "AND job_key = ?",
              filter.labels[i].first, filter.labels[i].second, row.create_time_us, row.key);
    if (!has.Step()) {
      return false;
    }
  }
  const bool state_is_answered = walk == Walk::kOwnerState || walk == Walk::kState;
  if (state_is_answered || !filter.state.has_value()) {
    return true;
  }
  Query job(connection, "SELECT state FROM jobs WHERE key = ?", row.key);
  return job.Step() && job.Int(0) == *filter.state;
}

}  // namespace

absl::StatusOr<JobPage> ListJobPage(Connection& connection,
                                    const JobFilter& filter,
                                    int page_size,
                                    const std::string& page_token,
                                    int max_examined) {
  const std::string list = FilterHash(filter);
  NORMLAB_ASSIGN_OR_RETURN(const Position start, ParsePageToken(page_token, list));
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
  const Walk kind = ChooseWalk(filter);
  const size_t label =
      WalksLabels(kind) ? RarestLabel(connection, filter, from, to) : filter.labels.size();
  Query walk(connection, WalkSql(kind));
  int parameter = 0;
  if (filter.owner.has_value()) {
    walk.Bind(++parameter, *filter.owner);
  }
  if (filter.experiment.has_value()) {
    walk.Bind(++parameter, *filter.experiment);
  } else if (WalksLabels(kind)) {
    walk.Bind(++parameter, filter.labels[label].first);
    walk.Bind(++parameter, filter.labels[label].second);
  } else if (filter.state.has_value()) {
    walk.Bind(++parameter, static_cast<int64_t>(*filter.state));
  }
  walk.Bind(++parameter, from);
  walk.Bind(++parameter, to);
  walk.Bind(++parameter, start.create_time_us);
  walk.Bind(++parameter, start.key);

  const common::Clock& clock = common::Clock::Real();
  const absl::Duration deadline = clock.Monotonic() + kMaxExaminingTime;
  JobPage page;
  const size_t wanted = static_cast<size_t>(std::max(page_size, 1));
  Position last_examined;
  int examined = 0;
  std::vector<Position> taken;
  bool more = false;
  bool stopped_early = false;
  while (walk.Step()) {
    if (examined == max_examined ||
        (examined > 0 && examined % kRowsBetweenLooks == 0 && clock.Monotonic() > deadline)) {
      stopped_early = true;
      break;
    }
    ++examined;
    const Position row = {walk.Int(1), walk.Int(0)};
    if (Matches(connection, filter, kind, label, row)) {
      if (taken.size() == wanted) {
        more = true;
        break;
      }
      taken.push_back(row);
    }
    last_examined = row;
  }
  if (more) {
    page.next_page_token = MakePageToken(taken.back(), list);
  } else if (stopped_early) {
    page.next_page_token = MakePageToken(last_examined, list);
  }
  size_t bytes = 0;
  for (size_t i = 0; i < taken.size(); ++i) {
    NORMLAB_ASSIGN_OR_RETURN(v1::Job job,
                             ReadJobByKey(connection, taken[i].key, JobParts::kSummary));
    bytes += job.ByteSizeLong();
    if (i > 0 && bytes > kMaxPageBytes) {
      page.next_page_token = MakePageToken(taken[i - 1], list);
      break;
    }
    page.jobs.push_back(std::move(job));
  }
  return page;
}

}  // namespace normlab::server
