#include "client/report/runs.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "client/report/run_curves.h"
#include "client/report/spec_difference.h"
#include "client/report/spec_yaml.h"
#include "client/report/writers.h"

namespace normlab::client::report {
namespace {

using normlab::v1::Job;

// A job of `normalizer` at a learning rate, with `steps` points of a falling loss.
RunData MakeRun(const std::string& id,
                bool batch_norm,
                double rate,
                uint32_t seed,
                Job::State state,
                int steps) {
  RunData run;
  run.job.set_name(absl::StrCat("jobs/", id));
  run.job.set_state(state);
  normlab::v1::JobSpec& spec = *run.job.mutable_spec();
  spec.set_seed(seed);
  spec.mutable_model()->mutable_mlp()->add_hidden(17);
  spec.mutable_optimizer()->mutable_sgd()->set_learning_rate(rate);
  if (batch_norm) {
    spec.mutable_normalization()->mutable_batch()->set_epsilon(1e-5);
  } else {
    spec.mutable_normalization()->mutable_none();
  }
  *run.job.mutable_resolved_spec() = spec;
  run.job.mutable_progress()->set_step(steps);
  run.job.mutable_progress()->set_total_steps(600);
  for (int step = 0; step < steps; ++step) {
    run.series["train/loss"].steps.push_back(step);
    run.series["train/loss"].values.push_back(2.0 - 0.001 * step + 0.1 * seed);
  }
  if (state == Job::SUCCEEDED || state == Job::DIVERGED) {
    run.job.mutable_result()->set_steps(steps);
    (*run.job.mutable_result()->mutable_final_metrics())["test/accuracy"] =
        0.7 + 0.01 * seed + (batch_norm ? 0.1 : 0);
  }
  if (state == Job::FAILED) {
    run.job.mutable_failure()->set_reason(normlab::v1::FailureReason::OUT_OF_MEMORY);
    run.job.mutable_failure()->set_message("needed <more>");
  }
  return run;
}

RunSet SampleSet() {
  RunSet set;
  std::vector<RunData> runs;
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    runs.push_back(MakeRun(absl::StrCat("b", seed), true, 0.1, seed, Job::SUCCEEDED, 600));
    runs.push_back(MakeRun(absl::StrCat("n", seed), false, 0.1, seed,
                           seed == 2 ? Job::DIVERGED : Job::SUCCEEDED, seed == 2 ? 19 : 600));
  }
  runs.push_back(MakeRun("f", false, 0.5, 1, Job::FAILED, 40));
  runs.push_back(MakeRun("r", true, 0.5, 1, Job::RUNNING, 120));
  runs.push_back(MakeRun("q", true, 0.7, 1, Job::QUEUED, 0));
  set.groups = GroupJobs(std::move(runs));
  return set;
}

const Line* FindLine(const std::vector<Line>& lines, const std::string& name) {
  for (const Line& line : lines) {
    if (line.name == name) {
      return &line;
    }
  }
  return nullptr;
}

TEST(GroupJobsTest, JobsThatDifferOnlyInTheSeedAreOneRun) {
  const RunSet set = SampleSet();
  ASSERT_EQ(set.groups.size(), 5U);
  EXPECT_EQ(set.groups[0].name, "batch, learning rate 0.1");
  EXPECT_EQ(set.groups[0].runs.size(), 3U);
  EXPECT_EQ(set.groups[1].name, "none, learning rate 0.1");
}

TEST(GroupJobsTest, DisplayNamesWinWhenTheyTellRunsApart) {
  std::vector<RunData> runs = {MakeRun("a", true, 0.1, 1, Job::SUCCEEDED, 5),
                               MakeRun("b", false, 0.1, 1, Job::SUCCEEDED, 5)};
  runs[0].job.set_display_name("with");
  runs[1].job.set_display_name("without");
  const std::vector<RunGroup> named = GroupJobs(runs);
  EXPECT_EQ(named[0].name, "with");
  runs[1].job.set_display_name("with");
  EXPECT_EQ(GroupJobs(runs)[1].name, "none");
}

TEST(GroupJobsTest, ARunWithoutANameTakesNoneFromTheOthers) {
  std::vector<RunData> runs = {MakeRun("a", true, 0.1, 1, Job::SUCCEEDED, 5),
                               MakeRun("b", false, 0.1, 1, Job::SUCCEEDED, 5),
                               MakeRun("c", false, 0.5, 1, Job::SUCCEEDED, 5)};
  runs[0].job.set_display_name("with");
  runs[1].job.set_display_name("without");
  // How long a job may take is no part of what it is about.
  runs[2].job.mutable_resolved_spec()->mutable_time_limit()->set_seconds(600);
  const std::vector<RunGroup> groups = GroupJobs(runs);
  EXPECT_EQ(groups[0].name, "with");
  EXPECT_EQ(groups[1].name, "without");
  EXPECT_EQ(groups[2].name, "none, learning rate 0.5");
}

TEST(NamesByDifferenceTest, WhatIsNotSetIsSaidInWords) {
  RunData a = MakeRun("a", true, 0.1, 1, Job::QUEUED, 0);
  const RunData b = MakeRun("b", true, 0.1, 1, Job::QUEUED, 0);
  a.job.mutable_resolved_spec()->mutable_model()->mutable_mlp()->set_skip_connections(true);
  EXPECT_EQ(NamesByDifference({&a.job.resolved_spec(), &b.job.resolved_spec()}),
            (std::vector<std::string>{"skip connections true", "no skip connections"}));
}

TEST(FindGroupTest, ByNameByJobAndByNumberFromZero) {
  const std::vector<RunGroup> groups = SampleSet().groups;
  EXPECT_EQ(*FindGroup(groups, "None, Learning Rate 0.1"), 1U);
  EXPECT_EQ(*FindGroup(groups, "0"), 0U);
  EXPECT_EQ(*FindGroup(groups, "jobs/n2"), 1U);
  EXPECT_EQ(*FindGroup(groups, "b3"), 0U);
  const absl::Status far = FindGroup(groups, "5").status();
  EXPECT_TRUE(absl::StrContains(far.message(), "count from 0")) << far;
  // Names with commas can be told apart.
  EXPECT_TRUE(absl::StrContains(far.message(), "1 \"none, learning rate 0.1\"; 2 \"")) << far;
  const absl::Status typo = FindGroup(groups, "nome, learning rate 0.1").status();
  EXPECT_TRUE(absl::StrContains(typo.message(), "did you mean \"none, learning rate 0.1\"?"))
      << typo;
}

TEST(CheckSeriesTest, ANameThatFitsNothingIsNamedWithTheNearest) {
  const RunSet set = SampleSet();
  EXPECT_TRUE(CheckSeries(set, {"train/*"}).ok());
  EXPECT_TRUE(CheckSeries(RunSet{}, {"nosuch/*"}).ok());  // nothing is there yet
  const absl::Status wrong = CheckSeries(set, {"train/*", "nosuch/*"});
  EXPECT_TRUE(absl::StrContains(wrong.message(), "\"nosuch/*\"; there are train/loss")) << wrong;
  const absl::Status typo = CheckSeries(set, {"trian/loss"});
  EXPECT_TRUE(absl::StrContains(typo.message(), "did you mean train/loss?")) << typo;
}

TEST(FinalSectionTest, SaysWhetherJobsOrValuesAreMissing) {
  RunReportOptions options;
  options.series = {"nosuch/*"};
  const RunSet set = SampleSet();
  EXPECT_TRUE(absl::StrContains(FinalSection(set, options).text, "of the series asked for"));
  RunSet waiting;
  waiting.groups = GroupJobs({MakeRun("q", true, 0.7, 1, Job::QUEUED, 0)});
  EXPECT_TRUE(absl::StrContains(FinalSection(waiting, {}).text, "No job has succeeded"));
}

TEST(CompareSpecsTest, WhatLiesInsideOtherKindsIsLeftOut) {
  const RunData a = MakeRun("a", true, 0.1, 1, Job::QUEUED, 0);
  const RunData b = MakeRun("b", false, 0.1, 2, Job::QUEUED, 0);
  const auto differences = CompareSpecs({&a.job.resolved_spec(), &b.job.resolved_spec()});
  ASSERT_EQ(differences.size(), 1U);
  EXPECT_EQ(differences[0].field, "normalization");
  EXPECT_EQ(differences[0].values, (std::vector<std::string>{"batch", "none"}));
}

TEST(SpecYamlTest, BlocksListsAndStrings) {
  normlab::v1::JobSpec spec;
  spec.set_display_name("a: \"b\" #c");
  spec.mutable_model()->mutable_mlp()->add_hidden(100);
  spec.mutable_model()->mutable_mlp()->add_hidden(64);
  spec.mutable_normalization()->mutable_batch();
  (*spec.mutable_labels())["true"] = "yes: no";
  EXPECT_EQ(SpecYaml(spec),
            "display_name: \"a: \\\"b\\\" #c\"\n"
            "model:\n"
            "  mlp:\n"
            "    hidden: [100, 64]\n"
            "normalization:\n"
            "  batch: {}\n"
            "labels:\n"
            "  true: \"yes: no\"\n");
}

TEST(CurvesTest, TheMeanIsOfWhatSucceededAndTheRestIsShownBesides) {
  const RunSet set = SampleSet();
  const double window = ChooseWindow(set, "train/loss");
  EXPECT_EQ(window, 5);
  const std::vector<Line> lines = CurvesOf(set.groups[1], "train/loss", window);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].x.size(), 120U);
  EXPECT_EQ(lines[0].x[0], 4);
  // Seeds 1 and 3 at steps 0 to 4: 2.0 - 0.002 + 0.1 and + 0.3.
  EXPECT_NEAR(lines[0].y[0], 2.198, 1e-12);
  EXPECT_NEAR(lines[0].low[0], 2.098, 1e-12);
  EXPECT_NEAR(lines[0].high[0], 2.298, 1e-12);
  EXPECT_EQ(lines[1].name, "none, learning rate 0.1, seed 2 (diverged)");
  EXPECT_EQ(lines[1].x.size(), 4U);
  EXPECT_NE(
      FindLine(CurvesOf(set.groups[3], "train/loss", window), set.groups[3].name + " (not over)"),
      nullptr);
}

TEST(RunReportTest, EveryStateIsInItAndNoneIsDropped) {
  RunReportOptions options;
  options.baseline = 1;
  const Report report = MakeRunReport(SampleSet(), options);
  std::string warnings;
  for (const std::string& warning : report.warnings) {
    absl::StrAppend(&warnings, warning, "\n");
  }
  EXPECT_TRUE(
      absl::StrContains(warnings, "jobs/n2 (none, learning rate 0.1, seed 2) diverged at step 19"))
      << warnings;
  EXPECT_TRUE(absl::StrContains(warnings, "failed at step 40: OUT_OF_MEMORY, needed <more>"))
      << warnings;
  EXPECT_TRUE(absl::StrContains(warnings, "still runs, at step 120 of 600")) << warnings;
  EXPECT_TRUE(absl::StrContains(warnings, "jobs/q")) << warnings;
  const Table* jobs = nullptr;
  const Table* differences = nullptr;
  const Table* final_values = nullptr;
  for (const Section& section : report.sections) {
    for (const Table& table : section.tables) {
      if (table.id == "jobs") {
        jobs = &table;
      } else if (table.id == "differences") {
        differences = &table;
      } else if (table.id == "final") {
        final_values = &table;
      }
    }
  }
  ASSERT_NE(jobs, nullptr);
  EXPECT_EQ(jobs->rows.size(), 9U);
  ASSERT_NE(final_values, nullptr);
  ASSERT_EQ(final_values->rows.size(), 5U);
  EXPECT_EQ(std::get<double>(final_values->rows[0][1]), 3);
  EXPECT_NEAR(std::get<double>(final_values->rows[0][3]), 0.82, 1e-12);
  // Student's t of 2 degrees of freedom, 4.3027, times 0.01 / sqrt(3).
  EXPECT_NEAR(std::get<double>(final_values->rows[0][4]), 4.302653 * 0.01 / std::sqrt(3.0), 1e-7);
  EXPECT_EQ(std::get<double>(final_values->rows[1][2]), 2) << "succeeded";
  ASSERT_NE(differences, nullptr);
  EXPECT_EQ(std::get<double>(differences->rows[0][1]), 2) << "pairs of seeds that both have";
  EXPECT_NEAR(std::get<double>(differences->rows[0][2]), 0.1, 1e-12);
  EXPECT_EQ(report.specs.size(), 5U);
  EXPECT_TRUE(absl::StrContains(report.specs[0].title, "seeds 1, 2, 3"));
}

TEST(RunReportTest, JobsWithoutAnyMetricMakeAReport) {
  RunSet set;
  set.groups = GroupJobs({MakeRun("q", true, 0.1, 1, Job::QUEUED, 0)});
  const Report report = MakeRunReport(set, {});
  EXPECT_EQ(report.warnings.size(), 2U);
  EXPECT_FALSE(RenderHtml(report).empty());
}

TEST(RunReportTest, SeriesAreChosenByPattern) {
  RunSet set = SampleSet();
  set.groups[0].runs[0].series["layers/fc1/gradient_norm"] = {{0, 50}, {1, 2}};
  set.groups[0].runs[0].series["layers/fc10/gradient_norm"] = {{0, 50}, {1, 2}};
  set.groups[0].runs[0].series["layers/fc2/gradient_norm"] = {{0, 50}, {1, 2}};
  RunReportOptions options;
  options.series = {"layers/*/gradient_norm"};
  EXPECT_TRUE(CurveSection(set, options).charts.empty());
  const Section section = LayerSection(set, options);
  ASSERT_EQ(section.charts.size(), 1U);
  const auto& body = std::get<LineChart>(section.charts[0].body);
  ASSERT_EQ(body.lines.size(), 3U);
  EXPECT_EQ(body.lines[1].name, "fc2") << "in the order of people";
  EXPECT_EQ(body.lines[2].name, "fc10");
  options.series = {"no/such"};
  const Report report = MakeRunReport(set, options);
  EXPECT_TRUE(absl::StrContains(report.warnings.back(), "--series"));
}

TEST(RunReportTest, LandscapeIsABandBetweenLeastAndGreatest) {
  RunSet set;
  set.groups = GroupJobs({MakeRun("a", true, 0.1, 1, Job::SUCCEEDED, 3)});
  set.groups[0].runs[0].series["landscape/loss_min"] = {{0, 50}, {1, 4}};
  set.groups[0].runs[0].series["landscape/loss_max"] = {{0, 50}, {100, 9}};
  const Section section = CurveSection(set, {});
  ASSERT_EQ(section.charts.size(), 2U);
  const auto& body = std::get<LineChart>(section.charts[1].body);
  ASSERT_EQ(body.lines.size(), 1U);
  EXPECT_EQ(body.lines[0].low, (std::vector<double>{1, 4}));
  EXPECT_EQ(body.lines[0].high, (std::vector<double>{100, 9}));
  EXPECT_EQ(body.lines[0].y, (std::vector<double>{10, 6}));
}

TEST(RunReportTest, LossSurfacesBecomeMaps) {
  RunSet set;
  set.groups = GroupJobs({MakeRun("a", true, 0.1, 1, Job::SUCCEEDED, 3)});
  for (const double x : {-1.0, 0.0, 1.0}) {
    for (const double y : {-1.0, 1.0}) {
      set.groups[0].runs[0].series[absl::StrCat("loss_surface/", x, ",", y)] = {{3}, {10 * y + x}};
    }
  }
  const Section section = LayerSection(set, {});
  ASSERT_EQ(section.charts.size(), 1U);
  const auto& map = std::get<HeatMap>(section.charts[0].body);
  EXPECT_EQ(map.columns, (std::vector<std::string>{"-1", "0", "1"}));
  EXPECT_EQ(map.rows, (std::vector<std::string>{"1", "-1"}));
  EXPECT_EQ(map.values, (std::vector<double>{9, 10, 11, -11, -10, -9}));
}

TEST(GroupCellsTest, TwoAxesMakeAMap) {
  normlab::v1::Experiment experiment;
  experiment.set_name("experiments/e");
  for (const char* field : {"initializer.scale", "optimizer.sgd.learning_rate"}) {
    experiment.mutable_design()->add_axes()->set_field(field);
  }
  for (const char* scale : {"0.5", "2"}) {
    for (const char* rate : {"0.01", "0.1", "1"}) {
      auto& values = *experiment.add_cells()->mutable_values();
      values["initializer.scale"] = scale;
      values["optimizer.sgd.learning_rate"] = rate;
    }
  }
  RunSet set;
  set.groups = GroupCells(experiment, &set.axes);
  set.experiment = experiment;
  ASSERT_EQ(set.groups.size(), 6U);
  EXPECT_EQ(set.groups[4].name, "scale 2, learning rate 0.1");
  for (size_t i = 0; i < set.groups.size(); ++i) {
    set.groups[i].runs.push_back(MakeRun(absl::StrCat(i), true, 0.1, static_cast<uint32_t>(i),
                                         i == 5 ? Job::DIVERGED : Job::SUCCEEDED, 4));
  }
  const Report report = MakeRunReport(set, {});
  const auto* map = std::get_if<HeatMap>(&report.sections.front().charts[0].body);
  ASSERT_NE(map, nullptr);
  EXPECT_EQ(map->rows, (std::vector<std::string>{"0.5", "2"}));
  EXPECT_EQ(map->columns.size(), 3U);
  EXPECT_NEAR(map->values[4], 0.84, 1e-12);
  EXPECT_TRUE(std::isnan(map->values[5]));
}

}  // namespace
}  // namespace normlab::client::report
