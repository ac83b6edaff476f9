// Every study on made-up runs of known answer.
#include "client/studies/analysis.h"

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/studies/closed_forms.h"
#include "client/studies/curves.h"
#include "client/studies/measure.h"

namespace normlab::client::studies {
namespace {

// Test::Run hides the name.
using StudyRun = Run;
using report::Claim;
using report::Report;
using report::Verdict;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr int kSteps = 300;

// A little of everything that differs between seeds: -1, -0.5, 0, 0.5, 1, ... of `size`.
double Jitter(const SeedRun& seed, double size) {
  return size * (static_cast<double>(seed.seed % 5) - 2) / 2;
}

void Put(SeedRun& seed,
         const std::string& series,
         const std::function<double(int)>& value,
         int every = 50,
         int steps = kSteps) {
  Points& points = seed.series[series];
  points = {};
  for (int step = 0; step < steps; step += every) {
    points.steps.push_back(step);
    points.values.push_back(value(step));
  }
}

void PutConstant(SeedRun& seed, const std::string& series, double value, int every = 50) {
  Put(
      seed, series, [value](int) { return value; }, every);
}

// A net that trains to `accuracy`.
void PutTraining(SeedRun& seed, double accuracy) {
  Put(
      seed, "train/loss", [](int step) { return 2.3 * std::exp(-step / 80.0) + 0.2; }, 1);
  Put(
      seed, "train/accuracy", [accuracy](int step) { return step < 100 ? 0.3 : accuracy; }, 1);
  seed.series["test/accuracy"] = {{kSteps}, {accuracy}};
  seed.series["test/loss"] = {{kSteps}, {0.5}};
}

// The plan's run with every job succeeded and `fill`ed.
StudyRun MadeUp(const std::string& study,
                const std::function<void(const std::string& part, const CellRun&, SeedRun&)>& fill,
                int seeds = 5) {
  const auto plan = MakePlan(study, {.seeds = seeds});
  EXPECT_TRUE(plan.ok()) << plan.status();
  StudyRun run = EmptyRun(*plan);
  for (PartRun& part : run.parts) {
    for (CellRun& cell : part.cells) {
      cell.resolved = v1::JobSpec();
      for (SeedRun& seed : cell.seeds) {
        seed.job.set_state(v1::Job::SUCCEEDED);
        seed.job.set_name(absl::StrCat("jobs/", part.name, seed.seed));
        fill(part.name, cell, seed);
      }
    }
  }
  run.end_time = absl::UnixEpoch();
  return run;
}

std::map<std::string, Claim> Claims(const Report& report) {
  std::map<std::string, Claim> claims;
  for (const Claim& claim : report.claims) {
    EXPECT_TRUE(claims.emplace(claim.id, claim).second) << claim.id;
    EXPECT_FALSE(claim.statement.empty() || claim.source.empty() || claim.quantity.empty() ||
                 claim.rule.empty() || claim.reason.empty())
        << claim.id;
  }
  return claims;
}

// What every report keeps to, whatever the data.
void ExpectWellFormed(const Report& report) {
  EXPECT_FALSE(report.title.empty() || report.question.empty() || report.claims.empty() ||
               report.sections.empty());
  EXPECT_FALSE(report.repeat.empty() || report.specs.empty());
  std::set<std::string> ids;
  for (const report::Section& section : report.sections) {
    for (const report::Chart& chart : section.charts) {
      EXPECT_TRUE(ids.insert(chart.id).second) << chart.id;
      EXPECT_FALSE(chart.title.empty() || chart.caption.empty()) << chart.id;
      if (const auto* lines = std::get_if<report::LineChart>(&chart.body)) {
        EXPECT_TRUE(lines->facets.empty() || lines->facets.size() == lines->lines.size())
            << chart.id;
        for (const report::Line& line : lines->lines) {
          EXPECT_EQ(line.x.size(), line.y.size()) << chart.id;
          EXPECT_TRUE(line.low.empty() || line.low.size() == line.x.size()) << chart.id;
          EXPECT_EQ(line.low.size(), line.high.size()) << chart.id;
        }
      } else if (const auto* map = std::get_if<report::HeatMap>(&chart.body)) {
        EXPECT_EQ(map->values.size(), map->rows.size() * map->columns.size());
        EXPECT_EQ(map->texts.size(), map->values.size());
      }
    }
    for (const report::Table& table : section.tables) {
      EXPECT_TRUE(ids.insert(table.id).second) << table.id;
      for (const auto& row : table.rows) {
        EXPECT_EQ(row.size(), table.columns.size()) << table.id;
      }
    }
  }
}

const report::Chart& ChartOf(const Report& report, absl::string_view id) {
  for (const report::Section& section : report.sections) {
    for (const report::Chart& chart : section.charts) {
      if (chart.id == id) {
        return chart;
      }
    }
  }
  static const report::Chart none;
  ADD_FAILURE() << "no chart " << id;
  return none;
}

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

// Gradients that grow by `rate` a layer towards the input.
void PutGrowth(SeedRun& seed, double rate, int depth) {
  for (int layer = 1; layer <= depth; ++layer) {
    const double norm = std::pow(rate * (1 + Jitter(seed, 0.002)), (depth - layer) / 2.0);
    seed.series[LayerSeries(absl::StrCat("fc", layer), "output_gradient_norm")] = {{0}, {norm}};
  }
  seed.series[LayerSeries("head", "output_gradient_norm")] = {{0}, {123}};
}

StudyRun Explosion(double excess) {
  return MadeUp("explosion", [excess](const std::string& part, const CellRun& cell, SeedRun& seed) {
    double number = 0;
    if (part == "growth") {
      EXPECT_TRUE(absl::SimpleAtod(cell.levels[1], &number));
      const int batch = static_cast<int>(number);
      PutGrowth(seed,
                (cell.levels[0] == "ReLU" ? ReluGrowth(batch) : LinearGrowth(batch)) * (1 + excess),
                40);
    } else if (part == "skips") {
      PutGrowth(seed, cell.levels[0] == "with" ? 1.1 : 1.49, 40);
    } else {
      EXPECT_TRUE(absl::SimpleAtod(cell.levels[0], &number));
      PutTraining(seed, number > 50 ? 0.12 + Jitter(seed, 0.01) : 0.8 + Jitter(seed, 0.01));
    }
  });
}

TEST(AnalysisTest, ExplosionAgreesWithTheClosedFormOrNot) {
  const Report report = MakeReport(Explosion(0));
  ExpectWellFormed(report);
  const auto claims = Claims(report);
  for (const char* id : {"relu", "linear", "skips", "shallow", "deep"}) {
    EXPECT_EQ(claims.at(id).verdict, Verdict::kSupported) << id << ": " << claims.at(id).reason;
  }
  // 39 layers of 1.49/1.1.
  EXPECT_NEAR(std::log10(*claims.at("skips").value), 39 * std::log10(1.49 / 1.1), 1e-6);
  EXPECT_EQ(claims.at("relu").unit, "%");
  EXPECT_THAT(claims.at("relu").rule, HasSubstr("3% at B = 8"));
  EXPECT_EQ(claims.at("skips").paper, "not in the paper");
  EXPECT_THAT(claims.at("shallow").statement,
              HasSubstr("Nets of at most 20 layers (half of 16/ln(rate) = 40) train; depth 40 is "
                        "not judged (0.80 ["));
  EXPECT_THAT(report.subtitle, HasSubstr("5 seeds"));
  // Batch norm whose backward pass ignores the statistics grows by 1.6% too much at a batch of 64.
  const auto wrong = Claims(MakeReport(Explosion(0.016)));
  EXPECT_EQ(wrong.at("relu").verdict, Verdict::kNotSupported) << wrong.at("relu").reason;
  const auto& chart = std::get<report::LineChart>(ChartOf(report, "explosion-depth").body);
  ASSERT_EQ(chart.lines.size(), 16U);
  EXPECT_TRUE(chart.lines[1].reference);
  EXPECT_NEAR(chart.lines[0].y[5] / chart.lines[1].y[5], 1, 0.01);
}

TEST(AnalysisTest, ThreeSeedsOfTrainingAreEnoughForLargeEffects) {
  StudyRun run = Explosion(0);
  for (CellRun& cell : run.parts[2].cells) {
    cell.seeds.resize(3);
  }
  auto claims = Claims(MakeReport(run));
  EXPECT_EQ(claims.at("deep").verdict, Verdict::kSupported) << claims.at("deep").reason;
  EXPECT_EQ(claims.at("shallow").verdict, Verdict::kSupported) << claims.at("shallow").reason;
  for (SeedRun& seed : run.parts[2].cells.back().seeds) {
    PutTraining(seed, 0.35 + Jitter(seed, 0.01));  // below 0.5, but far from chance
  }
  EXPECT_EQ(Claims(MakeReport(run)).at("deep").verdict, Verdict::kInconclusive);
}

TEST(AnalysisTest, CovariateShiftIsAnExistenceClaim) {
  const auto fill = [](double worse_layer, double others) {
    return [=](const std::string& part, const CellRun& cell, SeedRun& seed) {
      PutTraining(seed, 0.8);
      const bool batch = cell.levels[0] == kBatchNorm;
      for (int layer = 1; layer <= 5; ++layer) {
        // As in a VGG: a normalizer between them changes the names.
        const std::string name = absl::StrCat("features.", layer * (batch ? 4 : 3));
        const double factor = !batch ? 1 : layer == 3 ? worse_layer : others;
        const double value = layer == 1 ? 0 : factor * (1 + Jitter(seed, batch ? 0.05 : 0.02));
        PutConstant(seed, LayerSeries(name, "covariate_shift"), value);
        PutConstant(seed, LayerSeries(name, "covariate_shift_relative"),
                    part == "vgg" ? 1 / std::max(value, 0.1) : value);
        PutConstant(seed, LayerSeries(name, "covariate_shift_cosine"),
                    batch ? 0.2 + Jitter(seed, 0.01) : 0.9);
      }
    };
  };
  const Report report = MakeReport(MadeUp("covariate-shift", fill(5, 0.1)));
  ExpectWellFormed(report);
  const auto claims = Claims(report);
  EXPECT_EQ(claims.at("vgg-length").verdict, Verdict::kSupported) << claims.at("vgg-length").reason;
  EXPECT_THAT(claims.at("vgg-length").reason, HasSubstr("middle third"));
  EXPECT_EQ(claims.at("vgg-cosine").verdict, Verdict::kSupported);
  const auto reduced = Claims(MakeReport(MadeUp("covariate-shift", fill(0.2, 0.1))));
  EXPECT_EQ(reduced.at("vgg-length").verdict, Verdict::kNotSupported)
      << reduced.at("vgg-length").reason;
}

StudyRun ThreeModes(double noisy_accuracy, bool noise_diverges) {
  return MadeUp("three-modes", [=](const std::string&, const CellRun& cell, SeedRun& seed) {
    const std::string& mode = cell.levels[0];
    const double accuracy = mode == "standard"      ? 0.70
                            : mode == "noise alone" ? 0.60
                            : mode == "batch norm"  ? 0.82
                                                    : noisy_accuracy;
    PutTraining(seed, accuracy + Jitter(seed, mode == "batch norm" ? 0.004 : 0.003));
    seed.series["test/accuracy_reestimated"] = {{kSteps}, {accuracy + Jitter(seed, 0.004)}};
    const bool plain = mode == "standard" || mode == "noise alone";
    for (const char* layer :
         {plain ? "features.0" : "features.1", plain ? "features.3" : "features.4"}) {
      PutConstant(seed, LayerSeries(layer, "activation_shift"),
                  (absl::StrContains(mode, "nois") ? 0.4 : 0.02) * (1 + Jitter(seed, 0.1)));
      PutConstant(seed, LayerSeries(layer, "pre_variance"), 1);
    }
    if (mode == "noise alone" && noise_diverges) {
      seed.job.set_state(v1::Job::DIVERGED);
    }
  });
}

TEST(AnalysisTest, ThreeModesJudgesShiftAndAccuracy) {
  const Report report = MakeReport(ThreeModes(0.815, false));
  ExpectWellFormed(report);
  for (const auto& [id, claim] : Claims(report)) {
    EXPECT_EQ(claim.verdict, Verdict::kSupported) << id << ": " << claim.reason;
  }
  const auto worse = Claims(MakeReport(ThreeModes(0.65, true)));
  EXPECT_EQ(worse.at("comparable").verdict, Verdict::kNotSupported);
  EXPECT_EQ(worse.at("better").verdict, Verdict::kNotSupported);
  EXPECT_EQ(worse.at("control").diverged, 5);
  EXPECT_NEAR(*worse.at("control").value, 0.6, 1e-9);  // 0.70 - chance
}

TEST(AnalysisTest, LearningRateCountsCells) {
  const StudyRun run =
      MadeUp("learning-rate", [](const std::string&, const CellRun& cell, SeedRun& seed) {
        double scale = 0;
        double rate = 0;
        EXPECT_TRUE(absl::SimpleAtod(cell.levels[1], &scale) &&
                    absl::SimpleAtod(cell.levels[2], &rate));
        const bool batch = cell.levels[0] == kBatchNorm;
        // Without batch norm only scale 1 trains, and rates up to 0.1; one seed also 0.01 at scale 3.
        const bool trains = batch ? rate >= 0.01 && rate <= 1
                                  : (scale == 1 && rate >= 0.01 && rate <= 0.1) ||
                                        (seed.seed == 3 && scale == 3 && rate == 0.01);
        PutTraining(seed, trains ? 0.8 : 0.2);
        if (!batch && rate == 10) {
          seed.job.set_state(v1::Job::DIVERGED);
        }
      });
  const Report report = MakeReport(run);
  ExpectWellFormed(report);
  const auto claims = Claims(report);
  EXPECT_EQ(claims.at("cells").verdict, Verdict::kSupported);
  EXPECT_NEAR(*claims.at("cells").value, 15 - (2 + 1 / 5.0), 1e-9);
  EXPECT_EQ(claims.at("cells").diverged, 25);
  EXPECT_EQ(claims.at("cells").jobs, 250);
  EXPECT_NEAR(*claims.at("rate").value, 10, 1e-6);
  EXPECT_EQ(claims.at("rate").jobs, 50) << "only scale 1";
  EXPECT_EQ(claims.at("rate").diverged, 5);
  EXPECT_NEAR(*claims.at("scale").value, 5 - (1 + 1 / 5.0), 1e-9);
  // A lost job at another scale takes the seed from the claims that look there, and from no other.
  StudyRun without = run;
  for (CellRun& cell : without.parts[0].cells) {
    if (cell.levels[1] == "10") {
      cell.seeds[0].job.set_state(v1::Job::FAILED);
    }
  }
  const auto fewer = Claims(MakeReport(without));
  EXPECT_EQ(fewer.at("rate").seeds, 5);
  EXPECT_EQ(fewer.at("cells").seeds, 4);
  const auto& map = std::get<report::HeatMap>(ChartOf(report, "rates-none").body);
  EXPECT_NEAR(map.values[2 * 5 + 1], 0.8, 1e-9);
  EXPECT_THAT(map.texts[4], HasSubstr("5 diverged"));
}

TEST(AnalysisTest, ThreeFactorsAreJudgedPerActivation) {
  const StudyRun run =
      MadeUp("three-factors", [](const std::string&, const CellRun& cell, SeedRun& seed) {
        PutTraining(seed, 0.8);
        const bool batch = cell.levels[1] != "none";
        const bool relu = cell.levels[0] == "ReLU";
        const double factor = batch ? 0.2 * (1 + Jitter(seed, 0.1)) : 1;
        PutConstant(seed, "landscape/smoothness", factor);
        PutConstant(seed, "gradient_noise/second_moment", factor);
        PutConstant(seed, "gradient_noise/variance", batch && !relu ? 1 / factor : factor);
      });
  const Report report = MakeReport(run);
  ExpectWellFormed(report);
  for (const auto& [id, claim] : Claims(report)) {
    EXPECT_EQ(claim.verdict, Verdict::kSupported) << id << ": " << claim.reason;
  }
  EXPECT_THAT(Claims(report).at("selu").reason, HasSubstr("Var g"));
  EXPECT_GT(*Claims(report).at("relu").value, 1) << "one sign for all: none over batch norm";
  EXPECT_LT(*Claims(report).at("selu").value, 1);
  // Three normalizers, four activations, three factors.
  EXPECT_EQ(report.sections[1].tables.at(0).rows.size(), 36U);
}

TEST(AnalysisTest, NormalizersAreComparedAcrossBatchSizes) {
  const StudyRun run =
      MadeUp("normalizers", [](const std::string&, const CellRun& cell, SeedRun& seed) {
        const bool small = cell.levels[1] == "2";
        const bool batch = cell.levels[0] == "batch";
        PutTraining(seed, (batch && small ? 0.6 : 0.8) + Jitter(seed, batch ? 0.003 : 0.002));
        if (batch) {
          seed.series["test/accuracy_reestimated"] = {{kSteps},
                                                      {small ? 0.7 + Jitter(seed, 0.01) : 0.8}};
        }
      });
  const Report report = MakeReport(run);
  ExpectWellFormed(report);
  for (const auto& [id, claim] : Claims(report)) {
    EXPECT_EQ(claim.verdict, Verdict::kSupported) << id << ": " << claim.reason;
  }
}

TEST(AnalysisTest, SmallSharesLoseAndSynchronizingGivesBack) {
  const StudyRun run = MadeUp("sync-batch", [](const std::string& part, const CellRun& cell,
                                               SeedRun& seed) {
    const bool ranks = part == "ranks";
    const bool small = cell.levels[0] == "2" && (!ranks || cell.levels[1] == "local");
    PutTraining(seed, (small ? 0.6 : 0.8) + Jitter(seed, small ? 0.003 : 0.002));
    seed.series["test/accuracy_reestimated"] = {{kSteps}, {small ? 0.7 + Jitter(seed, 0.01) : 0.8}};
  });
  const Report report = MakeReport(run);
  ExpectWellFormed(report);
  EXPECT_EQ(report.claims.size(), 6U);
  for (const auto& [id, claim] : Claims(report)) {
    EXPECT_EQ(claim.verdict, Verdict::kSupported) << id << ": " << claim.reason;
  }
}

TEST(AnalysisTest, EachNormalizerIsJudgedAtItsBestRate) {
  const auto plan = MakePlan("normalizers", {.preset = "paper"});
  ASSERT_TRUE(plan.ok()) << plan.status();
  StudyRun run = EmptyRun(*plan);
  for (CellRun& cell : run.parts.at(0).cells) {
    for (SeedRun& seed : cell.seeds) {
      seed.job.set_state(v1::Job::SUCCEEDED);
      const std::string best = cell.levels[1] == "2" ? "0.025" : "0.1";
      PutTraining(seed, (cell.levels[2] == best ? 0.8 : 0.5) + Jitter(seed, 0.003));
      PutConstant(seed, "test/accuracy_reestimated", 0.8);
      if (cell.levels[2] == "0.4") {
        seed.job.set_state(v1::Job::DIVERGED);
      }
    }
  }
  const Report report = MakeReport(run);
  ExpectWellFormed(report);
  const auto claims = Claims(report);
  EXPECT_NEAR(*claims.at("group-norm-steady").value, 0, 1e-9);
  EXPECT_THAT(claims.at("group-norm-steady").rule, HasSubstr("learning rate of the grid"));
  EXPECT_EQ(claims.at("group-norm-steady").diverged, 0);
}

TEST(AnalysisTest, AffineComparesWithAndWithout) {
  const StudyRun run = MadeUp("affine", [](const std::string& part, const CellRun& cell,
                                           SeedRun& seed) {
    const bool with = cell.levels.back() == "with gamma and beta";
    PutTraining(seed, 0.85 + Jitter(seed, with ? 0.002 : 0.003));
    for (const char* layer : {"fc1", "fc2", "fc3"}) {
      PutConstant(seed, LayerSeries(layer, "post_variance"), with ? 1.5 + Jitter(seed, 0.1) : 1);
    }
    if (part == "recovery") {
      seed.series["test/loss"] = {{kSteps}, {(with ? 0.004 : 5) * (1 + Jitter(seed, 0.1))}};
    } else if (!with && cell.levels[0] == "sigmoid") {
      Put(
          seed, "train/loss", [&](int) { return 0.7 + Jitter(seed, 0.01); }, 1);
    }
  });
  const Report report = MakeReport(run);
  ExpectWellFormed(report);
  for (const auto& [id, claim] : Claims(report)) {
    EXPECT_EQ(claim.verdict, Verdict::kSupported) << id << ": " << claim.reason;
  }
  EXPECT_NEAR(*Claims(report).at("used").value, 0.5, 0.01);
  StudyRun diverged = run;
  for (CellRun& cell : diverged.parts[1].cells) {
    for (SeedRun& seed : cell.seeds) {
      seed.job.set_state(v1::Job::DIVERGED);
    }
  }
  EXPECT_EQ(Claims(MakeReport(diverged)).at("used").verdict, Verdict::kNotSupported);
}

}  // namespace
}  // namespace normlab::client::studies
