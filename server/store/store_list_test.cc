#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/domain/errors.h"
#include "server/domain/transitions.h"
#include "server/store/list_jobs.h"
#include "server/store/page_token.h"
#include "server/store/schema.h"
#include "server/store/testing/jobs_fixture.h"

namespace normlab::server {
namespace {

using testing::CreateAndWait;
using testing::TestId;
using testing::TestJob;
using StoreListTest = testing::StoreWithJobs;

TEST_F(StoreListTest, ListPagesEveryCombinationOfFiltersNewestFirst) {
  const char* owners[] = {"ann", "ben", "cy"};
  struct Row {
    std::string id, owner, study;
    bool odd;
    absl::Time created;
    v1::Job::State state;
  };
  std::vector<Row> rows;
  for (int i = 0; i < 41; ++i) {
    const std::string study = i % 5 == 0 ? "a" : "b";
    std::map<std::string, std::string> labels = {{"study", study}};
    if (i % 2 == 1) {
      labels["odd"] = "yes";
    }
    Create(i, owners[i % 3], labels);
    rows.insert(rows.begin(), {TestId(i), owners[i % 3], study, i % 2 == 1, clock_.Now(),
                               i % 7 == 0 ? v1::Job::CANCELLED : v1::Job::QUEUED});
    if (i % 7 == 0) {
      ASSERT_TRUE(store_
                      ->UpdateJobAndWait(TestId(i),
                                         [&](v1::Job& job, auto& records) {
                                           return RequestCancel(job, clock_.Now(), records);
                                         })
                      .ok());
    }
  }
  for (int mask = 0; mask < 64; ++mask) {
    JobFilter filter;
    if (mask & 1)
      filter.state = v1::Job::CANCELLED;
    if (mask & 2)
      filter.owner = "ben";
    if (mask & 4)
      filter.labels.emplace_back("study", "b");
    if (mask & 8)
      filter.labels.emplace_back("odd", "yes");
    if (mask & 16)
      filter.created_at_or_after = rows[30].created;
    if (mask & 32)
      filter.created_before = rows[4].created;
    std::vector<std::string> expected;
    for (const Row& row : rows) {
      if ((!(mask & 1) || row.state == v1::Job::CANCELLED) && (!(mask & 2) || row.owner == "ben") &&
          (!(mask & 4) || row.study == "b") && (!(mask & 8) || row.odd) &&
          (!(mask & 16) || row.created >= rows[30].created) &&
          (!(mask & 32) || row.created < rows[4].created)) {
        expected.push_back(row.id);
      }
    }
    for (const int page_size : {1, 3, 1000}) {
      EXPECT_EQ(List(filter, page_size), expected) << mask << " by " << page_size;
    }
  }
}

TEST_F(StoreListTest, JobsOfTheSameInstantArePagedToo) {
  for (int i = 0; i < 7; ++i) {
    ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(i))).ok());
  }
  const std::vector<std::string> ids = List({}, 2);
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), 7u);
  EXPECT_EQ(ids.size(), 7u);
  EXPECT_EQ(ids.front(), TestId(6));
}

TEST_F(StoreListTest, PageTokenIsBoundToItsFilter) {
  for (int i = 0; i < 3; ++i) {
    Create(i, "ann", {{"a", "1"}, {"b", "2"}});
  }
  JobFilter filter;
  filter.labels = {{"a", "1"}, {"b", "2"}};
  const auto page = store_->ListJobs(filter, 1, "");
  ASSERT_TRUE(page.ok());
  ASSERT_FALSE(page->next_page_token.empty());
  JobFilter same;
  same.labels = {{"b", "2"}, {"a", "1"}};
  EXPECT_TRUE(store_->ListJobs(same, 1, page->next_page_token).ok());
  JobFilter other;
  other.labels = {{"a", "1"}};
  for (const auto& [bad_filter, token] :
       {std::pair<JobFilter, std::string>{other, page->next_page_token},
        {filter, "nonsense"},
        {filter, page->next_page_token + "x"}}) {
    EXPECT_EQ(ReasonOf(store_->ListJobs(bad_filter, 1, token).status()), reason::kInvalidPageToken);
  }
}

TEST_F(StoreListTest, AListCallExaminesABoundedNumberOfRows) {
  // Two labels that only the first job has both of.
  for (int i = 0; i < 20; ++i) {
    Create(i, "ann",
           {{"left", i % 2 == 0 ? "x" : "y"}, {"right", i % 2 == 0 && i > 0 ? "y" : "x"}});
  }
  std::unique_ptr<Connection> connection = OpenForReading(folder_.path() + "/normlab.db");
  JobFilter filter;
  filter.labels = {{"left", "x"}, {"right", "x"}};
  std::string token;
  std::vector<std::string> found;
  int calls = 0;
  do {
    const auto page = ListJobPage(*connection, filter, 10, token, /*max_examined=*/3);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const v1::Job& job : page->jobs) {
      found.push_back(job.name());
    }
    token = page->next_page_token;
    ++calls;
  } while (!token.empty());
  EXPECT_EQ(calls, 4);
  EXPECT_EQ(found, std::vector<std::string>{"jobs/" + TestId(0)});
}

TEST_F(StoreListTest, AListOfOneOwnerComesAcrossNoOthersRows) {
  // ann's three lie between many of bob's, all with the same label; the experiment is bob's.
  for (int i = 0; i < 40; ++i) {
    v1::Job job = TestJob(TestId(i), i == 5 || i == 17 || i == 30 ? "ann" : "bob");
    (*job.mutable_labels())["study"] = "x";
    (*job.mutable_labels())["half"] = i % 2 == 0 ? "even" : "odd";
    job.set_experiment(job.owner() == "bob" ? "experiments/bobs" : "");
    clock_.Advance(absl::Seconds(1));
    ASSERT_TRUE(CreateAndWait(*store_, job).ok());
  }
  std::unique_ptr<Connection> connection = OpenForReading(folder_.path() + "/normlab.db");
  JobFilter filter;
  filter.owner = "ann";
  // Fewer rows than bob has before, between and after them: the limit must not be felt.
  const auto ids = [&](const JobFilter& asked) {
    const auto page = ListJobPage(*connection, asked, 10, "", /*max_examined=*/3);
    EXPECT_TRUE(page.ok()) << page.status();
    EXPECT_EQ(page->next_page_token, "");
    std::vector<std::string> names;
    for (const v1::Job& job : page->jobs) {
      names.push_back(job.name());
    }
    return names;
  };
  const std::vector<std::string> anns = {"jobs/" + TestId(30), "jobs/" + TestId(17),
                                         "jobs/" + TestId(5)};
  EXPECT_EQ(ids(filter), anns);
  filter.labels = {{"study", "x"}};
  EXPECT_EQ(ids(filter), anns);
  filter.state = v1::Job::QUEUED;
  EXPECT_EQ(ids(filter), anns);
  filter.labels = {{"study", "x"}, {"half", "odd"}};
  EXPECT_EQ(ids(filter), (std::vector<std::string>{anns[1], anns[2]}));
  filter = {};
  filter.owner = "ann";
  filter.experiment = "experiments/bobs";
  EXPECT_TRUE(ids(filter).empty());
}

TEST_F(StoreListTest, MadeUpPageTokensShowNothingOfOthers) {
  for (int i = 0; i < 12; ++i) {
    Create(i, i % 3 == 0 ? "ann" : "bob", {{"study", "x"}});
  }
  JobFilter filter;
  filter.owner = "ann";
  filter.labels = {{"study", "x"}};
  const auto page = store_->ListJobs(filter, 1, "");
  ASSERT_TRUE(page.ok());
  std::string text;
  ASSERT_TRUE(absl::WebSafeBase64Unescape(page->next_page_token, &text));
  const std::string list = text.substr(text.rfind(' ') + 1);
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  for (const int64_t time : {kMin, int64_t{-1}, int64_t{0}, kMax}) {
    for (const int64_t key : {kMin, int64_t{-1}, int64_t{0}, int64_t{5}, kMax}) {
      const auto listed = store_->ListJobs(filter, 100, MakePageToken({time, key}, list));
      ASSERT_TRUE(listed.ok()) << listed.status();
      EXPECT_EQ(listed->jobs.size(), time == kMax ? 4u : 0u);
      for (const v1::Job& job : listed->jobs) {
        EXPECT_EQ(job.owner(), "ann");
      }
    }
  }
  // Bob's token is not one of ann's list, nor is anything else.
  JobFilter bobs = filter;
  bobs.owner = "bob";
  const auto other = store_->ListJobs(bobs, 1, "");
  ASSERT_TRUE(other.ok());
  const std::string one = absl::WebSafeBase64Escape(absl::StrCat("1 5 5 ", list));
  ASSERT_TRUE(store_->ListJobs(filter, 1, one).ok());
  for (const std::string& token :
       {other->next_page_token, one + "A", "=" + one, one.substr(1), std::string("\0", 1) + one,
        std::string(1 << 20, 'A'), absl::WebSafeBase64Escape(absl::StrCat("2 5 5 ", list)),
        absl::WebSafeBase64Escape(absl::StrCat("1 5 5 5 ", list)),
        absl::WebSafeBase64Escape(absl::StrCat("1  5 ", list)),
        absl::WebSafeBase64Escape(absl::StrCat("1 9223372036854775808 5 ", list)),
        absl::WebSafeBase64Escape("1 5 5 "),
        absl::WebSafeBase64Escape(absl::StrCat("1 5 5 ", list, std::string("\0", 1)))}) {
    EXPECT_EQ(ReasonOf(store_->ListJobs(filter, 1, token).status()), reason::kInvalidPageToken)
        << token.substr(0, 80);
  }
}

TEST_F(StoreListTest, TheRarestLabelIsWalkedAndExperimentsAreFound) {
  for (int i = 0; i < 20; ++i) {
    v1::Job job = TestJob(TestId(i), i % 2 == 0 ? "ann" : "bob");
    (*job.mutable_labels())["common"] = "x";
    (*job.mutable_labels())["rare"] = i == 3 ? "yes" : "no";
    job.set_experiment(i < 5 ? "experiments/one" : i < 7 ? "experiments/two" : "");
    clock_.Advance(absl::Seconds(1));
    ASSERT_TRUE(CreateAndWait(*store_, job).ok());
  }
  std::unique_ptr<Connection> connection = OpenForReading(folder_.path() + "/normlab.db");
  JobFilter filter;
  filter.labels = {{"common", "x"}, {"rare", "yes"}};
  // One row is enough, whichever label stands first.
  const auto page = ListJobPage(*connection, filter, 10, "", /*max_examined=*/1);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->jobs.size(), 1u);
  EXPECT_EQ(page->jobs[0].name(), "jobs/" + TestId(3));
  JobFilter by_experiment;
  by_experiment.experiment = "experiments/one";
  EXPECT_EQ(List(by_experiment, 2),
            (std::vector<std::string>{TestId(4), TestId(3), TestId(2), TestId(1), TestId(0)}));
  by_experiment.owner = "bob";
  EXPECT_EQ(List(by_experiment, 1), (std::vector<std::string>{TestId(3), TestId(1)}));
  by_experiment.owner.reset();
  by_experiment.labels = {{"rare", "yes"}};
  EXPECT_EQ(List(by_experiment, 10), std::vector<std::string>{TestId(3)});
  by_experiment.experiment = "experiments/two";
  EXPECT_TRUE(List(by_experiment, 10).empty());
}

// An administrator or NTP moves the wall clock: pages stay exact, nothing is lost or doubled.
TEST_F(StoreListTest, JumpsOfTheWallClockLeavePagesExact) {
  std::set<std::string> made;
  for (int i = 0; i < 30; ++i) {
    if (i == 10) {
      clock_.JumpWallClock(absl::Hours(1));
    } else if (i == 20) {
      clock_.JumpWallClock(-absl::Hours(2));
    }
    Create(i, "ann", {});
    made.insert(TestId(i));
  }
  for (const int page_size : {1, 7, 30}) {
    const std::vector<std::string> listed = List({}, page_size);
    EXPECT_EQ(listed.size(), made.size());
    EXPECT_EQ(std::set<std::string>(listed.begin(), listed.end()), made);
  }
}

// What gRPC's clients take by default is 4 MiB, which a thousand jobs with results may exceed.
TEST_F(StoreListTest, PagesAreBoundedInBytes) {
  constexpr int kJobs = 23;
  std::vector<std::string> expected;
  for (int i = 0; i < kJobs; ++i) {
    Create(i, "ann", {{"long", std::string(300'000, 'x')}});
    expected.insert(expected.begin(), "jobs/" + TestId(i));
  }
  std::vector<std::string> found;
  std::string token;
  int calls = 0;
  do {
    const auto page = store_->ListJobs({}, 1000, token);
    ASSERT_TRUE(page.ok()) << page.status();
    size_t bytes = 0;
    for (const v1::Job& job : page->jobs) {
      found.push_back(job.name());
      bytes += job.ByteSizeLong();
    }
    EXPECT_LE(bytes, kMaxPageBytes);
    EXPECT_FALSE(page->jobs.empty());
    token = page->next_page_token;
  } while (!token.empty() && ++calls < kJobs);
  EXPECT_EQ(found, expected);
}

TEST_F(StoreListTest, ChangedLabelsAreFoundAndOldOnesNot) {
  Create(1, "ann", {{"a", "old"}});
  ASSERT_TRUE(store_
                  ->UpdateJobAndWait(TestId(1),
                                     [](v1::Job& job, auto&) {
                                       (*job.mutable_labels())["a"] = "new";
                                       return absl::OkStatus();
                                     })
                  .ok());
  JobFilter filter;
  filter.labels = {{"a", "new"}};
  EXPECT_EQ(List(filter, 5).size(), 1u);
  filter.labels = {{"a", "old"}};
  EXPECT_EQ(List(filter, 5).size(), 0u);
}

}  // namespace
}  // namespace normlab::server
