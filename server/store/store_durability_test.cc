#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/domain/errors.h"
#include "server/store/checkpointer.h"
#include "server/store/schema.h"
#include "server/store/store.h"
#include "server/store/testing/harness.h"

namespace normlab::server {
namespace {

using testing::AllPoints;
using testing::AppendAndWait;
using testing::CreateAndWait;
using ::testing::HasSubstr;
using testing::Reporter;
using testing::StartAttempt;
using testing::TempFolder;
using testing::TestId;
using testing::TestJob;

// Only a bug waits so long.
constexpr absl::Duration kDeadline = absl::Seconds(60);

std::vector<double> Values(int count, double first) {
  std::vector<double> values(count);
  for (int i = 0; i < count; ++i) {
    values[i] = first + i * 0.37;
  }
  return values;
}

std::vector<int64_t> Steps(int count, int64_t first) {
  std::vector<int64_t> steps(count);
  for (int i = 0; i < count; ++i) {
    steps[i] = first + i;
  }
  return steps;
}

TEST(StoreDurabilityTest, EverythingAcknowledgedIsThereAfterACrash) {
  TempFolder folder;
  TempFolder crashed;
  auto store = Store::Open({.data_dir = folder.path()});
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_TRUE(CreateAndWait(**store, TestJob(TestId(1)), "r", "h").ok());
  const AttemptKey attempt = StartAttempt(**store, TestId(1));
  Reporter reporter;
  reporter.Define(1, "loss");
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(AppendAndWait(**store, attempt,
                              reporter.Block({1}, Steps(23, 23 * i), Values(23, i)).Take())
                    .ok());
  }
  const std::string job = (*store)->GetJob(TestId(1))->SerializeAsString();
  const auto points = AllPoints(**store, TestId(1));
  ASSERT_EQ(points.size(), 40u * 23);
  // The files as a crash leaves them: the log not checkpointed, the store still open. (The -shm
  // file is only an index of the log and may be missing.)
  std::filesystem::copy(folder.path() + "/normlab.db", crashed.path() + "/normlab.db");
  std::filesystem::copy(folder.path() + "/normlab.db-wal", crashed.path() + "/normlab.db-wal");
  auto reopened = Store::Open({.data_dir = crashed.path()});
  ASSERT_TRUE(reopened.ok()) << reopened.status();
  EXPECT_EQ((*reopened)->GetJob(TestId(1))->SerializeAsString().size(), job.size());
  EXPECT_EQ(AllPoints(**reopened, TestId(1)), points);
  EXPECT_EQ((*reopened)->GetAttemptSecrets(attempt)->last_report, 40);
  EXPECT_FALSE(CreateAndWait(**reopened, TestJob(TestId(2)), "r", "h")->created);
  // The worker goes on where it was, without defining its series again.
  EXPECT_TRUE(AppendAndWait(**reopened, attempt,
                            reporter.Block({1}, Steps(5, 23 * 40), Values(5, 7)).Take())
                  .ok());
  EXPECT_EQ(AllPoints(**reopened, TestId(1)).size(), 40u * 23 + 5);
}

TEST(StoreDurabilityTest, ATornLogLosesOnlyItsEnd) {
  TempFolder folder;
  TempFolder crashed;
  auto store = Store::Open({.data_dir = folder.path()});
  ASSERT_TRUE(store.ok());
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(CreateAndWait(**store, TestJob(TestId(i))).ok());
  }
  std::filesystem::copy(folder.path() + "/normlab.db", crashed.path() + "/normlab.db");
  std::filesystem::copy(folder.path() + "/normlab.db-wal", crashed.path() + "/normlab.db-wal");
  const std::string log = crashed.path() + "/normlab.db-wal";
  std::filesystem::resize_file(log, std::filesystem::file_size(log) - 100);
  auto reopened = Store::Open({.data_dir = crashed.path()});
  ASSERT_TRUE(reopened.ok()) << reopened.status();
  EXPECT_EQ((*reopened)->ListJobs({}, 100, "")->jobs.size(), 29u);
}

TEST(StoreDurabilityTest, DamagedFilesAreDataLossWithARemedy) {
  TempFolder folder;
  const std::string path = folder.path() + "/normlab.db";
  {
    auto store = Store::Open({.data_dir = folder.path()});
    ASSERT_TRUE(store.ok());
    for (int i = 0; i < 200; ++i) {
      ASSERT_TRUE(CreateAndWait(**store, TestJob(TestId(i))).ok());
    }
  }
  const auto size = std::filesystem::file_size(path);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    for (uintmax_t page = 8; page * 4096 < size; page += 2) {
      file.seekp(static_cast<std::streamoff>(page * 4096));
      file << std::string(4096, '\xA5');
    }
  }
  const auto damaged = Store::Open({.data_dir = folder.path()});
  ASSERT_FALSE(damaged.ok());
  EXPECT_EQ(damaged.status().code(), absl::StatusCode::kDataLoss) << damaged.status();
  EXPECT_THAT(std::string(damaged.status().message()), HasSubstr("backup"));
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      << "This is no database at all, only text.";
  const auto text = Store::Open({.data_dir = folder.path()});
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.status().code(), absl::StatusCode::kDataLoss) << text.status();
}

TEST(StoreDurabilityTest, NewerAndForeignDatabasesAreRefusedUntouched) {
  TempFolder folder;
  const std::string path = folder.path() + "/normlab.db";
  {
    ASSERT_TRUE(Store::Open({.data_dir = folder.path()}).ok());
    Connection connection(path, Connection::Mode::kReadWrite, 1000);
    connection.Execute("PRAGMA user_version = 99");
  }
  const auto newer = Store::Open({.data_dir = folder.path()});
  EXPECT_EQ(newer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(newer.status().message()), HasSubstr("99"));
  std::filesystem::remove(path);
  {
    Connection connection(path, Connection::Mode::kCreate, 1000);
    connection.Execute("CREATE TABLE precious(x); INSERT INTO precious VALUES (1)");
  }
  const auto foreign = Store::Open({.data_dir = folder.path()});
  EXPECT_EQ(foreign.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(foreign.status()), reason::kUnsupportedDatabase);
}

TEST(StoreDurabilityTest, SettingsThatDurabilityRestsOn) {
  TempFolder folder;
  auto connection = OpenForWriting(folder.path() + "/normlab.db", 0);
  ASSERT_TRUE(connection.ok()) << connection.status();
  const auto pragma = [&](const char* name) {
    return (*connection)->database().execAndGet(absl::StrCat("PRAGMA ", name)).getString();
  };
  EXPECT_EQ(pragma("journal_mode"), "wal");
  EXPECT_EQ(pragma("synchronous"), "2");   // FULL
  EXPECT_EQ(pragma("auto_vacuum"), "2");   // INCREMENTAL
  EXPECT_EQ(pragma("foreign_keys"), "0");  // deletion works in slices
  EXPECT_EQ(pragma("wal_autocheckpoint"), "0");
  EXPECT_EQ(pragma("user_version"), std::to_string(SchemaVersion()));
}

TEST(StoreDurabilityTest, AFullDatabaseRefusesWritesAndServesReads) {
  TempFolder folder;
  auto opened = Store::Open({.data_dir = folder.path(), .max_database_bytes = 600 << 10});
  ASSERT_TRUE(opened.ok()) << opened.status();
  Store& store = **opened;
  ASSERT_TRUE(CreateAndWait(store, TestJob(TestId(1))).ok());
  const AttemptKey attempt = StartAttempt(store, TestId(1));
  Reporter reporter;
  reporter.Define(1, "loss");
  absl::Status full;
  int stored = 0;
  v1::WorkerReport refused;
  for (int i = 0; i < 1000 && full.ok(); ++i) {
    refused = reporter.Block({1}, Steps(2000, 2000 * i), Values(2000, i)).Take();
    full = AppendAndWait(store, attempt, refused).status();
    stored += full.ok();
  }
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
  EXPECT_EQ(ReasonOf(full), reason::kStorageFull);
  EXPECT_THAT(std::string(full.message()), HasSubstr("full"));
  EXPECT_GT(stored, 3);
  EXPECT_EQ(AllPoints(store, TestId(1)).size(), 2000u * stored);
  EXPECT_EQ(store.GetAttemptSecrets(attempt)->last_report, stored);
  // Nothing in memory believes in the refused report either.
  EXPECT_EQ(AppendAndWait(store, attempt, refused).status().code(),
            absl::StatusCode::kResourceExhausted);
  store.Close();
  // With more room the same report goes through.
  auto roomier = Store::Open({.data_dir = folder.path()});
  ASSERT_TRUE(roomier.ok());
  EXPECT_TRUE(AppendAndWait(**roomier, attempt, refused).ok());
  EXPECT_EQ(AllPoints(**roomier, TestId(1)).size(), 2000u * (stored + 1));
}

// Files may grow to `bytes` only, for this process, while this lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_ = {};
};

TEST(StoreDurabilityTest, RecoversByItselfOnceTheDiskDoes) {
  TempFolder folder;
  auto opened = Store::Open({.data_dir = folder.path()});
  ASSERT_TRUE(opened.ok()) << opened.status();
  Store& store = **opened;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(CreateAndWait(store, TestJob(TestId(i))).ok());
  }
  EXPECT_TRUE(store.Health().ok());
  {
    // Below what the log has already: not one more frame can be written.
    FileSizeLimit limit(8192);
    const absl::Status failed = CreateAndWait(store, TestJob(TestId(50))).status();
    EXPECT_EQ(failed.code(), absl::StatusCode::kUnavailable) << failed;
    EXPECT_EQ(ReasonOf(failed), reason::kStorageUnavailable);
    EXPECT_FALSE(store.Health().ok());
    EXPECT_EQ(store.ListJobs({}, 100, "")->jobs.size(), 20u);
    EXPECT_TRUE(store.GetJob(TestId(3)).ok());
    EXPECT_EQ(store.CountByState(),
              (std::vector<std::pair<v1::Job::State, int64_t>>{{v1::Job::QUEUED, 20}}));
  }
  // The probe notices without any write of ours.
  const absl::Time deadline = absl::Now() + kDeadline;
  while (!store.Health().ok() && absl::Now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(store.Health().ok()) << store.Health();
  EXPECT_TRUE(CreateAndWait(store, TestJob(TestId(50))).ok());
  EXPECT_EQ(store.ListJobs({}, 100, "")->jobs.size(), 21u);
}

// What of a running job is damaged is what is added to next: its end is stored all the same.
TEST(StoreDurabilityTest, AJobThatCannotBeAddedToIsFailed) {
  TempFolder folder;
  auto opened = Store::Open({.data_dir = folder.path()});
  ASSERT_TRUE(opened.ok()) << opened.status();
  std::unique_ptr<Store> store = *std::move(opened);
  for (const int job : {1, 2, 3, 4, 5}) {
    ASSERT_TRUE(CreateAndWait(*store, TestJob(TestId(job))).ok());
  }
  StartAttempt(*store, TestId(5));
  const AttemptKey attempt = StartAttempt(*store, TestId(1));
  Reporter reporter;
  reporter.Define(1, "loss").Block({1}, Steps(10, 0), Values(10, 0));
  ASSERT_TRUE(AppendAndWait(*store, attempt, reporter.Take()).ok());
  store->Close();
  {
    Connection connection(folder.path() + "/normlab.db", Connection::Mode::kReadWrite, 1000);
    Query(connection,
          "UPDATE records SET payload = zeroblob(length(payload)) WHERE NOT sealed AND job_key = "
          "(SELECT key FROM jobs WHERE id = ?)",
          TestId(1))
        .Run();
    // Of others the row itself.
    Query(connection, "UPDATE jobs SET details = x'ffff' WHERE id IN (?, ?)", TestId(2), TestId(5))
        .Run();
    Query(connection, "UPDATE jobs SET summary = x'ffff', details = x'ffff' WHERE id = ?",
          TestId(3))
        .Run();
  }
  opened = Store::Open({.data_dir = folder.path()});
  ASSERT_TRUE(opened.ok()) << opened.status();
  store = *std::move(opened);
  EXPECT_EQ(store->ActiveJobs().status().code(), absl::StatusCode::kDataLoss);
  std::vector<std::string> damaged;
  const auto active = store->ActiveJobs(&damaged);
  ASSERT_TRUE(active.ok()) << active.status();
  EXPECT_EQ(active->size(), 1u);
  EXPECT_THAT(damaged, ::testing::ElementsAre(TestId(5)));
  // The queue is not read from the rows.
  const auto queue = store->QueuedJobs();
  ASSERT_TRUE(queue.ok()) << queue.status();
  ASSERT_EQ(queue->size(), 3u);
  EXPECT_EQ(queue->front().id, TestId(2));
  // The last record is to be merged with those before it, which cannot be read.
  EXPECT_EQ(AppendAndWait(*store, attempt, reporter.Outcome(v1::Job::SUCCEEDED, 10).Take())
                .status()
                .code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(store->GetJob(TestId(1))->state(), v1::Job::RUNNING);

  v1::Failure failure;
  failure.set_reason(v1::FailureReason::DATA_LOSS);
  failure.set_message("damaged; submit again");
  const int64_t last = store->GetJob(TestId(1))->last_sequence();
  for (const int job : {1, 2, 3}) {
    const auto fail = [&] {
      std::promise<absl::StatusOr<v1::Job>> answer;
      store->FailDamaged(TestId(job), failure, [&answer](absl::StatusOr<v1::Job> result) {
        answer.set_value(std::move(result));
      });
      return answer.get_future().get();
    };
    ASSERT_TRUE(fail().ok());
    EXPECT_EQ(fail().status().code(), absl::StatusCode::kFailedPrecondition);
    const auto stored = store->GetJob(TestId(job));
    ASSERT_TRUE(stored.ok()) << stored.status();
    EXPECT_EQ(stored->state(), v1::Job::FAILED);
    EXPECT_EQ(stored->failure().message(), "damaged; submit again");
    EXPECT_EQ(stored->name(), absl::StrCat("jobs/", TestId(job)));
    EXPECT_EQ(stored->owner(), "local");
  }
  // Watchers of the first get its end, which is the last record, from where they are.
  EXPECT_EQ(store->GetJob(TestId(1))->last_sequence(), last + 1);
  const auto page = store->ReadRecords(TestId(1), last, 1 << 20);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_TRUE(page->terminal);
  ASSERT_EQ(page->batches.size(), 1u);
  EXPECT_EQ(page->batches[0].segments(0).state().failure_reason(), v1::FailureReason::DATA_LOSS);
  EXPECT_EQ(store->CountJobs("local", v1::Job::FAILED), 3);
  EXPECT_EQ(store->CountJobs("local", v1::Job::QUEUED), 1);
  EXPECT_EQ(store->ListJobs({.state = v1::Job::FAILED}, 10, "")->jobs.size(), 3u);
}

// One page of one job's points is overwritten behind our back: that job says DATA_LOSS, health says
// why, everything else is served; after a while without further finds the store counts as whole.
TEST(StoreDurabilityTest, ADamagedChunkIsDataLossForItsJobOnly) {
  TempFolder folder;
  common::FakeClock clock;
  auto opened = Store::Open({.data_dir = folder.path(), .clock = &clock});
  ASSERT_TRUE(opened.ok()) << opened.status();
  Store& store = **opened;
  for (const int job : {1, 2}) {
    ASSERT_TRUE(CreateAndWait(store, TestJob(TestId(job))).ok());
    const AttemptKey attempt = StartAttempt(store, TestId(job));
    Reporter reporter;
    reporter.Define(1, "loss");
    ASSERT_TRUE(AppendAndWait(store, attempt,
                              reporter.Block({1}, Steps(5000, 0), Values(5000, 0))
                                  .Outcome(v1::Job::SUCCEEDED, 5000)
                                  .Take())
                    .ok());
  }
  {
    Connection connection(folder.path() + "/normlab.db", Connection::Mode::kReadWrite, 1000);
    Query(connection,
          "UPDATE records SET payload = zeroblob(length(payload)) WHERE sealed AND job_key = "
          "(SELECT key FROM jobs WHERE id = ?)",
          TestId(1))
        .Run();
  }
  EXPECT_TRUE(store.Health().ok());
  const absl::Status damaged = store.ReadRecords(TestId(1), 0, 1 << 20).status();
  EXPECT_EQ(damaged.code(), absl::StatusCode::kDataLoss) << damaged;
  EXPECT_EQ(store.Health().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(store.Health().message()), HasSubstr("backup"));
  EXPECT_EQ(AllPoints(store, TestId(2)).size(), 5000u);
  EXPECT_TRUE(store.GetJob(TestId(1)).ok());
  EXPECT_EQ(store.ListJobs({}, 10, "")->jobs.size(), 2u);
  EXPECT_EQ(store.Health().code(), absl::StatusCode::kDataLoss);
  clock.Advance(absl::Minutes(2));
  EXPECT_TRUE(store.Health().ok()) << store.Health();
}

// Otherwise an idle server would stay unready after the disk has recovered.
TEST(StoreDurabilityTest, AFailedCheckpointIsRepeatedThoughNothingIsWritten) {
  TempFolder folder;
  const std::string path = folder.path() + "/normlab.db";
  const auto writing = OpenForWriting(path, 0);
  ASSERT_TRUE(writing.ok()) << writing.status();
  Checkpointer checkpointer(OpenForCheckpoints(path));
  const absl::Time deadline = absl::Now() + kDeadline;
  {
    // The tables of the schema, which are in the log, take more.
    FileSizeLimit limit(8192);
    checkpointer.LogGrew(1'000'000);
    while (checkpointer.Health().ok() && absl::Now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_FALSE(checkpointer.Health().ok());
  }
  while (!checkpointer.Health().ok() && absl::Now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(checkpointer.Health().ok()) << checkpointer.Health();
}

TEST(StoreDurabilityTest, TheLogIsCheckpointedWhileWritesGoOn) {
  TempFolder folder;
  auto opened = Store::Open({.data_dir = folder.path()});
  ASSERT_TRUE(opened.ok()) << opened.status();
  Store& store = **opened;
  ASSERT_TRUE(CreateAndWait(store, TestJob(TestId(1))).ok());
  const AttemptKey attempt = StartAttempt(store, TestId(1));
  Reporter reporter;
  reporter.Define(1, "loss");
  constexpr int kRows = 5'000;
  constexpr int kMinReports = 600;
  const std::string log = folder.path() + "/normlab.db-wal";
  // How far the writer gets ahead of the disk depends on the machine; that the log starts over, so that it stays far
  // smaller than what was written, does not.
  const auto log_started_over = [&](int reports) {
    const uint64_t written = uint64_t{sizeof(double)} * kRows * reports;
    return written > 3 * std::filesystem::file_size(log);
  };
  const absl::Time start = absl::Now();
  const absl::Time deadline = start + absl::Seconds(60);
  int reports = 0;
  while (reports < kMinReports || (!log_started_over(reports) && absl::Now() < deadline)) {
    ASSERT_TRUE(
        AppendAndWait(
            store, attempt,
            reporter.Block({1}, Steps(kRows, kRows * reports), Values(kRows, reports)).Take())
            .ok());
    ++reports;
  }
  std::printf("%.0f points/s in reports of %d, one after the other\n",
              reports * kRows / absl::ToDoubleSeconds(absl::Now() - start), kRows);
  EXPECT_TRUE(log_started_over(reports)) << std::filesystem::file_size(log);
  EXPECT_GT(std::filesystem::file_size(folder.path() + "/normlab.db"), 15u << 20);
  store.Close();
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/normlab.db-wal") &&
               std::filesystem::file_size(folder.path() + "/normlab.db-wal") > 0);
}

}  // namespace
}  // namespace normlab::server
