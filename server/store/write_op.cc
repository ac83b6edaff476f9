#include "server/store/write_op.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/states.h"
#include "server/store/record_log.h"

namespace normlab::server {
namespace {

bool SameLabels(const v1::Job& a, const v1::Job& b) {
  return a.labels_size() == b.labels_size() &&
         std::all_of(a.labels().begin(), a.labels().end(), [&](const auto& label) {
           const auto it = b.labels().find(label.first);
           return it != b.labels().end() && it->second == label.second;
         });
}

}  // namespace

void Effects::Merge(const Effects& other) {
  for (const auto& [job_id, publication] : other.published) {
    published[job_id] = publication;
  }
  for (const auto& [owner_and_state, delta] : other.state_deltas) {
    state_deltas[owner_and_state] += delta;
  }
  deleted_job = deleted_job || other.deleted_job;
  for (const auto& [job_id, attempt] : other.superseded) {
    superseded[job_id] = attempt;
  }
}

absl::Status CommitJob(WriteContext& context,
                       LiveJob& live,
                       v1::Job job,
                       std::vector<v1::Segment> records,
                       bool job_changed,
                       Effects& effects) {
  const v1::Job& before = live.job;
  if (IsTerminal(before.state()) && (!records.empty() || job.state() != before.state())) {
    return InternalError(absl::StrCat("a record after the end of ", before.name()));
  }
  if (job.name() != before.name() || job.owner() != before.owner() ||
      job.experiment() != before.experiment()) {
    return InternalError(
        absl::StrCat("a change of the name, owner or experiment of ", before.name()));
  }
  const bool terminal = IsTerminal(job.state());
  if (job.state() != before.state()) {
    --effects.state_deltas[{job.owner(), static_cast<int>(before.state())}];
    ++effects.state_deltas[{job.owner(), static_cast<int>(job.state())}];
    if (!job.experiment().empty()) {
      effects.published[job.experiment()] = {0, /*terminal=*/false};
    }
  }
  const bool labels_changed = !SameLabels(before, job);
  const bool has_records = !records.empty();
  job.set_last_sequence(before.last_sequence());
  live.job = std::move(job);
  if (has_records) {
    NORMLAB_RETURN_IF_ERROR(AppendRecords(context.connection, live, std::move(records), terminal));
    effects.published[live.id] = {live.job.last_sequence(), terminal};
  }
  if (job_changed) {
    WriteJob(context.connection, live.key, live.job);
  }
  if (labels_changed) {
    WriteLabels(context.connection, live.key, live.job);
  }
  WriteProgress(context.connection, live.key, live.job);
  return absl::OkStatus();
}

}  // namespace normlab::server
