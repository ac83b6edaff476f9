#include "client/studies/runner.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/studies/collect.h"
#include "client/studies/requests.h"

namespace normlab::client::studies {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A server's experiments in memory; jobs end when a test says so.
class FakeCalls : public ExperimentCalls {
 public:
  absl::StatusOr<v1::Experiment> Create(const v1::CreateExperimentRequest& request) override {
    const std::string& part = request.experiment().labels().at(kPartLabel);
    if (part == refused_part_) {
      absl::Status status = absl::InvalidArgumentError("base.model.mlp.width: is -1");
      status.SetPayload("type", absl::Cord("details"));
      return status;
    }
    if (request.validate_only()) {
      ++validated_;
      return request.experiment();
    }
    if (const auto known = by_request_.find(request.request_id()); known != by_request_.end()) {
      return experiments_[known->second];
    }
    if (created_ == fail_after_) {
      return absl::UnavailableError("the server is away");
    }
    ++created_;
    v1::Experiment experiment = request.experiment();
    experiment.set_name(absl::StrCat("experiments/", experiments_.size()));
    experiment.mutable_counts()->set_queued(3);
    by_request_[request.request_id()] = experiments_.size();
    experiments_.push_back(experiment);
    return experiment;
  }
  absl::StatusOr<v1::Experiment> Get(const std::string& name) override {
    for (const v1::Experiment& experiment : experiments_) {
      if (experiment.name() == name) {
        return experiment;
      }
    }
    return absl::NotFoundError(name);
  }
  absl::StatusOr<v1::ListExperimentsResponse> List(
      const v1::ListExperimentsRequest& request) override {
    // Newest first, one a page.
    v1::ListExperimentsResponse page;
    const size_t at =
        request.page_token().empty() ? 0 : static_cast<size_t>(std::stoi(request.page_token()));
    if (at < experiments_.size()) {
      *page.add_experiments() = experiments_[experiments_.size() - 1 - at];
    }
    if (at + 1 < experiments_.size()) {
      page.set_next_page_token(std::to_string(at + 1));
    }
    return page;
  }
  absl::Status Watch(const std::string& name,
                     const std::function<void(const v1::Experiment&)>& on_change,
                     const std::function<void()>& on_tick) override {
    v1::Experiment& experiment = *std::find_if(experiments_.begin(), experiments_.end(),
                                               [&](const auto& e) { return e.name() == name; });
    on_change(experiment);
    on_tick();
    End(experiment);
    on_change(experiment);
    return absl::OkStatus();
  }

  static void End(v1::Experiment& experiment, int failed = 0) {
    experiment.mutable_counts()->set_queued(0);
    experiment.mutable_counts()->set_succeeded(3 - failed);
    experiment.mutable_counts()->set_failed(failed);
    experiment.mutable_end_time()->set_seconds(1);
  }

  std::vector<v1::Experiment> experiments_;
  std::map<std::string, size_t> by_request_;
  std::string refused_part_;
  int fail_after_ = -1;
  int created_ = 0;
  int validated_ = 0;
};

Plan SmokePlan() {
  const auto plan = MakePlan("explosion", {.preset = "smoke"});
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *plan;
}

TEST(RunnerTest, AnInterruptedStartGoesOnAndStartsNothingTwice) {
  FakeCalls calls;
  calls.fail_after_ = 1;
  EXPECT_THAT(StartRun(calls, SmokePlan(), "1", "").status().message(),
              AllOf(HasSubstr("part skips"), HasSubstr("away")));
  EXPECT_EQ(calls.created_, 1);
  calls.fail_after_ = -1;
  const auto started = StartRun(calls, SmokePlan(), "1", "");
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ(started->experiments.size(), 3U);
  EXPECT_EQ(calls.created_, 3);
  EXPECT_FALSE(started->found);
  for (v1::Experiment& experiment : calls.experiments_) {
    FakeCalls::End(experiment);
  }
  const auto found = StartRun(calls, SmokePlan(), "1", "");
  ASSERT_TRUE(found.ok());
  EXPECT_TRUE(found->found);
  EXPECT_EQ(calls.created_, 3);
  const auto again = StartRun(calls, SmokePlan(), "1", "x");
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE(again->found);
  EXPECT_EQ(calls.created_, 6);
}

TEST(RunnerTest, ARunWithFailedJobsIsNotTaken) {
  FakeCalls calls;
  ASSERT_TRUE(StartRun(calls, SmokePlan(), "1", "").ok());
  FakeCalls::End(calls.experiments_[1], /*failed=*/1);
  const auto next = StartRun(calls, SmokePlan(), "1", "");
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(calls.created_, 6);
  EXPECT_EQ(next->experiments[0].name(), "experiments/3");
  // That one is gone on with.
  EXPECT_EQ(StartRun(calls, SmokePlan(), "1", "")->experiments[0].name(), "experiments/3");
}

TEST(RunnerTest, EveryPartIsCheckedBeforeAnyIsStored) {
  FakeCalls calls;
  calls.refused_part_ = "training";
  const absl::Status status = StartRun(calls, SmokePlan(), "1", "").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(status.message(), AllOf(HasSubstr("study explosion, part training"),
                                      HasSubstr("base.model.mlp.width")));
  EXPECT_TRUE(status.GetPayload("type").has_value());  // the server's details
  EXPECT_EQ(calls.created_, 0);
}

TEST(RunnerTest, WaitingTellsHowFarAllPartsAre) {
  FakeCalls calls;
  auto started = StartRun(calls, SmokePlan(), "1", "");
  ASSERT_TRUE(started.ok());
  std::vector<int> over;
  ASSERT_TRUE(WaitForRun(calls, started->experiments,
                         [&over](const std::vector<v1::Experiment>& experiments) {
                           const v1::JobCounts counts = SumOfCounts(experiments);
                           EXPECT_EQ(JobsIn(counts), 9);
                           over.push_back(JobsOver(counts));
                         })
                  .ok());
  EXPECT_EQ(over.front(), 0);
  EXPECT_EQ(over.back(), 9);
  EXPECT_TRUE(std::is_sorted(over.begin(), over.end()));
  for (const v1::Experiment& experiment : started->experiments) {
    EXPECT_TRUE(experiment.has_end_time());
  }
}

TEST(RunnerTest, TheNewestFinishedRunIsFound) {
  FakeCalls calls;
  EXPECT_THAT(FindRun(calls, "explosion", "").status().message(),
              HasSubstr("normlab study run explosion"));
  EXPECT_TRUE(absl::IsNotFound(FindRun(calls, "explosoin", "").status()));
  ASSERT_TRUE(StartRun(calls, SmokePlan(), "1", "first").ok());
  // Still running: better than nothing.
  EXPECT_EQ(FindRun(calls, "explosion", "")->size(), 3U);
  for (v1::Experiment& experiment : calls.experiments_) {
    FakeCalls::End(experiment);
  }
  ASSERT_TRUE(StartRun(calls, SmokePlan(), "1", "second").ok());
  const auto labels = [](const std::vector<v1::Experiment>& experiments) {
    return experiments.front().labels().at(kRunLabel);
  };
  std::string note;
  const auto newest = FindRun(calls, "explosion", "smoke", &note);
  ASSERT_TRUE(newest.ok());
  EXPECT_THAT(note, AllOf(HasSubstr("newer run"), HasSubstr("preset smoke"),
                          HasSubstr("0 of 9 jobs over"), HasSubstr("name experiments/")));
  EXPECT_EQ(labels(*newest), calls.experiments_[0].labels().at(kRunLabel));
  // By one of its experiments.
  const auto second = FindRun(calls, "experiments/4", "");
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(labels(*second), calls.experiments_[3].labels().at(kRunLabel));
  // Asked for by name, nothing was passed over.
  note.clear();
  ASSERT_TRUE(FindRun(calls, "experiments/4", "", &note).ok());
  EXPECT_EQ(note, "");
  EXPECT_TRUE(absl::IsNotFound(FindRun(calls, "explosion", "paper").status()));
  // Its plan is that of the experiments.
  const auto plan = PlanOfExperiments(*newest);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->preset, "smoke");
  EXPECT_EQ(plan->parts[0].seeds, SmokePlan().parts[0].seeds);
}

}  // namespace
}  // namespace normlab::client::studies
