// Made-up data with a known answer.
#include "client/studies/verdict.h"

#include <cmath>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/studies/run.h"

namespace normlab::client::studies {
namespace {

using report::Claim;
using report::Verdict;
using ::testing::AllOf;
using ::testing::HasSubstr;

const double kNan = std::nan("");

ClaimText Text(const std::string& id = "claim") {
  return {.id = id,
          .statement = "It is so.",
          .source = "Somebody 2020",
          .quantity = "difference",
          .paper = "3"};
}

SeedRun Job(v1::Job::State state) {
  SeedRun seed;
  seed.job.set_state(state);
  return seed;
}

template <typename Add>
Claim JudgeOne(const Add& add) {
  Verdicts verdicts;
  add(verdicts);
  const std::vector<Claim> claims = verdicts.Judge();
  EXPECT_EQ(claims.size(), 1U);
  return claims.front();
}

TEST(VerdictTest, AClearEffectOnTheClaimsSideIsSupported) {
  const Claim claim = JudgeOne([](Verdicts& v) {
    v.Above(Text(), {.values = {0.11, 0.09, 0.10, 0.12, 0.08}}, 0);
  });
  EXPECT_EQ(claim.verdict, Verdict::kSupported) << claim.reason;
  ASSERT_TRUE(claim.value.has_value() && claim.interval.has_value());
  EXPECT_NEAR(*claim.value, 0.10, 1e-12);
  // t(0.975, 4) = 2.776445, sd = 0.0158114.
  constexpr double kRounding = 1e-6;
  EXPECT_NEAR(claim.interval->low, 0.10 - 2.776445 * 0.0158114 / std::sqrt(5.0), kRounding);
  EXPECT_NEAR(claim.interval->high, 0.10 + 2.776445 * 0.0158114 / std::sqrt(5.0), kRounding);
  EXPECT_EQ(claim.seeds, 5);
  EXPECT_EQ(claim.diverged, 0);
  EXPECT_THAT(claim.rule,
              AllOf(HasSubstr("above 0"), HasSubstr("Holm"), HasSubstr("at least 5 seeds")));
  EXPECT_THAT(claim.reason, HasSubstr("over 5 seeds"));
  EXPECT_EQ(claim.paper, "3");
}

TEST(VerdictTest, AClearEffectOnTheOtherSideIsNotSupported) {
  const Claim claim = JudgeOne([](Verdicts& v) {
    v.Above(Text(), {.values = {-0.11, -0.09, -0.10, -0.12, -0.08}}, 0);
  });
  EXPECT_EQ(claim.verdict, Verdict::kNotSupported) << claim.reason;
  const Claim below = JudgeOne([](Verdicts& v) {
    v.Below(Text(), {.values = {-0.11, -0.09, -0.10, -0.12, -0.08}}, 0);
  });
  EXPECT_EQ(below.verdict, Verdict::kSupported) << below.reason;
}

TEST(VerdictTest, AnEffectWithinTheNoiseIsInconclusive) {
  const Claim claim = JudgeOne([](Verdicts& v) {
    v.Above(Text(), {.values = {0.11, -0.09, 0.10, -0.12, 0.03}}, 0);
  });
  EXPECT_EQ(claim.verdict, Verdict::kInconclusive);
  EXPECT_THAT(claim.reason, HasSubstr("too uncertain"));
  // Above 0 for sure, but not above the threshold.
  const Claim threshold = JudgeOne([](Verdicts& v) {
    v.Above(Text(), {.values = {0.11, 0.09, 0.10, 0.12, 0.08}}, 0.1);
  });
  EXPECT_EQ(threshold.verdict, Verdict::kInconclusive);
}

TEST(VerdictTest, DivergedSeedsCountWithTheirValueAndAreShown) {
  // Accuracy differences of five seeds, in two of which the other net diverged and counts as chance.
  const std::vector<SeedRun> jobs = {Job(v1::Job::SUCCEEDED), Job(v1::Job::DIVERGED),
                                     Job(v1::Job::DIVERGED)};
  const Claim claim = JudgeOne([&](Verdicts& v) {
    v.Above(Text(),
            {.values = {0.70, 0.72, 0.71, 0.69, 0.72}, .jobs = {&jobs[0], &jobs[1], &jobs[2]}}, 0);
  });
  EXPECT_EQ(claim.verdict, Verdict::kSupported);
  EXPECT_EQ(claim.seeds, 5);
  EXPECT_EQ(claim.diverged, 2);
  // One that diverges on the claimed side takes the certainty away.
  const Claim mixed = JudgeOne([&](Verdicts& v) {
    v.Above(Text(), {.values = {0.03, 0.02, 0.03, 0.02, -0.7}, .jobs = {&jobs[0], &jobs[1]}}, 0);
  });
  EXPECT_EQ(mixed.verdict, Verdict::kInconclusive);
  EXPECT_EQ(mixed.diverged, 1);
}

TEST(VerdictTest, AJobBehindSeveralConditionsCountsOnce) {
  const std::vector<SeedRun> jobs = {Job(v1::Job::DIVERGED), Job(v1::Job::SUCCEEDED),
                                     Job(v1::Job::DIVERGED)};
  const std::vector<double> values = {1.0, 1.1, 0.9, 1.0, 1.05};
  const Claim claim = JudgeOne([&](Verdicts& v) {
    v.AllAbove(Text(),
               {{.values = values, .jobs = {&jobs[0], &jobs[1]}},
                {.values = values, .jobs = {&jobs[0], &jobs[2]}},
                {.values = values, .jobs = {&jobs[0], &jobs[1]}}},
               0);
  });
  EXPECT_EQ(claim.seeds, 5);
  EXPECT_EQ(claim.jobs, 3);
  EXPECT_EQ(claim.diverged, 2);
}

TEST(VerdictTest, LogarithmsArePrintedAsWhatTheyAreLogarithmsOf) {
  ClaimText text = Text();
  text.shown = Shown::kTimes;
  const Claim times = JudgeOne([&](Verdicts& v) {
    v.Above(text, {.values = {2.0, 2.1, 1.9, 2.05, 1.95}}, 0, 1);
  });
  EXPECT_NEAR(*times.value, 100, 1e-9);
  EXPECT_GT(times.interval->low, 50);
  EXPECT_EQ(times.unit, " times");
  EXPECT_THAT(times.reason, AllOf(HasSubstr("100 times ["), HasSubstr("lies above 1 times")));
  EXPECT_THAT(times.rule, AllOf(HasSubstr("above 1 times"), HasSubstr("lies above 10 times")));
  text.shown = Shown::kPercent;
  const Claim percent = JudgeOne([&](Verdicts& v) {
    v.AllAgree(text,
               {{{.name = "B = 8", .values = {-0.01, -0.011, -0.009, -0.0105, -0.0095}}, 0.03}});
  });
  EXPECT_NEAR(*percent.value, -0.995, 1e-3);
  EXPECT_THAT(percent.reason, HasSubstr("B = 8: -0.995% ["));
  EXPECT_THAT(percent.rule, HasSubstr("3% at B = 8"));
}

TEST(VerdictTest, WhatFailsItsPreconditionIsShownAndNotJudged) {
  Verdicts verdicts;
  verdicts.Precondition("Only if it trains.", "it did not train");
  verdicts.Above(Text("stuck"), {.values = {0.11, 0.09, 0.10, 0.12, 0.08}}, 0);
  verdicts.Precondition("", std::nullopt);
  // Alone p = 0.02: a second claim of the family would take it away.
  verdicts.Above(Text("weak"), {.values = {0.010, 0.030, 0.022, 0.005, 0.033}}, 0);
  const std::vector<Claim> claims = verdicts.Judge();
  EXPECT_EQ(claims[0].verdict, Verdict::kInconclusive);
  EXPECT_THAT(claims[0].reason, AllOf(HasSubstr("it did not train"), HasSubstr("0.1 [")));
  EXPECT_THAT(claims[0].rule, HasSubstr("Only if it trains. Supported if"));
  EXPECT_NEAR(*claims[0].value, 0.1, 1e-12);
  EXPECT_EQ(claims[0].seeds, 5);
  EXPECT_EQ(claims[1].verdict, Verdict::kSupported);
  EXPECT_EQ(claims[1].rule.find("Only if"), std::string::npos);
}

TEST(VerdictTest, AClaimOfOursHasNoPaper) {
  const auto paper = [](const std::string& source) {
    return JudgeOne([&](Verdicts& v) {
             v.Above({.id = "x", .statement = "S.", .source = source, .quantity = "q"},
                     {.values = {1, 2}}, 0);
           })
        .paper;
  };
  EXPECT_EQ(paper("this study: a control"), "not in the paper");
  EXPECT_EQ(paper("Somebody 2020"), "");
}

TEST(VerdictTest, FewerThanFiveSeedsNeedALargeEffectInEverySeed) {
  const std::vector<double> three = {3.2, 3.1, 3.3};
  EXPECT_EQ(JudgeOne([&](Verdicts& v) { v.Above(Text(), {.values = three}, 0); }).verdict,
            Verdict::kInconclusive);
  const Claim large = JudgeOne([&](Verdicts& v) { v.Above(Text(), {.values = three}, 0, 3.0); });
  EXPECT_EQ(large.verdict, Verdict::kSupported) << large.reason;
  EXPECT_THAT(large.rule, HasSubstr("3 of which every one lies above 3"));
  const Claim one_is_small = JudgeOne([](Verdicts& v) {
    v.Above(Text(), {.values = {3.2, 3.1, 2.9}}, 0, 3.0);
  });
  EXPECT_EQ(one_is_small.verdict, Verdict::kInconclusive);
  EXPECT_THAT(one_is_small.reason, HasSubstr("too few seeds: 3"));
  // As large on the other side.
  const Claim opposite = JudgeOne([](Verdicts& v) {
    v.Above(Text(), {.values = {-3.2, -3.1, -3.3}}, 0, 3.0);
  });
  EXPECT_EQ(opposite.verdict, Verdict::kNotSupported) << opposite.reason;
  // Large in every seed, but so different that the test says nothing.
  const Claim wild = JudgeOne([](Verdicts& v) {
    v.Above(Text(), {.values = {3, 300, 8}}, 0, 3.0);
  });
  EXPECT_EQ(wild.verdict, Verdict::kInconclusive);
  const Claim two = JudgeOne([](Verdicts& v) { v.Above(Text(), {.values = {30, 31}}, 0, 3.0); });
  EXPECT_EQ(two.verdict, Verdict::kInconclusive);
  EXPECT_THAT(two.reason, HasSubstr("too few seeds: 2"));
}

TEST(VerdictTest, MissingSeedsAreNotCounted) {
  const Claim claim = JudgeOne([](Verdicts& v) {
    v.Above(Text(), {.values = {0.11, 0.09, 0.10, kNan, 0.08}}, 0);
  });
  EXPECT_EQ(claim.verdict, Verdict::kInconclusive);
  EXPECT_EQ(claim.seeds, 4);
  EXPECT_THAT(claim.reason, HasSubstr("1 of the values are missing"));
  const Claim none = JudgeOne([](Verdicts& v) { v.Above(Text(), {.values = {kNan, kNan}}, 0); });
  EXPECT_EQ(none.verdict, Verdict::kInconclusive);
  EXPECT_FALSE(none.value.has_value());
  EXPECT_FALSE(none.interval.has_value());
  const Claim empty = JudgeOne([](Verdicts& v) { v.SomeAbove(Text(), {}, 0); });
  EXPECT_EQ(empty.verdict, Verdict::kInconclusive);
}

TEST(VerdictTest, HolmAdjustsOverTheClaimsOfAStudy) {
  // p = 0.02 alone, t = 3.75 of 4 degrees of freedom.
  const std::vector<double> weak = {0.010, 0.030, 0.022, 0.005, 0.033};
  const auto judge = [&](int others) {
    Verdicts verdicts;
    verdicts.Above(Text("weak"), {.values = weak}, 0);
    for (int i = 0; i < others; ++i) {
      verdicts.Above(Text("noise"), {.values = {1, -1, 0.5, -0.5, 0.1}}, 0);
    }
    return verdicts.Judge().front().verdict;
  };
  EXPECT_EQ(judge(0), Verdict::kSupported);
  EXPECT_EQ(judge(4), Verdict::kInconclusive);
  Verdicts five;
  five.Above(Text("weak"), {.values = weak}, 0);
  for (int i = 0; i < 4; ++i) {
    five.Above(Text("noise"), {.values = {1, -1, 0.5, -0.5, 0.1}}, 0);
  }
  EXPECT_THAT(five.Judge().front().reason,
              AllOf(HasSubstr("among 5 claims (alone p = 0.02"), HasSubstr("Holm's adjustment")));
  // What cannot be judged takes no certainty from the others.
  Verdicts verdicts;
  verdicts.Above(Text("weak"), {.values = weak}, 0);
  for (int i = 0; i < 4; ++i) {
    verdicts.Untested(Text("untested"), "Judged if.", "the standard net did not train");
  }
  const std::vector<Claim> claims = verdicts.Judge();
  ASSERT_EQ(claims.size(), 5U);
  EXPECT_EQ(claims.front().verdict, Verdict::kSupported);
  EXPECT_EQ(claims.back().verdict, Verdict::kInconclusive);
  EXPECT_EQ(claims.back().reason, "the standard net did not train.");
}

TEST(VerdictTest, EquivalenceNeedsTheIntervalWithinTheMargin) {
  const auto judge = [](std::vector<double> values) {
    return JudgeOne([&](Verdicts& v) { v.Equivalent(Text(), {.values = std::move(values)}, 0.02); })
        .verdict;
  };
  EXPECT_EQ(judge({0.001, -0.002, 0.003, 0.000, -0.001}), Verdict::kSupported);
  // Different from 0 for sure, and still comparable.
  EXPECT_EQ(judge({0.010, 0.011, 0.009, 0.010, 0.010}), Verdict::kSupported);
  EXPECT_EQ(judge({0.06, 0.07, 0.05, 0.06, 0.06}), Verdict::kNotSupported);
  EXPECT_EQ(judge({-0.06, -0.07, -0.05, -0.06, -0.06}), Verdict::kNotSupported);
  // No difference, but too noisy to be sure of it.
  EXPECT_EQ(judge({0.05, -0.05, 0.04, -0.04, 0.00}), Verdict::kInconclusive);
}

TEST(VerdictTest, AllMustLieAbove) {
  const Sample clear = {.name = "clear", .values = {1.0, 1.1, 0.9, 1.0, 1.05}};
  const Sample noise = {.name = "noise", .values = {1.0, -1.1, 0.9, -1.0, 0.05}};
  const Sample contrary = {.name = "contrary", .values = {-1.0, -1.1, -0.9, -1.0, -1.05}};
  const Claim all = JudgeOne([&](Verdicts& v) { v.AllAbove(Text(), {clear, clear}, 0); });
  EXPECT_EQ(all.verdict, Verdict::kSupported);
  const Claim weakest = JudgeOne([&](Verdicts& v) { v.AllAbove(Text(), {clear, noise}, 0); });
  EXPECT_EQ(weakest.verdict, Verdict::kInconclusive);
  EXPECT_NEAR(*weakest.value, -0.03, 1e-12);
  EXPECT_THAT(weakest.reason, HasSubstr("noise"));
  EXPECT_EQ(JudgeOne([&](Verdicts& v) {
              v.AllAbove(Text(), {clear, contrary}, 0);
            }).verdict,
            Verdict::kNotSupported);
}

TEST(VerdictTest, ExistenceNeedsOneAndPaysForTheSearch) {
  const Sample clear = {.name = "clear", .values = {1.0, 1.1, 0.9, 1.0, 1.05}};
  const Sample contrary = {.name = "contrary", .values = {-1.0, -1.1, -0.9, -1.0, -1.05}};
  const Claim found = JudgeOne([&](Verdicts& v) {
    v.SomeAbove(Text(), {contrary, contrary, clear, contrary}, 0);
  });
  EXPECT_EQ(found.verdict, Verdict::kSupported);
  EXPECT_NEAR(*found.value, 1.01, 1e-12);
  EXPECT_THAT(found.reason, HasSubstr("clear"));
  EXPECT_EQ(JudgeOne([&](Verdicts& v) {
              v.SomeAbove(Text(), {contrary, contrary}, 0);
            }).verdict,
            Verdict::kNotSupported);
  // p = 0.02 in one of ten is what chance gives.
  std::vector<Sample> many(9, Sample{.name = "noise", .values = {1, -1, 0.5, -0.5, 0.1}});
  many.push_back({.name = "weak", .values = {0.010, 0.030, 0.022, 0.005, 0.033}});
  EXPECT_EQ(JudgeOne([&](Verdicts& v) { v.SomeAbove(Text(), many, 0); }).verdict,
            Verdict::kInconclusive);
}

TEST(VerdictTest, ExistenceBelowIsTheMirrorImage) {
  const Sample clear = {.name = "clear", .values = {-1.0, -1.1, -0.9, -1.0, -1.05}};
  const Sample contrary = {.name = "contrary", .values = {1.0, 1.1, 0.9, 1.0, 1.05}};
  const Claim found = JudgeOne([&](Verdicts& v) {
    v.SomeBelow(Text(), {contrary, clear, contrary}, 0);
  });
  EXPECT_EQ(found.verdict, Verdict::kSupported);
  EXPECT_THAT(found.reason, AllOf(HasSubstr("clear"), HasSubstr("lies below 0")));
  EXPECT_EQ(JudgeOne([&](Verdicts& v) {
              v.SomeBelow(Text(), {contrary, contrary}, 0);
            }).verdict,
            Verdict::kNotSupported);
}

TEST(VerdictTest, AgreementIsJudgedByEveryConditionsOwnTolerance) {
  const Sample close = {.name = "B = 64", .values = {0.001, -0.002, 0.000, 0.002, -0.001}};
  const Sample off = {.name = "B = 8", .values = {0.020, 0.021, 0.019, 0.020, 0.020}};
  const auto judge = [](std::vector<Verdicts::Agreement> agreements) {
    return JudgeOne([&](Verdicts& v) { v.AllAgree(Text(), std::move(agreements)); });
  };
  EXPECT_EQ(judge({{close, 0.01}, {off, 0.03}}).verdict, Verdict::kSupported);
  const Claim refuted = judge({{close, 0.01}, {off, 0.01}});
  EXPECT_EQ(refuted.verdict, Verdict::kNotSupported);
  EXPECT_NEAR(*refuted.value, 0.02, 1e-12);
  EXPECT_THAT(refuted.rule, HasSubstr("1% at B = 64"));
  const Sample noisy = {.name = "B = 8", .values = {0.05, -0.05, 0.04, -0.04, 0.00}};
  EXPECT_EQ(judge({{close, 0.01}, {noisy, 0.03}}).verdict, Verdict::kInconclusive);
}

TEST(VerdictTest, EqualSeedsAreCertain) {
  const std::vector<double> equal(5, 2.0);
  EXPECT_EQ(JudgeOne([&](Verdicts& v) { v.Above(Text(), {.values = equal}, 0); }).verdict,
            Verdict::kSupported);
  EXPECT_EQ(JudgeOne([&](Verdicts& v) { v.Above(Text(), {.values = equal}, 3); }).verdict,
            Verdict::kNotSupported);
  // Exactly at the threshold nothing follows.
  EXPECT_EQ(JudgeOne([&](Verdicts& v) { v.Above(Text(), {.values = equal}, 2); }).verdict,
            Verdict::kInconclusive);
}

TEST(VerdictTest, SeedsThatAgreeOnAGridAreAsSureAsItsStep) {
  const auto judge = [](double value, double grid_step) {
    Verdicts verdicts;
    verdicts.Above(Text("cells"), {.values = std::vector<double>(5, value), .grid_step = grid_step},
                   0);
    return verdicts.Judge()[0];
  };
  // t = 1 / (1 / sqrt(6) / sqrt(5)) = 5.477 with 4 degrees of freedom.
  const Claim one_step = judge(1, 1);
  EXPECT_EQ(one_step.verdict, Verdict::kSupported);
  EXPECT_THAT(one_step.reason, HasSubstr("adjusted p = 0.0054"));
  EXPECT_NEAR(one_step.interval->low, 1 - 2.7764 / std::sqrt(30.0), 1e-4);
  EXPECT_EQ(judge(0.3, 1).verdict, Verdict::kInconclusive) << "less than a step";
  EXPECT_THAT(judge(1, 0).reason, HasSubstr("adjusted p < 1e-06"));
}

TEST(VerdictTest, AllBelowIsDecidedByTheHighest) {
  Verdicts verdicts;
  verdicts.AllBelow(Text("deep"),
                    {{.name = "depth 60", .values = {0.1, 0.11, 0.1, 0.12, 0.1}},
                     {.name = "depth 80", .values = {0.2, 0.3, 0.25, 0.2, 0.3}}},
                    0.5);
  verdicts.AllBelow(Text("not-deep"),
                    {{.name = "depth 60", .values = {0.1, 0.11, 0.1, 0.12, 0.1}},
                     {.name = "depth 80", .values = {0.8, 0.81, 0.82, 0.8, 0.79}}},
                    0.5);
  const std::vector<Claim> claims = verdicts.Judge();
  EXPECT_EQ(claims[0].verdict, Verdict::kSupported);
  EXPECT_THAT(claims[0].reason, HasSubstr("depth 80: 0.25"));
  EXPECT_THAT(claims[0].reason, HasSubstr("lies below 0.5"));
  EXPECT_EQ(claims[1].verdict, Verdict::kNotSupported);
  EXPECT_THAT(claims[1].reason, HasSubstr("lies above 0.5"));
}

}  // namespace
}  // namespace normlab::client::studies
