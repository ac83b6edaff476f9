// The claims of each study but the landscape (analysis_test.cc), on made-up runs of known answer.
#include <cmath>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/studies/analysis.h"
#include "client/studies/closed_forms.h"
#include "client/studies/measure.h"
#include "client/studies/testing/made_up_run.h"

namespace normlab::client::studies {
namespace {

using report::Report;
using report::Verdict;
using ::testing::HasSubstr;

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

TEST(StudiesTest, ExplosionAgreesWithTheClosedFormOrNot) {
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

TEST(StudiesTest, ThreeSeedsOfTrainingAreEnoughForLargeEffects) {
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

TEST(StudiesTest, CovariateShiftIsAnExistenceClaim) {
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

TEST(StudiesTest, ThreeModesJudgesShiftAndAccuracy) {
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

TEST(StudiesTest, LearningRateCountsCells) {
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

TEST(StudiesTest, ThreeFactorsAreJudgedPerActivation) {
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

TEST(StudiesTest, NormalizersAreComparedAcrossBatchSizes) {
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

// Where statistics are local, accuracy is `at_2` and `at_4` with so many examples, else 0.8.
StudyRun SmallShares(double at_2, double at_4) {
  return MadeUp("sync-batch", [=](const std::string& part, const CellRun& cell, SeedRun& seed) {
    const bool local = part != "ranks" || cell.levels[1] == "local";
    const bool two = local && cell.levels[0] == "2";
    const double accuracy = two ? at_2 : local && cell.levels[0] == "4" ? at_4 : 0.8;
    PutTraining(seed, accuracy + Jitter(seed, accuracy < 0.8 ? 0.003 : 0.002));
    seed.series["test/accuracy_reestimated"] = {{kSteps}, {two ? 0.7 + Jitter(seed, 0.01) : 0.8}};
  });
}

TEST(StudiesTest, SmallSharesLoseAndSynchronizingGivesBack) {
  const Report report = MakeReport(SmallShares(0.6, 0.75));
  ExpectWellFormed(report);
  EXPECT_EQ(report.claims.size(), 8U);
  for (const auto& [id, claim] : Claims(report)) {
    EXPECT_EQ(claim.verdict, Verdict::kSupported) << id << ": " << claim.reason;
  }
}

TEST(StudiesTest, WhatSharesLoseIsJudgedAtFourAndNotAtTheDegenerateTwo) {
  const auto only_two = Claims(MakeReport(SmallShares(0.6, 0.8)));
  for (const char* id : {"share-of-4", "small-shares"}) {
    EXPECT_NE(only_two.at(id).verdict, Verdict::kSupported) << id << ": " << only_two.at(id).reason;
  }
  for (const char* id : {"degenerate-share-of-2", "degenerate-small-shares"}) {
    const auto& claim = only_two.at(id);
    EXPECT_EQ(claim.verdict, Verdict::kSupported) << id << ": " << claim.reason;
    EXPECT_THAT(claim.statement, HasSubstr("Degenerate case"));
    EXPECT_EQ(claim.source, "this study");
  }
  // Better with small shares: the contrary of the claim.
  const auto contrary = Claims(MakeReport(SmallShares(0.6, 0.85)));
  for (const char* id : {"share-of-4", "small-shares"}) {
    EXPECT_EQ(contrary.at(id).verdict, Verdict::kNotSupported)
        << id << ": " << contrary.at(id).reason;
  }
}

TEST(StudiesTest, EachNormalizerIsJudgedAtItsBestRate) {
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

TEST(StudiesTest, AffineComparesWithAndWithout) {
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
