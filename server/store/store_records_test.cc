#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/domain/errors.h"
#include "server/domain/transitions.h"
#include "server/store/schema.h"
#include "server/store/segments.h"
#include "server/store/store.h"
#include "server/store/testing/harness.h"

namespace normlab::server {
namespace {

using testing::AllPoints;
using testing::AllRecords;
using testing::AppendAndWait;
using testing::CreateAndWait;
using testing::Reporter;
using testing::StartAttempt;
using testing::StoredPoint;
using testing::TempFolder;
using testing::TestId;
using testing::TestJob;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();
// QUEUED, STARTING, RUNNING come first.
constexpr int64_t kBeforeTraining = 3;

class StoreRecordsTest : public ::testing::Test {
 protected:
  StoreRecordsTest() {
    Open();
    v1::Job job = TestJob(id_);
    job.mutable_spec()->set_max_retries(5);
    EXPECT_TRUE(CreateAndWait(*store_, job).ok());
  }

  void Open() {
    store_.reset();
    auto store = Store::Open({.data_dir = folder_.path(), .clock = &clock_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  void Lose(const AttemptKey& attempt) {
    v1::Failure failure;
    failure.set_reason(v1::FailureReason::WORKER_CRASHED);
    const auto lost = store_->UpdateJobAndWait(id_, [&](v1::Job& job, auto& records) {
      return LoseAttempt(job, attempt.number, failure, clock_.Now(), records);
    });
    ASSERT_TRUE(lost.ok()) << lost.status();
    ASSERT_EQ(lost->state(), v1::Job::QUEUED);
  }

  int64_t CountChunks(const std::string& where) {
    std::unique_ptr<Connection> connection = OpenForReading(folder_.path() + "/normlab.db");
    Query query(*connection, "SELECT count(*) FROM records WHERE " + where);
    query.Step();
    return query.Int(0);
  }

  TempFolder folder_;
  common::FakeClock clock_;
  std::unique_ptr<Store> store_;
  const std::string id_ = TestId(1);
};

TEST_F(StoreRecordsTest, SequencesCountStepsStateChangesAndLogLines) {
  const AttemptKey attempt = StartAttempt(*store_, id_);
  Reporter reporter;
  reporter.Define(9, "train/loss").Define(4, "train/accuracy");
  reporter.Block({9, 4}, {0, 1, 2}, {1.5, 0.1, 1.25, 0.2, kNan, 0.3});
  reporter.Log("hello").Block({9}, {3}, {-kInf});
  const auto first = AppendAndWait(*store_, attempt, reporter.Take());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->points, 7);
  EXPECT_FALSE(first->job_changed);
  reporter.Block({4}, {7}, {0.4}).Outcome(v1::Job::SUCCEEDED, 8);
  const auto last = AppendAndWait(*store_, attempt, reporter.Take());
  ASSERT_TRUE(last.ok()) << last.status();
  ASSERT_TRUE(last->job_changed);
  EXPECT_EQ(last->job.state(), v1::Job::SUCCEEDED);
  EXPECT_EQ(last->job.last_sequence(), kBeforeTraining + 3 + 1 + 1 + 1 + 1);
  // Values that the worker did not give are filled in from the series.
  EXPECT_EQ(last->job.result().final_metrics().at("train/loss"), -kInf);
  EXPECT_EQ(last->job.result().final_metrics().at("train/accuracy"), 0.4);

  Open();
  const std::vector<StoredPoint> points = AllPoints(*store_, id_);
  ASSERT_EQ(points.size(), 8u);
  EXPECT_EQ(points[0], (StoredPoint{4, "train/loss", 0, 1.5}));
  EXPECT_EQ(points[3], (StoredPoint{5, "train/accuracy", 1, 0.2}));
  EXPECT_TRUE(std::isnan(points[4].value));
  EXPECT_EQ(points[6], (StoredPoint{8, "train/loss", 3, -kInf}));
  EXPECT_EQ(points[7], (StoredPoint{9, "train/accuracy", 7, 0.4}));
  const v1::RecordBatch all = AllRecords(*store_, id_);
  EXPECT_EQ(all.segments(all.segments_size() - 1).state().state(), v1::Job::SUCCEEDED);
  EXPECT_EQ(store_->GetJob(id_)->last_sequence(), 10);
  const auto page = store_->ReadRecords(id_, 10, 1000);
  ASSERT_TRUE(page.ok());
  EXPECT_TRUE(page->terminal);
  EXPECT_TRUE(page->batches.empty());
  const absl::Status beyond = store_->ReadRecords(id_, 11, 1000).status();
  EXPECT_EQ(beyond.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(beyond.message()), ::testing::HasSubstr("10"));
  EXPECT_EQ(store_->ReadRecords(id_, -1, 1000).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(StoreRecordsTest, AStartInsideABatchIsTrimmed) {
  const AttemptKey attempt = StartAttempt(*store_, id_);
  Reporter reporter;
  reporter.Define(1, "a").Define(2, "b");
  std::vector<int64_t> steps;
  std::vector<double> values;
  for (int i = 0; i < 37; ++i) {
    steps.push_back(i);
    values.push_back(i);
    values.push_back(-i);
  }
  ASSERT_TRUE(AppendAndWait(*store_, attempt, reporter.Block({1, 2}, steps, values).Take()).ok());
  const int64_t last = kBeforeTraining + 37;
  for (int64_t after = kBeforeTraining; after < last; ++after) {
    const auto page = store_->ReadRecords(id_, after, 1);
    ASSERT_TRUE(page.ok());
    ASSERT_FALSE(page->batches.empty());
    const v1::RecordBatch& batch = page->batches[0];
    EXPECT_EQ(batch.first_sequence(), after + 1);
    EXPECT_EQ(RecordCount(batch), last - after);
    EXPECT_EQ(batch.segments(0).metrics().steps(0), after - kBeforeTraining);
    EXPECT_EQ(batch.segments(0).metrics().values(1), -(after - kBeforeTraining));
    EXPECT_EQ(batch.segments(0).metrics().elapsed_us(0), 10 * (after - kBeforeTraining));
  }
}

TEST_F(StoreRecordsTest, ResentReportChangesNothingAndALeftOutOneIsRefused) {
  const AttemptKey attempt = StartAttempt(*store_, id_);
  Reporter reporter;
  const v1::WorkerReport one = reporter.Define(1, "a").Block({1}, {0, 1}, {1, 2}).Take();
  const v1::WorkerReport two = reporter.Block({1}, {2}, {3}).Take();
  const v1::WorkerReport three = reporter.Block({1}, {3}, {4}).Outcome(v1::Job::DIVERGED, 3).Take();
  EXPECT_EQ(ReasonOf(AppendAndWait(*store_, attempt, two).status()), reason::kReportOutOfOrder);
  ASSERT_TRUE(AppendAndWait(*store_, attempt, one).ok());
  const int64_t sequence = store_->GetJob(id_)->last_sequence();
  const auto again = AppendAndWait(*store_, attempt, one);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->points, 0);
  EXPECT_EQ(store_->GetJob(id_)->last_sequence(), sequence);
  EXPECT_EQ(ReasonOf(AppendAndWait(*store_, attempt, three).status()), reason::kReportOutOfOrder);
  Open();
  ASSERT_TRUE(AppendAndWait(*store_, attempt, two).ok());
  ASSERT_TRUE(AppendAndWait(*store_, attempt, three).ok());
  // The acknowledgement of the last one may be lost as well.
  EXPECT_TRUE(AppendAndWait(*store_, attempt, three).ok());
  EXPECT_EQ(AllPoints(*store_, id_).size(), 4u);
  EXPECT_EQ(store_->GetJob(id_)->state(), v1::Job::DIVERGED);
}

TEST_F(StoreRecordsTest, TheFenceKeepsOldAttemptsOut) {
  const AttemptKey first = StartAttempt(*store_, id_);
  Reporter old;
  ASSERT_TRUE(AppendAndWait(*store_, first, old.Define(1, "a").Block({1}, {0}, {1}).Take()).ok());
  Lose(first);
  const v1::WorkerReport late = old.Block({1}, {1}, {2}).Take();
  EXPECT_EQ(ReasonOf(AppendAndWait(*store_, first, late).status()), reason::kAttemptSuperseded);
  const AttemptKey second = StartAttempt(*store_, id_);
  EXPECT_EQ(second.number, 2);
  EXPECT_EQ(ReasonOf(AppendAndWait(*store_, first, late).status()), reason::kAttemptSuperseded);
  EXPECT_EQ(ReasonOf(AppendAndWait(*store_, {id_, 7}, Reporter().Log("x").Take()).status()),
            reason::kAttemptSuperseded);
  EXPECT_EQ(AppendAndWait(*store_, {TestId(77), 1}, Reporter().Log("x").Take()).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_TRUE(AppendAndWait(*store_, second, Reporter().Log("x").Take()).ok());
  EXPECT_EQ(AllPoints(*store_, id_).size(), 1u);
}

TEST_F(StoreRecordsTest, ReplayIsComparedAndDroppedAndMixedStepsSplit) {
  const AttemptKey first = StartAttempt(*store_, id_);
  Reporter reporter;
  reporter.Define(1, "loss").Define(2, "acc").Block({1, 2}, {0, 1, 2, 3},
                                                    {1, 10, 2, 20, kNan, 30, 4, 40});
  // "loss" goes further than "acc".
  reporter.Block({1}, {4, 5}, {5, 6});
  ASSERT_TRUE(AppendAndWait(*store_, first, reporter.Take()).ok());
  v1::WorkerReport checkpoint = reporter.Take();
  checkpoint.mutable_checkpoint()->set_step(2);
  checkpoint.mutable_checkpoint()->set_folder(
      absl::StrCat("jobs/", id_, "/attempt-1/checkpoint-2"));
  const auto announced = AppendAndWait(*store_, first, checkpoint);
  ASSERT_TRUE(announced.ok());
  EXPECT_TRUE(announced->job_changed);
  EXPECT_EQ(announced->job.attempts(0).checkpoint_step(), 2);
  EXPECT_EQ(store_->GetAttemptSecrets(first)->checkpoint_folder,
            absl::StrCat("jobs/", id_, "/attempt-1/checkpoint-2"));
  Lose(first);
  Open();
  const AttemptKey second = StartAttempt(*store_, id_, 2);
  const int64_t before = store_->GetJob(id_)->last_sequence();
  // Other local ids, another order, and a new series: steps 2..7.
  Reporter resumed;
  resumed.Define(5, "acc").Define(6, "new").Define(7, "loss");
  resumed.Block({5, 6, 7}, {2, 3, 4, 5, 6, 7},
                {30, 0.2, kNan, 40, 0.3, 4, 50, 0.4, 5, 60, 0.5, 6, 70, 0.6, 7, 80, 0.7, 8});
  const auto result = AppendAndWait(*store_, second, resumed.Take());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->mismatches, 0);
  EXPECT_EQ(result->points, 4 + 6 + 2);
  EXPECT_EQ(store_->GetJob(id_)->last_sequence(), before + 6);
  std::map<std::pair<std::string, int64_t>, int64_t> sequences;
  for (const StoredPoint& point : AllPoints(*store_, id_)) {
    EXPECT_TRUE(sequences.try_emplace({point.series, point.step}, point.sequence).second)
        << point.series << " " << point.step;
  }
  EXPECT_EQ(sequences.size(), 8u + 8u + 6u);
  EXPECT_EQ((sequences[{"new", 2}]), before + 1);
  EXPECT_EQ((sequences[{"acc", 4}]), before + 3);
  EXPECT_EQ((sequences[{"loss", 6}]), before + 5);
  EXPECT_EQ(store_->ReadSeries(id_)->size(), 3u);

  // Nothing but repeated steps makes no record.
  resumed.Block({7}, {6, 7}, {7, 8});
  const auto repeated = AppendAndWait(*store_, second, resumed.Take());
  ASSERT_TRUE(repeated.ok());
  EXPECT_EQ(repeated->points + repeated->mismatches, 0);
  EXPECT_EQ(store_->GetJob(id_)->last_sequence(), before + 6);
}

TEST_F(StoreRecordsTest, ADifferentReplayIsCountedLoggedAndDropped) {
  const AttemptKey first = StartAttempt(*store_, id_);
  ASSERT_TRUE(
      AppendAndWait(*store_, first,
                    Reporter().Define(1, "loss").Block({1}, {0, 1, 2, 5}, {1, 0.0, kNan, 4}).Take())
          .ok());
  Lose(first);
  const AttemptKey second = StartAttempt(*store_, id_);
  // One unit in the last place; minus zero; a number for NaN; a step that was not there.
  Reporter resumed;
  resumed.Define(3, "loss").Block({3}, {0, 1, 2, 4, 5}, {std::nextafter(1.0, 2.0), -0.0, 3, 9, 4});
  const auto result = AppendAndWait(*store_, second, resumed.Take());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->mismatches, 4);
  EXPECT_EQ(result->points, 0);
  ASSERT_TRUE(result->job_changed);
  EXPECT_EQ(result->job.attempts(1).replay_mismatches(), 4);
  ASSERT_TRUE(AppendAndWait(*store_, second, resumed.Block({3}, {5}, {5}).Take()).ok());
  EXPECT_EQ(store_->GetJob(id_)->attempts(1).replay_mismatches(), 5);
  int warnings = 0;
  const v1::RecordBatch all = AllRecords(*store_, id_);
  for (const v1::Segment& segment : all.segments()) {
    if (segment.log().severity() == v1::LogLine::WARNING) {
      ++warnings;
      EXPECT_THAT(segment.log().text(), ::testing::HasSubstr("loss at step"));
    }
  }
  EXPECT_EQ(warnings, 1);  // one an attempt; all are counted
  EXPECT_EQ(AllPoints(*store_, id_).size(), 4u);
  EXPECT_EQ(AllPoints(*store_, id_)[0].value, 1.0);
}

// A resumed attempt that jumps over stored points does not repeat the run either.
TEST_F(StoreRecordsTest, PointsThatAResumedAttemptLeavesOutAreCountedAndLoggedOnce) {
  const AttemptKey first = StartAttempt(*store_, id_);
  Reporter original;
  original.Define(1, "loss").Define(2, "accuracy");
  ASSERT_TRUE(AppendAndWait(*store_, first,
                            original.Block({1, 2}, {0, 1, 2, 3, 4}, {0, 0, 1, 1, 2, 2, 3, 3, 4, 4})
                                .Block({1}, {5}, {5})
                                .Take())
                  .ok());
  Lose(first);
  // From a checkpoint at step 2: steps 2 to 5 are to be repeated.
  const AttemptKey second = StartAttempt(*store_, id_, /*start_step=*/2);
  Reporter resumed;
  resumed.Define(1, "loss").Define(2, "accuracy");
  ASSERT_TRUE(
      AppendAndWait(*store_, second, resumed.Block({1, 2}, {2, 3}, {2, 2, 3, 3}).Take()).ok());
  Open();  // what was repeated so far is remembered
  // Nothing of step 4; loss goes on with 5 and 6, accuracy with 6.
  const auto result = AppendAndWait(
      *store_, second, resumed.Block({1}, {5}, {5}).Block({1, 2}, {6, 7}, {6, 6, 7, 7}).Take());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->mismatches, 2);
  EXPECT_EQ(result->points, 4);
  const auto more = AppendAndWait(*store_, second, resumed.Block({1, 2}, {8}, {8, 8}).Take());
  EXPECT_EQ(more->mismatches, 0);
  EXPECT_EQ(store_->GetJob(id_)->attempts(1).replay_mismatches(), 2);
  int warnings = 0;
  const v1::RecordBatch all = AllRecords(*store_, id_);
  for (const v1::Segment& segment : all.segments()) {
    if (segment.log().severity() == v1::LogLine::WARNING) {
      ++warnings;
      EXPECT_THAT(segment.log().text(), ::testing::HasSubstr("left out 2 stored points"));
    }
  }
  EXPECT_EQ(warnings, 1);
}

TEST_F(StoreRecordsTest, ACompleteReplayLeavesNothingOutAlsoOverManyChunks) {
  const AttemptKey first = StartAttempt(*store_, id_);
  Reporter original;
  original.Define(1, "loss");
  constexpr int kSteps = 9'000;  // some sealed chunks
  std::vector<int64_t> steps(kSteps);
  std::vector<double> values(kSteps);
  for (int i = 0; i < kSteps; ++i) {
    steps[i] = i;
    values[i] = std::sin(i);
  }
  ASSERT_TRUE(AppendAndWait(*store_, first, original.Block({1}, steps, values).Take()).ok());
  Lose(first);
  constexpr int kStart = 1'234;
  const AttemptKey second = StartAttempt(*store_, id_, kStart);
  Reporter resumed;
  resumed.Define(1, "loss");
  steps.push_back(kSteps);
  values.push_back(1);
  const auto result = AppendAndWait(*store_, second,
                                    resumed
                                        .Block({1}, {steps.begin() + kStart, steps.end()},
                                               {values.begin() + kStart, values.end()})
                                        .Take());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->mismatches, 0);
  EXPECT_EQ(result->points, 1);
}

TEST_F(StoreRecordsTest, LogLinesAreFoundWithoutReadingThePointsBetween) {
  const AttemptKey attempt = StartAttempt(*store_, id_);
  Reporter reporter;
  reporter.Define(1, "loss");
  for (int i = 0; i < 5; ++i) {
    std::vector<int64_t> steps(3'000);
    std::iota(steps.begin(), steps.end(), 3'000 * i);
    ASSERT_TRUE(AppendAndWait(*store_, attempt,
                              reporter.Block({1}, steps, std::vector<double>(3'000, 0.5))
                                  .Log(absl::StrCat("line ", i))
                                  .Take())
                    .ok());
  }
  // Line by line: the smallest page has what one chunk has.
  std::vector<std::string> lines;
  int64_t after = 0;
  int pages = 0;
  while (true) {
    const auto page = store_->ReadLogs(id_, after, 1);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const LogEntry& entry : page->entries) {
      EXPECT_GT(entry.sequence, after);
      lines.push_back(entry.line.text());
      // The sequence is that of the record.
      EXPECT_EQ(AllRecords(*store_, id_, entry.sequence - 1).segments(0).log().text(),
                entry.line.text());
    }
    ++pages;
    after = page->scanned_sequence;
    if (after == page->last_sequence) {
      break;
    }
  }
  EXPECT_EQ(lines, (std::vector<std::string>{"line 0", "line 1", "line 2", "line 3", "line 4"}));
  EXPECT_LE(pages, 7);
  EXPECT_EQ(store_->ReadLogs(id_, after + 1, 1).status().code(), absl::StatusCode::kOutOfRange);
}

TEST_F(StoreRecordsTest, ReportsThatBreakTheProtocolAreRefusedWhole) {
  const AttemptKey attempt = StartAttempt(*store_, id_);
  const int64_t before = store_->GetJob(id_)->last_sequence();
  const auto refused = [&](v1::WorkerReport report) {
    report.set_number(1);
    const absl::Status status = AppendAndWait(*store_, attempt, std::move(report)).status();
    EXPECT_EQ(ReasonOf(status), reason::kInvalidReport) << status;
  };
  refused(Reporter().Block({1}, {0}, {1}).Take());
  refused(Reporter().Define(1, "a").Block({1}, {0, 1}, {1}).Take());
  refused(Reporter().Define(1, "a").Block({1}, {1, 1}, {1, 2}).Take());
  refused(Reporter().Define(1, "a").Block({1}, {-1}, {1}).Take());
  refused(Reporter().Define(1, "a").Block({1, 1}, {0}, {1, 2}).Take());
  refused(Reporter().Define(1, "a").Define(1, "b").Take());
  refused(Reporter().Define(1, "").Take());
  refused(Reporter().Define(1, "a").Block({1}, {3}, {1}).Block({1}, {2}, {1}).Take());
  refused(Reporter().Log("ok").Outcome(v1::Job::RUNNING).Take());
  v1::WorkerReport escape = Reporter().Take();
  const std::string own = absl::StrCat("jobs/", id_, "/attempt-1");
  // Later attempts read checkpoints where they are said to be: only the attempt's own folder is its
  // to name.
  for (const std::string& folder :
       {std::string("jobs/../../etc"), std::string("/etc"), std::string(""), own,
        absl::StrCat("jobs/", id_, "/attempt-2/checkpoints/step-1"),
        absl::StrCat("jobs/", id_, "/attempt-11/checkpoints/step-1"),
        std::string("jobs/other/attempt-1/checkpoints/step-1"), own + "/../attempt-2/step-1",
        own + "/./step-1", own + "//step-1"}) {
    escape.mutable_checkpoint()->set_folder(folder);
    refused(escape);
  }
  v1::WorkerReport state = Reporter().Take();
  state.add_segments()->mutable_state()->set_state(v1::Job::SUCCEEDED);
  refused(state);
  v1::WorkerReport zero = Reporter(0).Log("x").Take();
  EXPECT_EQ(ReasonOf(AppendAndWait(*store_, attempt, zero).status()), reason::kInvalidReport);
  // Nothing of them stuck: series ids may be given afresh.
  EXPECT_EQ(store_->GetJob(id_)->last_sequence(), before);
  EXPECT_TRUE(
      AppendAndWait(*store_, attempt, Reporter().Define(1, "b").Block({1}, {0}, {1}).Take()).ok());
  ASSERT_EQ(store_->ReadSeries(id_)->size(), 1u);
  EXPECT_EQ(store_->ReadSeries(id_)->front().name(), "b");
}

TEST_F(StoreRecordsTest, AbsurdNumbersAreRefusedAndAreNoTroubleOfTheDisk) {
  const AttemptKey attempt = StartAttempt(*store_, id_);
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::string folder = absl::StrCat("jobs/", id_, "/attempt-1/checkpoints/step-1");
  int refused = 0;
  const auto refuse = [&](const std::function<void(v1::WorkerReport&)>& spoil) {
    v1::WorkerReport report = Reporter().Define(1, "a").Block({1}, {0}, {1}).Take();
    v1::CheckpointAnnouncement& checkpoint = *report.mutable_checkpoint();
    checkpoint.set_step(1);
    checkpoint.set_folder(folder);
    for (const char* name : {"a", "b"}) {
      v1::ArtifactFile& file = *checkpoint.add_files();
      file.set_path(absl::StrCat(folder, "/", name));
      file.set_file_name(name);
      file.set_bytes(5);
      file.set_sha256(std::string(64, 'a'));
    }
    spoil(report);
    const absl::Status status = AppendAndWait(*store_, attempt, report).status();
    EXPECT_EQ(ReasonOf(status), reason::kInvalidReport) << ++refused << ": " << status;
    EXPECT_TRUE(store_->Health().ok()) << store_->Health();
  };
  // Two of them have no sum.
  refuse([](v1::WorkerReport& report) {
    for (v1::ArtifactFile& file : *report.mutable_checkpoint()->mutable_files()) {
      file.set_bytes(kHuge);
    }
  });
  refuse([](v1::WorkerReport& r) { r.mutable_checkpoint()->mutable_files(0)->set_bytes(-1); });
  refuse([](v1::WorkerReport& r) { r.mutable_checkpoint()->set_bytes(kHuge); });
  refuse([](v1::WorkerReport& r) { r.mutable_checkpoint()->set_bytes(-1); });
  refuse([](v1::WorkerReport& r) { r.mutable_checkpoint()->set_step(kHuge); });
  refuse([](v1::WorkerReport& r) { r.mutable_checkpoint()->set_step(-1); });
  refuse([](v1::WorkerReport& r) { r.mutable_checkpoint()->set_seconds(kNan); });
  refuse(
      [](v1::WorkerReport& r) { r.mutable_segments(0)->mutable_metrics()->set_steps(0, kHuge); });
  refuse(
      [](v1::WorkerReport& r) { r.mutable_segments(0)->mutable_metrics()->set_elapsed_us(0, -1); });
  refuse([](v1::WorkerReport& r) { r.set_examples(-1); });
  refuse([](v1::WorkerReport& r) { r.set_examples(kHuge); });
  refuse([](v1::WorkerReport& r) { r.add_step_seconds(-1); });
  refuse([](v1::WorkerReport& r) { r.add_step_seconds(std::numeric_limits<float>::infinity()); });
  refuse([](v1::WorkerReport& r) { r.mutable_progress()->set_step(-5); });
  refuse([](v1::WorkerReport& r) { r.mutable_progress()->set_total_steps(kHuge); });
  refuse([](v1::WorkerReport& r) { r.mutable_progress()->set_epoch(-1); });
  refuse([](v1::WorkerReport& r) { r.mutable_progress()->set_examples_per_second(kInfinity); });
  refuse([](v1::WorkerReport& r) {
    (*r.mutable_progress()->mutable_latest_metrics())[std::string(5000, 'x')] = 1;
  });
  refuse([](v1::WorkerReport& r) {
    r.mutable_outcome()->set_state(v1::Job::SUCCEEDED);
    r.mutable_outcome()->mutable_result()->set_steps(kHuge);
  });
  refuse([](v1::WorkerReport& r) {
    r.mutable_outcome()->set_state(v1::Job::SUCCEEDED);
    r.mutable_outcome()->mutable_result()->set_training_seconds(-1);
  });
  EXPECT_EQ(store_->GetJob(id_)->artifact_bytes(), 0);
  // As it was meant it is taken.
  EXPECT_TRUE(
      AppendAndWait(*store_, attempt, Reporter().Define(1, "a").Block({1}, {0}, {1}).Take()).ok());
}

TEST_F(StoreRecordsTest, ATimeThatNoClientCanShowIsReplaced) {
  const AttemptKey attempt = StartAttempt(*store_, id_);
  v1::WorkerReport report = Reporter().Log("when?").Take();
  report.mutable_segments(0)->mutable_log()->mutable_time()->set_seconds(
      std::numeric_limits<int64_t>::max());
  ASSERT_TRUE(AppendAndWait(*store_, attempt, report).ok());
  const auto logs = store_->ReadLogs(id_, 0, 1 << 20);
  ASSERT_TRUE(logs.ok());
  ASSERT_FALSE(logs->entries.empty());
  EXPECT_EQ(logs->entries.back().line.time().seconds(), absl::ToUnixSeconds(clock_.Now()));
}

TEST_F(StoreRecordsTest, SmallCommitsAreMergedAndSequencesStay) {
  const AttemptKey attempt = StartAttempt(*store_, id_);
  Reporter reporter;
  reporter.Define(1, "a").Define(2, "b").Define(3, "c");
  std::vector<StoredPoint> expected;
  int64_t sequence = kBeforeTraining;
  int64_t step = 0;
  constexpr int kReports = 700;
  for (int i = 0; i < kReports; ++i) {
    const int rows = 1 + i % 17;
    std::vector<int64_t> steps;
    std::vector<double> values;
    for (int row = 0; row < rows; ++row, ++step) {
      ++sequence;
      steps.push_back(step);
      for (const char* name : {"a", "b", "c"}) {
        values.push_back(std::sin(static_cast<double>(step) + name[0]));
        expected.push_back({sequence, name, step, values.back()});
      }
    }
    reporter.Block({1, 2, 3}, steps, values);
    if (i % 90 == 0) {
      reporter.Log(absl::StrCat("report ", i));
      ++sequence;
    }
    ASSERT_TRUE(AppendAndWait(*store_, attempt, reporter.Take()).ok());
    if (i == kReports / 2) {
      Open();
    }
  }
  EXPECT_EQ(AllPoints(*store_, id_), expected);
  EXPECT_EQ(store_->GetJob(id_)->last_sequence(), sequence);
  // About 230 kB in chunks of 16 to 32 KiB and a tail of small ones.
  const int64_t sealed = CountChunks("sealed = 1");
  EXPECT_GE(sealed, 5);
  EXPECT_LE(CountChunks("sealed = 0"), 65);
  EXPECT_EQ(CountChunks("sealed = 1 AND length(payload) > 33000"), 0);
  ASSERT_TRUE(AppendAndWait(*store_, attempt, reporter.Outcome(v1::Job::SUCCEEDED).Take()).ok());
  EXPECT_EQ(CountChunks("sealed = 0"), 0);
  EXPECT_LE(CountChunks("1 = 1"), sealed + 3);
  EXPECT_EQ(AllPoints(*store_, id_), expected);
}

TEST_F(StoreRecordsTest, ListenerHearsOfEveryCommitWithRecords) {
  struct News {
    std::string job_id;
    int64_t sequence;
    bool terminal;
  };
  std::vector<News> news;  // written on the writer thread, read after Close
  store_->SetCommitListener([&](const std::string& job_id, int64_t sequence, bool terminal) {
    news.push_back({job_id, sequence, terminal});
  });
  const AttemptKey attempt = StartAttempt(*store_, id_);
  Reporter reporter;
  ASSERT_TRUE(
      AppendAndWait(*store_, attempt, reporter.Define(1, "a").Block({1}, {0, 1}, {1, 2}).Take())
          .ok());
  v1::WorkerReport progress_only = reporter.Take();
  progress_only.mutable_progress()->set_step(2);
  ASSERT_TRUE(AppendAndWait(*store_, attempt, progress_only).ok());
  EXPECT_EQ(store_->GetJob(id_)->progress().step(), 2);
  ASSERT_TRUE(AppendAndWait(*store_, attempt, reporter.Outcome(v1::Job::CANCELLED).Take()).ok());
  store_->Close();
  ASSERT_EQ(news.size(), 4u);
  EXPECT_EQ(news[2].sequence, 5);
  EXPECT_FALSE(news[2].terminal);
  EXPECT_EQ(news[3].sequence, 6);
  EXPECT_TRUE(news[3].terminal);
}

}  // namespace
}  // namespace normlab::server
