#include <atomic>
#include <future>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "server/domain/transitions.h"
#include "server/store/store.h"
#include "server/store/testing/harness.h"

namespace normlab::server {
namespace {

using testing::CreateAndWait;
using testing::TempFolder;
using testing::TestId;
using testing::TestJob;

class GroupCommitTest : public ::testing::Test {
 protected:
  GroupCommitTest() { Open(); }

  void Open() {
    store_.reset();
    auto store = Store::Open({.data_dir = folder_.path()});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  void Create(int number) { ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(number))).ok()); }
  size_t JobCount() { return store_->ListJobs({}, 1000, "")->jobs.size(); }

  TempFolder folder_;
  std::unique_ptr<Store> store_;
};

TEST_F(GroupCommitTest, ARefusedMutationSpoilsNoOther) {
  Create(1);
  Create(2);
  // Held up so that all of the following come in one transaction.
  std::promise<void> entered;
  std::promise<void> leave;
  store_->UpdateJob(
      TestId(1),
      [&](v1::Job&, auto&) {
        entered.set_value();
        leave.get_future().wait();
        return absl::OkStatus();
      },
      std::nullopt, [](auto) {});
  entered.get_future().wait();
  std::atomic<int> ok = 0;
  std::atomic<int> refused = 0;
  std::vector<std::promise<void>> done(30);
  for (int i = 0; i < 30; ++i) {
    store_->UpdateJob(
        TestId(1 + i % 2),
        [i](v1::Job& job, std::vector<v1::Segment>& records) {
          job.set_priority(job.priority() + 1);
          records.push_back(LogRecord(v1::LogLine::INFO, absl::StrCat(i), 0, absl::UnixEpoch()));
          return i % 3 == 0 ? absl::FailedPreconditionError("no") : absl::OkStatus();
        },
        std::nullopt,
        [&, i](absl::StatusOr<v1::Job> job) {
          ++(job.ok() ? ok : refused);
          done[i].set_value();
        });
  }
  std::atomic<int> commits = 0;
  store_->SetCommitObserver([&](double, int operations) { commits += operations == 30 ? 1 : 0; });
  leave.set_value();
  for (auto& one : done) {
    one.get_future().wait();
  }
  EXPECT_EQ(commits, 1);
  EXPECT_EQ(ok, 20);
  EXPECT_EQ(refused, 10);
  EXPECT_EQ(store_->GetJob(TestId(1))->priority() + store_->GetJob(TestId(2))->priority(), 20);
  // One record of each accepted change, none of the refused.
  EXPECT_EQ(store_->GetJob(TestId(1))->last_sequence() + store_->GetJob(TestId(2))->last_sequence(),
            22);
}

TEST_F(GroupCommitTest, ConcurrentWritersShareCommits) {
  std::atomic<int> commits = 0;
  std::atomic<int> operations = 0;
  store_->SetCommitObserver([&](double, int count) {
    ++commits;
    operations += count;
  });
  constexpr int kJobs = 400;
  std::atomic<int> answered = 0;
  std::promise<void> all;
  for (int i = 0; i < kJobs; ++i) {
    store_->CreateJob(TestJob(TestId(i)), "", "", [&](absl::StatusOr<Store::CreateResult> result) {
      EXPECT_TRUE(result.ok());
      if (++answered == kJobs) {
        all.set_value();
      }
    });
  }
  all.get_future().wait();
  EXPECT_EQ(operations, kJobs);
  EXPECT_LT(commits, kJobs / 4);
  ::testing::Test::RecordProperty("commits", commits.load());
  EXPECT_EQ(JobCount(), static_cast<size_t>(kJobs));
}

TEST_F(GroupCommitTest, CloseCommitsWhatIsQueuedAndRefusesTheRest) {
  std::atomic<int> ok = 0;
  for (int i = 0; i < 50; ++i) {
    store_->CreateJob(TestJob(TestId(i)), "", "",
                      [&](absl::StatusOr<Store::CreateResult> result) { ok += result.ok(); });
  }
  store_->Close();
  EXPECT_EQ(ok, 50);
  EXPECT_EQ(CreateAndWait(*store_, TestJob(TestId(99))).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(store_->GetJob(TestId(1)).status().code(), absl::StatusCode::kUnavailable);
  Open();
  EXPECT_EQ(JobCount(), 50u);
}

}  // namespace
}  // namespace normlab::server
