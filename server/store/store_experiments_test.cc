#include <cmath>
#include <cstdio>
#include <future>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/domain/experiment_errors.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"
#include "server/domain/transitions.h"
#include "server/store/testing/harness.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TestId;

constexpr auto kAll = ExperimentStore::Parts::kAll;
constexpr auto kWithoutCells = ExperimentStore::Parts::kWithoutCells;

class StoreExperimentsTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(); }

  void Open(absl::Duration retention = absl::InfiniteDuration()) {
    auto store =
        Store::Open({.data_dir = folder_.path(), .retention = retention, .clock = &clock_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  void Reopen(absl::Duration retention = absl::InfiniteDuration()) {
    store_ = nullptr;
    Open(retention);
  }

  // Of `cells` cells and `seeds` seeds; its jobs' ids count from number * 100,000.
  static std::pair<v1::Experiment, std::vector<v1::Job>> Make(int number,
                                                              int cells,
                                                              int seeds,
                                                              const std::string& owner = "local") {
    v1::Experiment experiment;
    experiment.set_name(ExperimentName(TestId(number)));
    experiment.set_owner(owner);
    experiment.set_display_name(absl::StrCat("experiment ", number));
    experiment.mutable_base()->mutable_model()->mutable_mlp()->add_hidden(7);
    std::vector<v1::Job> jobs;
    for (int c = 0; c < cells; ++c) {
      v1::Cell& cell = *experiment.add_cells();
      (*cell.mutable_values())["batch_size"] = absl::StrCat(c + 1);
      for (int s = 0; s < seeds; ++s) {
        v1::Job job = testing::TestJob(TestId(number * 100'000 + c * seeds + s), owner);
        job.set_experiment(experiment.name());
        (*job.mutable_labels())["batch_size"] = absl::StrCat(c + 1);
        cell.add_jobs(job.name());
        jobs.push_back(std::move(job));
      }
    }
    return {std::move(experiment), std::move(jobs)};
  }

  absl::StatusOr<ExperimentStore::CreateResult> Create(v1::Experiment experiment,
                                                       std::vector<v1::Job> jobs,
                                                       const std::string& request_id = "",
                                                       const std::string& sha256 = "") {
    std::promise<absl::StatusOr<ExperimentStore::CreateResult>> answer;
    const auto job = [&jobs](size_t position) { return std::move(jobs[position]); };
    store_->experiments().Create(std::move(experiment), jobs.size(), job, request_id, sha256,
                                 [&](absl::StatusOr<ExperimentStore::CreateResult> result) {
                                   answer.set_value(std::move(result));
                                 });
    return answer.get_future().get();
  }
  v1::Experiment MustCreate(int number, int cells, int seeds, const std::string& owner = "local") {
    auto [experiment, jobs] = Make(number, cells, seeds, owner);
    auto created = Create(std::move(experiment), std::move(jobs));
    EXPECT_TRUE(created.ok()) << created.status();
    return created.ok() ? created->experiment : v1::Experiment();
  }

  void Cancel(int job) {
    const auto cancelled = store_->UpdateJobAndWait(
        TestId(job), [this](v1::Job& stored, std::vector<v1::Segment>& records) {
          return RequestCancel(stored, clock_.Now(), records);
        });
    EXPECT_TRUE(cancelled.ok()) << cancelled.status();
  }
  // Runs a job to its end with these last values.
  void Finish(int job, v1::Job::State state, const std::map<std::string, double>& values) {
    const AttemptKey attempt = testing::StartAttempt(*store_, TestId(job));
    testing::Reporter reporter;
    uint32_t id = 0;
    for (const auto& [name, value] : values) {
      reporter.Define(++id, name).Block({id}, {3, 8}, {value + 1, value});
    }
    reporter.Outcome(state, 9);
    const auto stored = testing::AppendAndWait(*store_, attempt, reporter.Take());
    EXPECT_TRUE(stored.ok()) << stored.status();
  }
  v1::Experiment Get(int number) {
    const auto stored = store_->experiments().Get(TestId(number), kAll);
    EXPECT_TRUE(stored.ok()) << stored.status();
    return stored.ok() ? stored->experiment : v1::Experiment();
  }
  std::vector<std::string> List(const std::optional<std::string>& owner, int page_size) {
    std::vector<std::string> names;
    std::string token;
    do {
      const auto page = store_->experiments().List(owner, page_size, token);
      EXPECT_TRUE(page.ok()) << page.status();
      if (!page.ok()) {
        break;
      }
      EXPECT_LE(page->experiments.size(), static_cast<size_t>(page_size));
      for (const v1::Experiment& experiment : page->experiments) {
        EXPECT_EQ(experiment.cells_size(), 0);
        names.push_back(experiment.name());
      }
      token = page->next_page_token;
    } while (!token.empty());
    return names;
  }
  int64_t JobsIn(const std::string& experiment) {
    const auto page = store_->ListJobs({.experiment = experiment}, 1000, "");
    EXPECT_TRUE(page.ok()) << page.status();
    return page.ok() ? static_cast<int64_t>(page->jobs.size()) : -1;
  }

  testing::TempFolder folder_;
  common::FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  std::unique_ptr<Store> store_;
};

TEST_F(StoreExperimentsTest, StoresExperimentAndJobsTogether) {
  const v1::Experiment created = MustCreate(1, 2, 3);
  EXPECT_EQ(created.counts().queued(), 6);
  EXPECT_EQ(created.cells(1).counts().queued(), 3);
  Reopen();
  const v1::Experiment stored = Get(1);
  EXPECT_EQ(stored.SerializeAsString(), created.SerializeAsString());
  EXPECT_EQ(stored.display_name(), "experiment 1");
  EXPECT_EQ(FromTimestamp(stored.create_time()), clock_.Now());
  EXPECT_FALSE(stored.has_end_time());
  EXPECT_EQ(JobsIn(stored.name()), 6);
  // Jobs like any other: with their first record, countable, found by label.
  const auto job = store_->GetJob(TestId(100'004));
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->state(), v1::Job::QUEUED);
  EXPECT_EQ(job->experiment(), stored.name());
  EXPECT_EQ(job->last_sequence(), 1);
  const v1::RecordBatch records = testing::AllRecords(*store_, TestId(100'004));
  ASSERT_EQ(records.segments_size(), 1);
  EXPECT_EQ(records.segments(0).state().state(), v1::Job::QUEUED);
  EXPECT_EQ(store_->CountJobs("local", v1::Job::QUEUED), 6);
  const auto labelled = store_->ListJobs({.labels = {{"batch_size", "2"}}}, 100, "");
  ASSERT_TRUE(labelled.ok());
  EXPECT_EQ(labelled->jobs.size(), 3u);
  // And such as single ones keep being possible.
  EXPECT_TRUE(testing::CreateAndWait(*store_, testing::TestJob(TestId(7))).ok());
}

TEST_F(StoreExperimentsTest, AllOrNothing) {
  ASSERT_TRUE(testing::CreateAndWait(*store_, testing::TestJob(TestId(100'005))).ok());
  auto [experiment, jobs] = Make(1, 2, 3);
  const auto refused = Create(experiment, jobs);
  EXPECT_EQ(ReasonOf(refused.status()), reason::kJobIdTaken);
  EXPECT_EQ(ReasonOf(store_->experiments().Get(TestId(1), kAll).status()),
            reason::kExperimentNotFound);
  EXPECT_EQ(JobsIn(experiment.name()), 0);
  EXPECT_EQ(store_->CountJobs("local", v1::Job::QUEUED), 1);
  jobs.back().set_name("jobs/../x");
  EXPECT_TRUE(absl::IsInvalidArgument(Create(experiment, jobs).status()));
}

TEST_F(StoreExperimentsTest, RequestIdMakesOneExperiment) {
  auto [first, first_jobs] = Make(1, 2, 1);
  ASSERT_TRUE(Create(first, first_jobs, "r", "hash")->created);
  auto [again, again_jobs] = Make(2, 2, 1);
  const auto repeated = Create(again, again_jobs, "r", "hash");
  ASSERT_TRUE(repeated.ok()) << repeated.status();
  EXPECT_FALSE(repeated->created);
  EXPECT_EQ(repeated->experiment.name(), first.name());
  EXPECT_EQ(repeated->experiment.cells_size(), 2);
  EXPECT_EQ(store_->CountJobs("local", v1::Job::QUEUED), 2);
  Reopen();
  const auto found = store_->experiments().FindRequest("local", "r", "hash");
  ASSERT_TRUE(found.ok() && found->has_value());
  EXPECT_EQ((*found)->name(), first.name());
  EXPECT_EQ(*store_->experiments().FindRequest("other", "r", "hash"), std::nullopt);
  const auto other = Create(again, again_jobs, "r", "another hash");
  EXPECT_EQ(ReasonOf(other.status()), reason::kRequestIdReused);
  EXPECT_THAT(other.status().message(), HasSubstr(first.name()));
  // The ids of jobs are others.
  EXPECT_TRUE(testing::CreateAndWait(*store_, testing::TestJob(TestId(7)), "r", "x")->created);
}

TEST_F(StoreExperimentsTest, TenThousandJobsDoNotHoldOthersUpForLong) {
  auto [experiment, jobs] = Make(1, 5000, 2);
  std::promise<absl::Status> stored;
  const auto job = [&all = jobs](size_t position) { return std::move(all[position]); };
  store_->experiments().Create(std::move(experiment), jobs.size(), job, "", "",
                               [&](const absl::StatusOr<ExperimentStore::CreateResult>& result) {
                                 stored.set_value(result.status());
                               });
  // Queued behind it, as a worker's report would be.
  const absl::Time start = absl::Now();
  std::promise<absl::Status> behind;
  store_->SaveUsage({{.owner = "ada", .core_seconds = 1, .as_of = clock_.Now()}},
                    [&](const absl::Status& status) { behind.set_value(status); });
  EXPECT_TRUE(behind.get_future().get().ok());
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  EXPECT_TRUE(stored.get_future().get().ok());
  std::printf("a write behind the creation of 10000 jobs waited %.2f s\n", seconds);
  // Half a second on a machine that does nothing else; a worker keeps minutes of reports meanwhile.
  EXPECT_LT(seconds, 10);
  EXPECT_EQ(store_->CountJobs("local", v1::Job::QUEUED), 10'000);
  const absl::Time looked = absl::Now();
  EXPECT_EQ(Get(1).counts().queued(), 10'000);
  std::printf("its state takes %.1f ms\n", absl::ToDoubleMilliseconds(absl::Now() - looked));
}

TEST_F(StoreExperimentsTest, CountsFollowTheJobs) {
  MustCreate(1, 2, 2);
  clock_.Advance(absl::Seconds(5));
  Cancel(100'000);
  Finish(100'001, v1::Job::SUCCEEDED, {{"train/loss", 0.5}});
  testing::StartAttempt(*store_, TestId(100'002));
  v1::Experiment experiment = Get(1);
  EXPECT_EQ(experiment.counts().cancelled(), 1);
  EXPECT_EQ(experiment.counts().succeeded(), 1);
  EXPECT_EQ(experiment.counts().running(), 1);
  EXPECT_EQ(experiment.counts().queued(), 1);
  EXPECT_EQ(experiment.cells(0).counts().succeeded(), 1);
  EXPECT_EQ(experiment.cells(0).counts().queued(), 0);
  EXPECT_EQ(experiment.cells(1).counts().running(), 1);
  EXPECT_FALSE(experiment.has_end_time());
  const auto without = store_->experiments().Get(TestId(1), kWithoutCells);
  EXPECT_EQ(without->experiment.cells_size(), 0);
  EXPECT_THAT(without->states, ElementsAre(v1::Job::CANCELLED, v1::Job::SUCCEEDED, v1::Job::RUNNING,
                                           v1::Job::QUEUED));
}

TEST_F(StoreExperimentsTest, EndsWithItsLastJob) {
  MustCreate(1, 1, 2);
  Cancel(100'001);
  EXPECT_FALSE(Get(1).has_end_time());
  clock_.Advance(absl::Seconds(7));
  Cancel(100'000);
  EXPECT_EQ(FromTimestamp(Get(1).end_time()), clock_.Now());
}

TEST_F(StoreExperimentsTest, PausedJobsKeepItOpen) {
  MustCreate(1, 1, 1);
  ASSERT_TRUE(store_
                  ->UpdateJobAndWait(TestId(100'000),
                                     [&](v1::Job& job, std::vector<v1::Segment>& records) {
                                       return RequestPause(job, clock_.Now(), records);
                                     })
                  .ok());
  EXPECT_EQ(Get(1).counts().paused(), 1);
  EXPECT_FALSE(Get(1).has_end_time());
}

TEST_F(StoreExperimentsTest, TellsWatchersOfStates) {
  std::vector<std::pair<std::string, bool>> news;
  store_->SetCommitListener([&](const std::string& id, int64_t, bool terminal) {
    if (absl::StartsWith(id, "experiments/")) {
      news.emplace_back(id, terminal);
    }
  });
  const std::string name = MustCreate(1, 1, 2).name();
  Cancel(100'000);
  EXPECT_THAT(news, ElementsAre(std::pair(name, false)));
  ASSERT_TRUE(store_->DeleteJobAndWait(TestId(100'000)).ok());
  EXPECT_EQ(news.size(), 2u);
  Cancel(100'001);
  ASSERT_TRUE(store_->experiments().DeleteAndWait(TestId(1)).ok());
  EXPECT_EQ(news.back(), std::pair(name, true));
  store_->SetCommitListener(nullptr);
}

TEST_F(StoreExperimentsTest, ReadsLastValuesByPosition) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  MustCreate(1, 2, 2);
  MustCreate(2, 1, 1);
  Finish(100'000, v1::Job::SUCCEEDED, {{"train/loss", 0.5}, {"test/accuracy", 0.75}});
  Finish(100'001, v1::Job::DIVERGED, {{"train/loss", nan}});
  Finish(100'003, v1::Job::SUCCEEDED, {{"test/accuracy", 0.25}});
  const auto results =
      store_->experiments().ReadResults(TestId(1), {"test/accuracy", "train/loss"}, 0, 100);
  ASSERT_TRUE(results.ok()) << results.status();
  ASSERT_EQ(results->size(), 4u);
  EXPECT_EQ((*results)[0].state, v1::Job::SUCCEEDED);
  EXPECT_THAT((*results)[0].last_values, ElementsAre(0.75, 0.5));
  EXPECT_EQ((*results)[1].state, v1::Job::DIVERGED);
  EXPECT_TRUE(std::isnan((*results)[1].last_values[1]));
  EXPECT_EQ((*results)[2].state, v1::Job::QUEUED);
  EXPECT_TRUE(std::isnan((*results)[2].last_values[0]));
  EXPECT_EQ((*results)[3].last_values[0], 0.25);
  EXPECT_TRUE(std::isnan((*results)[3].last_values[1]));
  // In slices; a deleted job leaves a gap.
  ASSERT_TRUE(store_->DeleteJobAndWait(TestId(100'001)).ok());
  const auto slice = store_->experiments().ReadResults(TestId(1), {"train/loss"}, 1, 1);
  ASSERT_EQ(slice->size(), 1u);
  EXPECT_EQ((*slice)[0].position, 2);
  EXPECT_THAT(*store_->experiments().ReadResults(TestId(1), {}, 4, 100), IsEmpty());
  EXPECT_THAT(store_->experiments().Get(TestId(1), kAll)->states,
              ElementsAre(v1::Job::SUCCEEDED, v1::Job::STATE_UNSPECIFIED, v1::Job::QUEUED,
                          v1::Job::SUCCEEDED));
}

TEST_F(StoreExperimentsTest, ListsNewestFirstByOwner) {
  std::vector<std::string> ada;
  std::vector<std::string> all;
  for (int i = 1; i <= 5; ++i) {
    const bool is_ada = i % 2 == 1;
    const std::string name = MustCreate(i, 1, 1, is_ada ? "ada" : "bob").name();
    all.insert(all.begin(), name);
    if (is_ada) {
      ada.insert(ada.begin(), name);
    }
    if (i != 3) {  // two of them at one time
      clock_.Advance(absl::Seconds(1));
    }
  }
  EXPECT_EQ(List(std::nullopt, 2), all);
  EXPECT_EQ(List(std::nullopt, 5), all);
  EXPECT_EQ(List("ada", 1), ada);
  EXPECT_THAT(List("eve", 10), IsEmpty());
  const auto page = store_->experiments().List(std::nullopt, 2, "");
  EXPECT_EQ(ReasonOf(store_->experiments().List("ada", 2, page->next_page_token).status()),
            reason::kInvalidPageToken);
  EXPECT_EQ(ReasonOf(store_->experiments().List(std::nullopt, 2, "x").status()),
            reason::kInvalidPageToken);
}

TEST_F(StoreExperimentsTest, DeletesOnlyWhatHasEnded) {
  const std::string name = MustCreate(1, 1, 3).name();
  Cancel(100'000);
  const absl::Status refused = store_->experiments().DeleteAndWait(TestId(1));
  EXPECT_EQ(ReasonOf(refused), reason::kExperimentUnfinished);
  EXPECT_THAT(refused.message(), HasSubstr("2 jobs"));
  EXPECT_EQ(JobsIn(name), 3);
  Cancel(100'001);
  ASSERT_TRUE(store_
                  ->UpdateJobAndWait(TestId(100'002),
                                     [&](v1::Job& job, std::vector<v1::Segment>& records) {
                                       return RequestPause(job, clock_.Now(), records);
                                     })
                  .ok());
  ASSERT_TRUE(store_->experiments().DeleteAndWait(TestId(1)).ok());
  EXPECT_EQ(JobsIn(name), 0);
  EXPECT_TRUE(store_->CountByState().empty());
  EXPECT_EQ(ReasonOf(store_->experiments().DeleteAndWait(TestId(1))), reason::kExperimentNotFound);
  Reopen();
  EXPECT_TRUE(store_->Maintain().ok());
  EXPECT_EQ(ReasonOf(store_->GetJob(TestId(100'001)).status()), reason::kJobNotFound);
}

TEST_F(StoreExperimentsTest, DeletesManyJobsInSlicesAndRemembersTheRequest) {
  auto [experiment, jobs] = Make(1, 77, 3);
  ASSERT_TRUE(Create(experiment, jobs, "r", "hash").ok());
  MustCreate(2, 2, 1);
  for (int i = 0; i < 77 * 3; ++i) {
    Cancel(100'000 + i);
  }
  ASSERT_TRUE(store_->experiments().DeleteAndWait(TestId(1)).ok());
  EXPECT_EQ(JobsIn(experiment.name()), 0);
  EXPECT_EQ(JobsIn(ExperimentName(TestId(2))), 2);
  EXPECT_EQ(ReasonOf(Create(experiment, jobs, "r", "hash").status()), reason::kExperimentDeleted);
  EXPECT_EQ(store_->CountJobs("local", v1::Job::CANCELLED), 0);
}

TEST_F(StoreExperimentsTest, RetentionTakesJobsAndThenTheExperiment) {
  MustCreate(1, 2, 1);
  MustCreate(2, 1, 1);
  Cancel(100'000);
  clock_.Advance(absl::Hours(20));
  Cancel(100'001);
  Reopen(absl::Hours(24));
  clock_.Advance(absl::Hours(10));
  ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_EQ(JobsIn(ExperimentName(TestId(1))), 1);
  EXPECT_TRUE(Get(1).has_end_time());
  clock_.Advance(absl::Hours(24));
  ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_EQ(ReasonOf(store_->experiments().Get(TestId(1), kAll).status()),
            reason::kExperimentNotFound);
  EXPECT_EQ(Get(2).counts().queued(), 1);  // however old it is
}

}  // namespace
}  // namespace normlab::server
