// Databases of every earlier schema, made by the stores of their time (testdata/), opened by today's.
#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/clock.h"
#include "server/store/connection.h"
#include "server/store/schema.h"
#include "server/store/store.h"
#include "server/store/testing/harness.h"
#include "server/store/testing/jobs_of_all_versions.h"

namespace normlab::server {
namespace {

using testing::AllPoints;
using testing::AllRecords;
using testing::AppendAndWait;
using testing::CreateAndWait;
using ::testing::HasSubstr;
using testing::MakeJobsOfAllVersions;
using testing::Reporter;
using testing::StartAttempt;
using testing::TempFolder;
using testing::TestId;
using testing::TestJob;

constexpr int kJobs = 4;

std::string DumpOf(int version) {
  std::ifstream file(absl::StrCat(NORMLAB_STORE_TESTDATA, "/schema-", version, ".sql"));
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Every table, index and column, as a fresh database and an upgraded one must have them.
std::vector<std::string> SchemaOf(const std::string& folder) {
  Connection connection(folder + "/normlab.db", Connection::Mode::kReadOnly, kBusyTimeoutMs);
  std::vector<std::string> schema;
  Query query(connection,
              "SELECT type, name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE "
              "'sqlite_stat%' ORDER BY type, name");
  while (query.Step()) {
    std::string sql = query.Text(2);
    // A dump may break lines elsewhere.
    std::string compact;
    for (const char c : sql) {
      if (!absl::ascii_isspace(static_cast<unsigned char>(c))) {
        compact += c;
      }
    }
    schema.push_back(absl::StrCat(query.Text(0), " ", query.Text(1), " ", compact));
  }
  schema.push_back(
      absl::StrCat("version ", connection.database().execAndGet("PRAGMA user_version").getInt()));
  return schema;
}

class StoreUpgradeTest : public ::testing::TestWithParam<int> {
 protected:
  StoreUpgradeTest() {
    Connection connection(old_.path() + "/normlab.db", Connection::Mode::kCreate, kBusyTimeoutMs);
    connection.Execute(DumpOf(GetParam()).c_str());
    version_ = connection.database().execAndGet("PRAGMA user_version").getInt();
  }
  absl::StatusOr<std::unique_ptr<Store>> Open(const TempFolder& folder) {
    return Store::Open({.data_dir = folder.path(), .clock = &clock_});
  }

  const common::FakeClock clock_;
  TempFolder old_;
  TempFolder fresh_;
  int version_ = 0;
};

TEST_P(StoreUpgradeTest, EveryJobPointAndAttemptIsThere) {
  ASSERT_EQ(version_, GetParam()) << "testdata is of that version";
  auto old = Open(old_);
  ASSERT_TRUE(old.ok()) << old.status();
  auto fresh = Open(fresh_);
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  MakeJobsOfAllVersions(**fresh);
  for (int i = 1; i <= kJobs; ++i) {
    const std::string id = TestId(i);
    const auto upgraded = (*old)->GetJob(id);
    ASSERT_TRUE(upgraded.ok()) << upgraded.status();
    const v1::Job expected = *(*fresh)->GetJob(id);
    EXPECT_EQ(upgraded->state(), expected.state()) << id;
    EXPECT_EQ(upgraded->owner(), expected.owner()) << id;
    EXPECT_EQ(upgraded->display_name(), expected.display_name()) << id;
    EXPECT_EQ(upgraded->labels_size(), expected.labels_size()) << id;
    EXPECT_EQ(upgraded->spec().SerializeAsString(), expected.spec().SerializeAsString()) << id;
    EXPECT_EQ(upgraded->attempts_size(), expected.attempts_size()) << id;
    EXPECT_EQ(upgraded->result().steps(), expected.result().steps()) << id;
    EXPECT_EQ(upgraded->failure().reason(), expected.failure().reason()) << id;
    EXPECT_EQ(upgraded->create_time().seconds(), expected.create_time().seconds()) << id;
    const auto before = AllPoints(**old, id);
    const auto after = AllPoints(**fresh, id);
    ASSERT_EQ(before.size(), after.size()) << id;
    for (size_t p = 0; p < before.size(); ++p) {
      EXPECT_EQ(before[p].sequence, after[p].sequence);
      EXPECT_EQ(before[p].series, after[p].series);
      EXPECT_EQ(before[p].step, after[p].step);
      // Bit for bit, NaN included.
      EXPECT_EQ(std::memcmp(&before[p].value, &after[p].value, sizeof(double)), 0) << p;
    }
    const auto attempt = (*old)->GetAttemptSecrets({id, 1});
    const auto expected_attempt = (*fresh)->GetAttemptSecrets({id, 1});
    ASSERT_EQ(attempt.ok(), expected_attempt.ok()) << attempt.status();
    if (attempt.ok()) {
      EXPECT_EQ(attempt->secret_sha256, expected_attempt->secret_sha256);
      EXPECT_EQ(attempt->last_report, expected_attempt->last_report);
    }
    if (expected.state() == v1::Job::FAILED) {
      continue;  // what is logged of a failure was another sentence then
    }
    const auto logs = (*old)->ReadLogs(id, 0, 1 << 20);
    const auto expected_logs = (*fresh)->ReadLogs(id, 0, 1 << 20);
    ASSERT_TRUE(logs.ok()) << logs.status();
    ASSERT_EQ(logs->entries.size(), expected_logs->entries.size()) << id;
    for (size_t l = 0; l < logs->entries.size(); ++l) {
      EXPECT_EQ(logs->entries[l].line.text(), expected_logs->entries[l].line.text());
    }
  }
  EXPECT_EQ((*old)->CountByState(), (*fresh)->CountByState());
  // What a scheduler starts from has columns of its own since schema 5.
  const auto queue = (*old)->QueuedJobs();
  const auto expected_queue = (*fresh)->QueuedJobs();
  ASSERT_TRUE(queue.ok()) << queue.status();
  ASSERT_FALSE(queue->empty());
  ASSERT_EQ(queue->size(), expected_queue->size());
  for (size_t q = 0; q < queue->size(); ++q) {
    EXPECT_EQ((*queue)[q].id, (*expected_queue)[q].id);
    EXPECT_EQ((*queue)[q].owner, (*expected_queue)[q].owner);
    EXPECT_EQ((*queue)[q].cores, (*expected_queue)[q].cores);
    EXPECT_EQ((*queue)[q].memory_bytes, (*expected_queue)[q].memory_bytes);
    EXPECT_EQ((*queue)[q].queue_time, (*expected_queue)[q].queue_time);
    EXPECT_GT((*queue)[q].bytes, 0);
  }
  EXPECT_EQ((*old)->CountJobs("ann", v1::Job::RUNNING), 1);
}

// What later schemas added indexes, columns and counts for works on what was there before them.
TEST_P(StoreUpgradeTest, ListsCurvesRequestsAndWorkersGoOn) {
  auto store = Open(old_);
  ASSERT_TRUE(store.ok()) << store.status();
  const auto ids = [&](const JobFilter& filter) {
    std::vector<std::string> names;
    const absl::StatusOr<JobPage> page = (*store)->ListJobs(filter, 100, "");
    EXPECT_TRUE(page.ok()) << page.status();
    for (const v1::Job& job : page->jobs) {
      names.push_back(job.name());
    }
    std::sort(names.begin(), names.end());
    return names;
  };
  using ::testing::ElementsAre;
  EXPECT_EQ(ids({}).size(), static_cast<size_t>(kJobs));
  EXPECT_THAT(ids({.owner = "ann", .labels = {{"study", "upgrade"}}}),
              ElementsAre("jobs/" + TestId(2)));
  EXPECT_THAT(ids({.state = v1::Job::SUCCEEDED, .labels = {{"study", "upgrade"}, {"cell", "1"}}}),
              ElementsAre("jobs/" + TestId(1)));
  EXPECT_FALSE(
      CreateAndWait(**store, TestJob(TestId(9)), "request-1", std::string(32, 'h'))->created)
      << "the request id is known";
  size_t points = 0;
  double least = 1e9;
  ASSERT_TRUE(
      (*store)
          ->ReadMetrics(
              {.job_id = TestId(1), .series = {"train/loss"}, .max_points = 10},
              [&](const std::string&, absl::Span<const int64_t>, absl::Span<const double> values) {
                points += values.size();
                least = std::min(least, *std::min_element(values.begin(), values.end()));
                return true;
              })
          .ok());
  EXPECT_LE(points, 10u);
  EXPECT_EQ(least, -13.0) << "min/max-preserving over what was stored before summaries were";
  // A worker that was running goes on with its next report, and the job can end.
  Reporter reporter(2);
  ASSERT_TRUE(
      AppendAndWait(**store, {TestId(2), 1}, reporter.Block({1}, {5, 6}, {4, 3.5}).Take()).ok());
  ASSERT_TRUE(
      AppendAndWait(**store, {TestId(2), 1}, reporter.Outcome(v1::Job::SUCCEEDED, 7).Take()).ok());
  EXPECT_EQ(AllPoints(**store, TestId(2)).size(), 7u);
  StartAttempt(**store, TestId(3));
  EXPECT_TRUE((*store)->DeleteJobAndWait(TestId(1)).ok());
  EXPECT_TRUE((*store)->Maintain().ok());
  EXPECT_EQ(ids({}).size(), static_cast<size_t>(kJobs - 1));
}

TEST_P(StoreUpgradeTest, TheSchemaIsThatOfANewDatabase) {
  { ASSERT_TRUE(Open(old_).ok()); }
  { ASSERT_TRUE(Open(fresh_).ok()); }
  EXPECT_EQ(SchemaOf(old_.path()), SchemaOf(fresh_.path()));
  // Once up to date it stays so.
  { ASSERT_TRUE(Open(old_).ok()); }
  EXPECT_EQ(SchemaOf(old_.path()), SchemaOf(fresh_.path()));
}

INSTANTIATE_TEST_SUITE_P(Schemas,
                         StoreUpgradeTest,
                         ::testing::Range(1, SchemaVersion()),
                         ::testing::PrintToStringParamName());

TEST(StoreDowngradeTest, ANewerSchemaIsRefusedWithWhatToDo) {
  TempFolder folder;
  { ASSERT_TRUE(Store::Open({.data_dir = folder.path()}).ok()); }
  {
    Connection connection(folder.path() + "/normlab.db", Connection::Mode::kReadWrite,
                          kBusyTimeoutMs);
    connection.Execute(absl::StrCat("PRAGMA user_version = ", SchemaVersion() + 1).c_str());
  }
  const auto refused = Store::Open({.data_dir = folder.path()});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr(absl::StrCat("schema version ", SchemaVersion() + 1)));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("run the newer normlabd"));
}

}  // namespace
}  // namespace normlab::server
