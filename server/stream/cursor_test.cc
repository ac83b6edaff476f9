#include "server/stream/cursor.h"

#include <atomic>
#include <map>
#include <thread>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

#include "server/domain/errors.h"
#include "server/store/segments.h"
#include "server/store/testing/harness.h"
#include "server/stream/hub.h"

namespace normlab::server {
namespace {

using testing::AppendAndWait;
using testing::Reporter;
using testing::TestId;

class CursorTest : public ::testing::Test {
 protected:
  CursorTest() {
    auto store = Store::Open({.data_dir = folder_.path()});
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    EXPECT_TRUE(testing::CreateAndWait(*store_, testing::TestJob(id_)).ok());
    attempt_ = testing::StartAttempt(*store_, id_);
  }

  // What a subscriber makes of the stream; fails on a gap, a repetition or an undefined series.
  struct Subscriber {
    explicit Subscriber(int64_t after) : last(after) {}

    void Take(const v1::RecordBatch& batch) {
      EXPECT_EQ(batch.first_sequence(), last + 1);
      for (const v1::Series& series : batch.new_series()) {
        EXPECT_TRUE(names.try_emplace(series.id(), series.name()).second) << "defined twice";
      }
      for (const v1::Segment& segment : batch.segments()) {
        for (const uint32_t id : segment.metrics().series()) {
          EXPECT_TRUE(names.contains(id)) << "used before its definition";
        }
        for (const int64_t step : segment.metrics().steps()) {
          EXPECT_TRUE(segment.metrics().series_size() > 1 || step == next_step || next_step < 0)
              << step;
          next_step = step + 1;
        }
      }
      last += RecordCount(batch);
    }

    int64_t last;
    int64_t next_step = -1;
    std::map<uint32_t, std::string> names;
  };

  testing::TempFolder folder_;
  std::unique_ptr<Store> store_;
  const std::string id_ = TestId(1);
  AttemptKey attempt_;
};

TEST_F(CursorTest, DefinesEachSeriesOnceBeforeItsFirstUseFromAnyStart) {
  Reporter reporter;
  reporter.Define(8, "a")
      .Define(9, "b")
      .Block({8}, {0, 1, 2}, {1, 2, 3})
      .Block({9, 8}, {3, 4}, {1, 2, 3, 4});
  ASSERT_TRUE(AppendAndWait(*store_, attempt_, reporter.Take()).ok());
  ASSERT_TRUE(
      AppendAndWait(
          *store_, attempt_,
          reporter.Define(3, "c").Block({3}, {5}, {9}).Outcome(v1::Job::SUCCEEDED, 6).Take())
          .ok());
  const int64_t end = store_->GetJob(id_)->last_sequence();
  for (int64_t after = 0; after <= end; ++after) {
    Cursor cursor(*store_, id_, after);
    Subscriber subscriber(after);
    while (!cursor.finished()) {
      const auto batch = cursor.Next(1);
      ASSERT_TRUE(batch.ok()) << batch.status();
      if (batch->has_value()) {
        subscriber.Take(**batch);
      }
      EXPECT_EQ(cursor.sequence(), subscriber.last);
    }
    EXPECT_EQ(subscriber.last, end);
    EXPECT_EQ(subscriber.names.size(), after < 6 ? 3u : after < 8 ? 3u : after < 9 ? 1u : 0u);
    EXPECT_FALSE(cursor.Next(1)->has_value());
  }
  EXPECT_EQ(Cursor(*store_, id_, end + 1).Next(1).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(ReasonOf(Cursor(*store_, TestId(9), 0).Next(1).status()), reason::kJobNotFound);
}

TEST_F(CursorTest, CaughtUpIsNotFinishedUntilTheTerminalRecord) {
  Cursor cursor(*store_, id_, 0);
  ASSERT_TRUE(cursor.Next(1 << 20)->has_value());
  EXPECT_FALSE(cursor.Next(1 << 20)->has_value());
  EXPECT_FALSE(cursor.finished());
  ASSERT_TRUE(AppendAndWait(*store_, attempt_, Reporter().Outcome(v1::Job::DIVERGED).Take()).ok());
  const auto last = cursor.Next(1 << 20);
  ASSERT_TRUE(last.ok() && last->has_value());
  EXPECT_EQ((*last)->segments(0).state().state(), v1::Job::DIVERGED);
  EXPECT_TRUE(cursor.finished());
}

// Live readers, woken by the hub, one of which is "killed" and resumed all the time, while a writer
// appends and chunks are merged under them.
TEST_F(CursorTest, EveryRecordExactlyOnceAgainstConcurrentAppends) {
  Hub hub;
  store_->SetCommitListener([&](const std::string& job, int64_t sequence, bool terminal) {
    hub.Published(job, sequence, terminal);
  });
  constexpr int kReports = 600;
  constexpr int kRows = 13;
  const auto read = [&](bool reconnect) {
    absl::Mutex mu;
    int64_t news = 1;
    const auto subscription = hub.Subscribe(id_, [&] {
      absl::MutexLock lock(&mu);
      ++news;
    });
    auto cursor = std::make_unique<Cursor>(*store_, id_, 0);
    Subscriber subscriber(0);
    int64_t seen_news = 0;
    while (!cursor->finished()) {
      const auto batch = cursor->Next(3000);
      ASSERT_TRUE(batch.ok()) << batch.status();
      if (batch->has_value()) {
        subscriber.Take(**batch);
        if (reconnect) {
          cursor = std::make_unique<Cursor>(*store_, id_, cursor->sequence());
          subscriber.names.clear();
        }
        continue;
      }
      if (cursor->finished()) {
        break;  // resumed at the very end
      }
      absl::MutexLock lock(&mu);
      const auto has_news = [&] { return news > seen_news; };
      ASSERT_TRUE(mu.AwaitWithTimeout(absl::Condition(&has_news), absl::Seconds(60)));
      seen_news = news;
    }
    EXPECT_EQ(subscriber.last, 3 + kReports * kRows + 1);
    EXPECT_EQ(subscriber.next_step, kReports * kRows);
  };
  std::thread live([&] { read(false); });
  std::thread resuming([&] { read(true); });
  Reporter reporter;
  reporter.Define(1, "loss");
  int64_t step = 0;
  for (int i = 0; i < kReports; ++i) {
    std::vector<int64_t> steps;
    std::vector<double> values;
    for (int row = 0; row < kRows; ++row, ++step) {
      steps.push_back(step);
      values.push_back(static_cast<double>(step));
    }
    ASSERT_TRUE(AppendAndWait(*store_, attempt_, reporter.Block({1}, steps, values).Take()).ok());
  }
  ASSERT_TRUE(AppendAndWait(*store_, attempt_, reporter.Outcome(v1::Job::SUCCEEDED).Take()).ok());
  live.join();
  resuming.join();
  store_->Close();
}

}  // namespace
}  // namespace normlab::server
