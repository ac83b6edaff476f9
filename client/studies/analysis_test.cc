// What holds for every study, on made-up runs of known answer.
#include "client/studies/analysis.h"

#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/studies/measure.h"
#include "client/studies/testing/made_up_run.h"

namespace normlab::client::studies {
namespace {

using report::Claim;
using report::Report;
using report::Verdict;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

void FillLandscape(const std::string& /*part*/, const CellRun& cell, SeedRun& seed, double factor) {
  const bool standard = cell.levels[0] == kStandard;
  PutTraining(seed, 0.8 + Jitter(seed, 0.01));
  const double scale = (standard ? factor : 1) * (1 + Jitter(seed, 0.1));
  PutConstant(seed, "landscape/loss_min", 1);
  PutConstant(seed, "landscape/loss_max", 1 + 0.5 * scale);
  PutConstant(seed, "landscape/predictiveness_min", 0.1 * scale);
  PutConstant(seed, "landscape/predictiveness_max", 2 * scale);
  Put(seed, "landscape/smoothness", [&](int step) {
    return 10 * scale * (standard && step % 100 == 0 ? 9 + Jitter(seed, 1) : 1);
  });
}

TEST(AnalysisTest, LandscapeClaimsFollowTheData) {
  const StudyRun run =
      MadeUp("landscape", [](const std::string& part, const CellRun& cell, SeedRun& seed) {
        FillLandscape(part, cell, seed, part == "vgg" ? 20 : 0.05);
      });
  const Report report = MakeReport(run);
  ExpectWellFormed(report);
  const auto claims = Claims(report);
  ASSERT_EQ(claims.size(), 8U);
  EXPECT_EQ(claims.at("vgg-loss").verdict, Verdict::kSupported) << claims.at("vgg-loss").reason;
  EXPECT_NEAR(*claims.at("vgg-loss").value, 20, 1e-6);  // equal jitter in both nets
  EXPECT_EQ(claims.at("vgg-loss").unit, " times");
  EXPECT_EQ(claims.at("vgg-predictiveness").verdict, Verdict::kSupported);
  EXPECT_EQ(claims.at("vgg-steadiness").verdict, Verdict::kSupported);
  EXPECT_EQ(claims.at("linear-loss").verdict, Verdict::kNotSupported);
  EXPECT_EQ(claims.at("linear-predictiveness").verdict, Verdict::kNotSupported);
  const auto& chart = std::get<report::LineChart>(ChartOf(report, "landscape-vgg-loss").body);
  ASSERT_EQ(chart.lines.size(), 3U);
  EXPECT_TRUE(chart.lines[2].reference) << "where judging begins";
  EXPECT_EQ(chart.lines[0].low[0], 1);
  EXPECT_NEAR(chart.lines[0].high[0], 11, 1e-9);
}

TEST(AnalysisTest, AStandardNetThatDidNotTrainLeavesItsClaimsOpen) {
  const StudyRun run =
      MadeUp("landscape", [](const std::string& part, const CellRun& cell, SeedRun& seed) {
        FillLandscape(part, cell, seed, 20);
        if (part == "vgg" && cell.levels[0] == kStandard && seed.seed == 2) {
          PutConstant(seed, "train/loss", 2.302, 1);
        }
      });
  const auto claims = Claims(MakeReport(run));
  for (const char* id : {"vgg-loss", "vgg-predictiveness", "vgg-smoothness", "vgg-steadiness"}) {
    EXPECT_EQ(claims.at(id).verdict, Verdict::kInconclusive);
    EXPECT_THAT(claims.at(id).reason, HasSubstr("the standard net did not train"));
    EXPECT_TRUE(claims.at(id).value.has_value()) << "shown all the same";
    EXPECT_EQ(claims.at(id).seeds, 5);
  }
  EXPECT_EQ(claims.at("linear-loss").verdict, Verdict::kSupported);
}

TEST(AnalysisTest, OverflowAlongTheGradientIsTheWorstNotDropped) {
  const StudyRun run =
      MadeUp("landscape", [](const std::string& part, const CellRun& cell, SeedRun& seed) {
        FillLandscape(part, cell, seed, 2);
        if (cell.levels[0] == kStandard) {
          PutConstant(seed, "landscape/loss_max", std::numeric_limits<double>::infinity());
        }
      });
  const Claim claim = Claims(MakeReport(run)).at("vgg-loss");
  EXPECT_EQ(claim.verdict, Verdict::kSupported);
  EXPECT_NEAR(*claim.value, std::pow(10, kLargestLogRatio), 1e-3);
}

// What a net does on the plateau says nothing about what it does when it trains.
TEST(AnalysisTest, LandscapeIsJudgedFromWhereBothNetsHaveLeftThePlateau) {
  constexpr int kPlateau = 150;
  const auto fill = [](bool plateau) {
    return [plateau](const std::string& part, const CellRun& cell, SeedRun& seed) {
      FillLandscape(part, cell, seed, 2);
      if (!plateau || cell.levels[0] != kStandard || part != "vgg") {
        return;
      }
      for (auto& [name, points] : seed.series) {
        for (size_t i = 0; i < points.steps.size(); ++i) {
          if (points.steps[i] < kPlateau) {
            // A stuck net looks perfectly smooth.
            points.values[i] = name == "train/loss"             ? 2.3
                               : name == "landscape/loss_max"   ? 1.0001
                               : name == "landscape/smoothness" ? 1e-3
                                                                : points.values[i];
          }
        }
      }
    };
  };
  const auto stuck_at_first = Claims(MakeReport(MadeUp("landscape", fill(true))));
  const auto never = Claims(MakeReport(MadeUp("landscape", fill(false))));
  for (const char* id : {"vgg-loss", "vgg-predictiveness", "linear-loss"}) {
    EXPECT_NEAR(*stuck_at_first.at(id).value, *never.at(id).value, 1e-9) << id;
  }
  EXPECT_LT(*stuck_at_first.at("vgg-steadiness").value, 1);
  EXPECT_THAT(stuck_at_first.at("vgg-loss").rule, HasSubstr("left the plateau"));
}

// Finding: 5 of 5 nets without normalization diverged, and what they did before was judged.
TEST(AnalysisTest, DivergedNetsCountAsTheWorstInEveryStudy) {
  struct Case {
    const char* study;
    const char* claim;
    double value;  // in the claim's unit: all seeds of one net diverged
  };
  const auto lost = [](const CellRun& cell) {
    return cell.levels[0] == kStandard ||
           (cell.levels.size() > 1 && cell.levels[0] == "ReLU" && cell.levels[1] == "none");
  };
  const auto fill = [&](const std::string& part, const CellRun& cell, SeedRun& seed) {
    FillLandscape(part, cell, seed, 0.5);  // before it diverged the lost net looked better
    for (const char* series : {"gradient_noise/second_moment", "gradient_noise/variance"}) {
      PutConstant(seed, series, lost(cell) ? 0.001 : 1);
    }
    for (const char* layer : {"a.1", "a.2", "a.3", "a.4"}) {
      PutConstant(seed, LayerSeries(layer, "activation_shift"), lost(cell) ? 1 : 0.1);
      PutConstant(seed, LayerSeries(layer, "covariate_shift"), lost(cell) ? 0.1 : 1);
      PutConstant(seed, LayerSeries(layer, "covariate_shift_relative"), lost(cell) ? 0.1 : 1);
      PutConstant(seed, LayerSeries(layer, "covariate_shift_cosine"), 0.5);
    }
    if (lost(cell)) {
      seed.job.set_state(v1::Job::DIVERGED);
    }
  };
  for (const Case& one :
       {Case{"landscape", "vgg-loss", 1e6}, Case{"landscape", "vgg-smoothness", 1e6},
        Case{"landscape", "vgg-steadiness", kLargestLogRatio},
        Case{"landscape", "linear-predictiveness", 1e6}, Case{"three-factors", "relu", 1e6},
        Case{"covariate-shift", "vgg-length", 1e-6}, Case{"covariate-shift", "vgg-cosine", -1.5},
        Case{"three-modes", "shift", 1e-6}}) {
    SCOPED_TRACE(absl::StrCat(one.study, " ", one.claim));
    const Report report = MakeReport(MadeUp(one.study, fill));
    ExpectWellFormed(report);
    const Claim claim = Claims(report).at(one.claim);
    EXPECT_NEAR(*claim.value / one.value, 1, 1e-9);
    EXPECT_EQ(claim.seeds, 5);
    EXPECT_EQ(claim.diverged, 5) << "each once";
    EXPECT_EQ(claim.jobs, 10);
    for (const report::Section& section : report.sections) {
      for (const report::Table& table : section.tables) {
        for (const auto& row : table.rows) {
          for (const auto& value : row) {
            const auto* text = std::get_if<std::string>(&value);
            EXPECT_TRUE(text == nullptr || !absl::StrContains(*text, "nan")) << table.id;
          }
        }
      }
    }
  }
}

TEST(AnalysisTest, TwoDivergedNetsAreATie) {
  const auto claims = Claims(MakeReport(
      MadeUp("landscape", [](const std::string& part, const CellRun& cell, SeedRun& seed) {
        FillLandscape(part, cell, seed, 20);
        if (seed.seed == 3) {
          seed.job.set_state(v1::Job::DIVERGED);
        }
      })));
  EXPECT_NEAR(std::log10(*claims.at("vgg-loss").value), 0.8 * std::log10(20), 1e-9);
  EXPECT_EQ(claims.at("vgg-loss").seeds, 5) << "not dropped";
  EXPECT_EQ(claims.at("vgg-loss").diverged, 2);
}

// Finding: what a cancelled job had reported before was judged as if it were a result.
TEST(AnalysisTest, JobsWithoutAResultHaveNoValueInAnyStudy) {
  for (const std::string& study : StudyNames()) {
    for (const auto state : {v1::Job::CANCELLED, v1::Job::FAILED, v1::Job::RUNNING}) {
      SCOPED_TRACE(study + " " + v1::Job::State_Name(state));
      const StudyRun run =
          MadeUp(study, [state](const std::string& part, const CellRun& cell, SeedRun& seed) {
            FillLandscape(part, cell, seed, 20);
            for (const char* series : {"gradient_noise/second_moment", "gradient_noise/variance",
                                       "test/accuracy_reestimated"}) {
              PutConstant(seed, series, 1);
            }
            for (const char* layer : {"a.1", "a.2", "a.3", "a.4", "head"}) {
              for (const char* quantity :
                   {"activation_shift", "covariate_shift", "covariate_shift_relative",
                    "covariate_shift_cosine", "output_gradient_norm", "gamma_mean", "gamma_std",
                    "post_variance"}) {
                PutConstant(seed, LayerSeries(layer, quantity), 0.5);
              }
            }
            if (seed.seed <= 3) {
              seed.job.set_state(state);  // with the series it had so far
            }
          });
      for (const auto& [id, claim] : Claims(MakeReport(run))) {
        EXPECT_EQ(claim.verdict, Verdict::kInconclusive) << id;
        EXPECT_LE(claim.seeds, 2) << id;
      }
    }
  }
}

TEST(AnalysisTest, TooFewSeedsAndMissingJobsDecideNothing) {
  const auto fill = [](const std::string& part, const CellRun& cell, SeedRun& seed) {
    FillLandscape(part, cell, seed, 0.9);
  };
  for (const auto& [id, claim] : Claims(MakeReport(MadeUp("landscape", fill, 3)))) {
    EXPECT_EQ(claim.verdict, Verdict::kInconclusive) << id;
    EXPECT_THAT(claim.reason, HasSubstr("too few seeds: 3")) << id;
  }
  StudyRun run = MadeUp("landscape", fill);
  SeedRun& lost = run.parts[0].cells[0].seeds[4];
  lost.job.set_state(v1::Job::FAILED);
  lost.job.mutable_failure()->set_message("the disk is full");
  lost.series.clear();
  run.parts[0].cells[1].seeds[0].job.set_state(v1::Job::RUNNING);
  const Report report = MakeReport(run);
  ExpectWellFormed(report);
  EXPECT_EQ(Claims(report).at("vgg-loss").verdict, Verdict::kInconclusive);
  EXPECT_EQ(Claims(report).at("vgg-loss").seeds, 3);
  ASSERT_EQ(report.warnings.size(), 2U);
  EXPECT_THAT(report.warnings[0], HasSubstr("the disk is full"));
  EXPECT_THAT(report.warnings[1], HasSubstr("RUNNING"));
}

TEST(AnalysisTest, EveryStudyOfEveryPresetMakesAReportWithoutAnyResult) {
  for (const std::string& study : StudyNames()) {
    for (const char* preset : {"smoke", "quick", "paper"}) {
      SCOPED_TRACE(study + " " + preset);
      const auto plan = MakePlan(study, {.preset = preset});
      ASSERT_TRUE(plan.ok()) << plan.status();
      const Report report = MakeReport(EmptyRun(*plan));
      ExpectWellFormed(report);
      EXPECT_THAT(report.warnings, Not(IsEmpty()));
      for (const Claim& claim : report.claims) {
        EXPECT_EQ(claim.verdict, Verdict::kInconclusive) << claim.id;
      }
    }
  }
}

}  // namespace
}  // namespace normlab::client::studies
