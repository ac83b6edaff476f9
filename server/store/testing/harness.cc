#include "server/store/testing/harness.h"

#include <cstdlib>
#include <filesystem>
#include <future>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gtest/gtest.h"

#include "server/domain/names.h"
#include "server/domain/transitions.h"
#include "server/store/segments.h"

namespace normlab::server::testing {

TempFolder::TempFolder() : path_(absl::StrCat(::testing::TempDir(), "/normlab-store-XXXXXX")) {
  if (mkdtemp(path_.data()) == nullptr) {
    ADD_FAILURE() << "mkdtemp " << path_;
  }
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TestId(int number) {
  return absl::StrFormat("%020d", number);
}

v1::Job TestJob(const std::string& id, const std::string& owner) {
  v1::Job job;
  job.set_name(JobName(id));
  job.set_owner(owner);
  job.mutable_spec()->mutable_model()->mutable_mlp()->add_hidden(7);
  *job.mutable_resolved_spec() = job.spec();
  job.mutable_estimate()->set_cores(1);
  return job;
}

absl::StatusOr<Store::CreateResult> CreateAndWait(Store& store,
                                                  v1::Job job,
                                                  const std::string& request_id,
                                                  const std::string& request_sha256) {
  std::promise<absl::StatusOr<Store::CreateResult>> answer;
  store.CreateJob(
      std::move(job), request_id, request_sha256,
      [&](absl::StatusOr<Store::CreateResult> result) { answer.set_value(std::move(result)); });
  return answer.get_future().get();
}

absl::StatusOr<Store::AppendResult> AppendAndWait(Store& store,
                                                  const AttemptKey& attempt,
                                                  v1::WorkerReport report) {
  std::promise<absl::StatusOr<Store::AppendResult>> answer;
  store.AppendReport(attempt, std::move(report), [&](absl::StatusOr<Store::AppendResult> result) {
    answer.set_value(std::move(result));
  });
  return answer.get_future().get();
}

AttemptKey StartAttempt(Store& store, const std::string& job_id, int64_t start_step) {
  const absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  AttemptSecrets secrets;
  secrets.secret_sha256 = std::string(32, '\x07');
  const auto begun = store.UpdateJobAndWait(
      job_id,
      [=](v1::Job& job, std::vector<v1::Segment>& records) {
        return BeginAttempt(job, {0}, 1 << 20, start_step, now, records);
      },
      secrets);
  EXPECT_TRUE(begun.ok()) << begun.status();
  if (!begun.ok()) {
    return {job_id, 0};
  }
  const int32_t number = begun->attempts().rbegin()->number();
  const auto running =
      store.UpdateJobAndWait(job_id, [=](v1::Job& job, std::vector<v1::Segment>& records) {
        return MarkRunning(job, number, now, records);
      });
  EXPECT_TRUE(running.ok()) << running.status();
  return {job_id, number};
}

Reporter& Reporter::Define(uint32_t id, const std::string& name) {
  v1::Series& series = *report_.add_new_series();
  series.set_id(id);
  series.set_name(name);
  return *this;
}

Reporter& Reporter::Block(const std::vector<uint32_t>& series,
                          const std::vector<int64_t>& steps,
                          const std::vector<double>& values) {
  v1::MetricBlock& block = *report_.add_segments()->mutable_metrics();
  block.mutable_series()->Add(series.begin(), series.end());
  block.mutable_steps()->Add(steps.begin(), steps.end());
  block.mutable_values()->Add(values.begin(), values.end());
  for (const int64_t step : steps) {
    block.add_elapsed_us(step * 10);
  }
  return *this;
}

Reporter& Reporter::Log(const std::string& text) {
  report_.add_segments()->mutable_log()->set_text(text);
  return *this;
}

Reporter& Reporter::Outcome(v1::Job::State state, int64_t steps) {
  report_.mutable_outcome()->set_state(state);
  if (state == v1::Job::FAILED) {
    report_.mutable_outcome()->mutable_failure()->set_reason(v1::FailureReason::INTERNAL);
  } else {
    report_.mutable_outcome()->mutable_result()->set_steps(steps);
  }
  return *this;
}

v1::WorkerReport Reporter::Take() {
  report_.set_number(next_number_++);
  v1::WorkerReport taken = std::move(report_);
  report_ = v1::WorkerReport();
  return taken;
}

v1::RecordBatch AllRecords(Store& store, const std::string& job_id, int64_t after_sequence) {
  v1::RecordBatch all;
  all.set_first_sequence(after_sequence + 1);
  int64_t last = after_sequence;
  while (true) {
    absl::StatusOr<RecordPage> page = store.ReadRecords(job_id, last, 10'000);
    if (!page.ok()) {
      ADD_FAILURE() << page.status();
      return all;
    }
    if (page->batches.empty()) {
      EXPECT_EQ(last, page->last_sequence);
      return all;
    }
    for (v1::RecordBatch& batch : page->batches) {
      EXPECT_EQ(batch.first_sequence(), last + 1);
      last += RecordCount(batch);
      for (v1::Segment& segment : *batch.mutable_segments()) {
        AppendSegment(all, std::move(segment));
      }
    }
  }
}

std::vector<StoredPoint> AllPoints(Store& store, const std::string& job_id) {
  std::map<uint32_t, std::string> names;
  const auto series = store.ReadSeries(job_id);
  EXPECT_TRUE(series.ok());
  for (const v1::Series& one : *series) {
    names[one.id()] = one.name();
  }
  std::vector<StoredPoint> points;
  int64_t sequence = 1;
  const v1::RecordBatch all = AllRecords(store, job_id);
  for (const v1::Segment& segment : all.segments()) {
    const v1::MetricBlock& block = segment.metrics();
    for (int row = 0; row < block.steps_size(); ++row) {
      for (int column = 0; column < block.series_size(); ++column) {
        points.push_back({sequence + row, names[block.series(column)], block.steps(row),
                          block.values(row * block.series_size() + column)});
      }
    }
    sequence += RecordCount(segment);
  }
  return points;
}

}  // namespace normlab::server::testing
