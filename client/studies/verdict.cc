#include "client/studies/verdict.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "client/studies/run.h"
#include "client/studies/verdict_text.h"
#include "common/statistics.h"

namespace normlab::client::studies {
namespace {

using common::EquivalenceTest;
using common::TTest;
using report::Claim;
using report::Verdict;

int Count(const Sample& sample) {
  return static_cast<int>(std::count_if(sample.values.begin(), sample.values.end(),
                                        [](double value) { return !std::isnan(value); }));
}

// Whether every seed lies beyond `bound` on one side.
bool EveryBeyond(const Sample& sample, double bound, bool above) {
  return std::all_of(sample.values.begin(), sample.values.end(), [&](double value) {
    return std::isnan(value) || (above ? value >= bound : value <= bound);
  });
}

}  // namespace

int Sample::diverged() const {
  return static_cast<int>(
      std::count_if(jobs.begin(), jobs.end(), [](const SeedRun* job) { return job->diverged(); }));
}

double Sample::least_deviation() const {
  return grid_step / std::sqrt(6.0);
}

void Verdicts::Precondition(std::string rule, std::optional<std::string> obstacle) {
  precondition_ = std::move(rule);
  precondition_fails_ = std::move(obstacle);
}

void Verdicts::Add(Entry entry) {
  if (!precondition_.empty()) {
    entry.claim.rule = absl::StrCat(precondition_, " ", entry.claim.rule);
  }
  if (precondition_fails_.has_value()) {
    entry.tested = false;
    entry.obstacle = *precondition_fails_;
    if (!entry.found.empty()) {
      absl::StrAppend(&entry.obstacle, ". Measured all the same: ", entry.found, " over ",
                      Seeds(entry.claim.seeds));
    }
  }
  entries_.push_back(std::move(entry));
}

// The sample with the fewest seeds decides whether there are enough.
void Verdicts::FindObstacle(Entry& entry, absl::Span<const Sample> samples) {
  int fewest = samples.empty() ? 0 : Count(samples.front());
  Sample all;  // a job may stand behind several conditions
  size_t missing = 0;
  for (const Sample& sample : samples) {
    fewest = std::min(fewest, Count(sample));
    all.jobs.insert(sample.jobs.begin(), sample.jobs.end());
    missing += sample.values.size() - static_cast<size_t>(Count(sample));
  }
  entry.claim.seeds = fewest;
  entry.claim.jobs = static_cast<int>(all.jobs.size());
  entry.claim.diverged = all.diverged();
  if (fewest >= kSeedsForAVerdict) {
    return;
  }
  const std::string lost =
      missing > 0 ? absl::StrCat(" (", missing, " of the values are missing: see the warnings)")
                  : "";
  entry.obstacle =
      absl::StrCat("too few seeds: ", fewest, lost, "; a verdict needs ", kSeedsForAVerdict);
  if (fewest >= kFewestSeeds && (entry.large_support || entry.large_refute)) {
    // The test still has to be significant, on the side of the large effect.
    entry.obstacle.clear();
    entry.p_support = entry.large_support ? entry.p_support : 1;
    entry.p_refute = entry.large_refute ? entry.p_refute : 1;
  }
}

void Verdicts::OneSided(ClaimText text,
                        std::vector<Sample> samples,
                        double threshold,
                        LargeEffect large,
                        bool above,
                        bool all) {
  const bool several = samples.size() > 1;
  const char* const side = above ? "above" : "below";
  const char* const other = above ? "below" : "above";
  const Shown shown_as = text.shown;
  Entry entry{.claim = MakeClaim(std::move(text))};
  entry.p_support = all ? 0 : 1;
  entry.p_refute = all ? 1 : 0;
  entry.large_support = all;
  entry.large_refute = !all;
  const auto count = static_cast<double>(samples.size());
  const Sample* shown = nullptr;
  TTest shown_test;
  double shown_p = 0;
  for (const Sample& sample : samples) {
    const TTest test =
        common::OneSampleTTest(sample.values, threshold, kConfidence, sample.least_deviation());
    // Two-sided, so that either verdict is as hard to get as in a plain t test.
    const double p_side = std::min(1.0, 2 * (above ? test.p_greater : test.p_less));
    const double p_other = std::min(1.0, 2 * (above ? test.p_less : test.p_greater));
    const bool beyond = large.has_value() && EveryBeyond(sample, *large, above);
    const bool opposite = large.has_value() && EveryBeyond(sample, 2 * threshold - *large, !above);
    // Shown: the least certain one of all, the most certain one of some.
    const bool weaker =
        p_side > shown_p || (p_side == shown_p && above == (test.mean < shown_test.mean));
    const bool stronger =
        p_side < shown_p || (p_side == shown_p && above == (test.mean > shown_test.mean));
    if (all) {
      entry.p_support = std::max(entry.p_support, p_side);
      // One that lies on the other side refutes them all.
      entry.p_refute = std::min(entry.p_refute, std::min(1.0, count * p_other));
      entry.large_support = entry.large_support && beyond;
      entry.large_refute = entry.large_refute || opposite;
    } else {
      entry.p_support = std::min(entry.p_support, std::min(1.0, count * p_side));
      entry.p_refute = std::max(entry.p_refute, p_other);
      entry.large_support = entry.large_support || beyond;
      entry.large_refute = entry.large_refute && opposite;
    }
    if (shown == nullptr || (all ? weaker : stronger)) {
      shown_p = p_side;
      shown = &sample;
      shown_test = test;
    }
  }
  if (shown == nullptr) {
    entry.p_support = entry.p_refute = 1;
    entry.large_support = entry.large_refute = false;
  } else {
    SetValue(shown_test, shown_as, entry.claim);
    entry.found = Found(*shown, shown_test, shown_as);
  }
  entry.claim.rule =
      absl::StrCat("Supported if ",
                   several ? (all ? "every condition's mean over seeds lies "
                                  : "at least one condition's mean over seeds lies ")
                           : "the mean over seeds lies ",
                   side, " ", ShownText(shown_as, threshold),
                   " (paired t test at 5%, Holm's adjustment over the study's claims",
                   several && !all ? " and Bonferroni's over the conditions" : "",
                   "), not supported if ", several ? (all ? "one lies " : "all lie ") : "it lies ",
                   other, "; ", FewSeedsRule(large, side, shown_as), ".");
  const std::string bound = ShownText(shown_as, threshold);
  entry.supported = absl::StrCat("lies ", side, " ", bound);
  entry.refuted = absl::StrCat("lies ", other, " ", bound);
  FindObstacle(entry, samples);
  Add(std::move(entry));
}

void Verdicts::Above(ClaimText text, Sample sample, double threshold, LargeEffect large) {
  OneSided(std::move(text), {std::move(sample)}, threshold, large, true, true);
}

void Verdicts::Below(ClaimText text, Sample sample, double threshold, LargeEffect large) {
  OneSided(std::move(text), {std::move(sample)}, threshold, large, false, true);
}

void Verdicts::AllAbove(ClaimText text,
                        std::vector<Sample> samples,
                        double threshold,
                        LargeEffect large) {
  OneSided(std::move(text), std::move(samples), threshold, large, true, true);
}

void Verdicts::AllBelow(ClaimText text,
                        std::vector<Sample> samples,
                        double threshold,
                        LargeEffect large) {
  OneSided(std::move(text), std::move(samples), threshold, large, false, true);
}

void Verdicts::SomeAbove(ClaimText text,
                         std::vector<Sample> samples,
                         double threshold,
                         LargeEffect large) {
  OneSided(std::move(text), std::move(samples), threshold, large, true, false);
}

void Verdicts::SomeBelow(ClaimText text,
                         std::vector<Sample> samples,
                         double threshold,
                         LargeEffect large) {
  OneSided(std::move(text), std::move(samples), threshold, large, false, false);
}

void Verdicts::Equivalent(ClaimText text, Sample difference, double margin) {
  const EquivalenceTest test = common::TestEquivalence(difference.values, margin, kLevel);
  const TTest above = common::OneSampleTTest(difference.values, margin, kConfidence);
  const TTest below = common::OneSampleTTest(difference.values, -margin, kConfidence);
  Entry entry{.claim = MakeClaim(std::move(text))};
  SetValue(above, Shown::kPlain, entry.claim);
  entry.found = Found(difference, above, Shown::kPlain);
  entry.p_support = test.p_value;
  entry.p_refute = std::min(1.0, 2 * std::min(above.p_greater, below.p_less));
  entry.claim.rule = absl::StrCat("Supported if the mean over seeds lies between ", Number(-margin),
                                  " and ", Number(margin),
                                  " (two one-sided paired t tests at 5%, Holm's adjustment over "
                                  "the study's claims), not supported if it lies outside; ",
                                  FewSeedsRule(std::nullopt, ""), ".");
  entry.supported = absl::StrCat("lies between ", Number(-margin), " and ", Number(margin));
  entry.refuted = absl::StrCat("lies outside of ", Number(-margin), " to ", Number(margin));
  FindObstacle(entry, {difference});
  Add(std::move(entry));
}

void Verdicts::AllAgree(ClaimText text, std::vector<Agreement> agreements) {
  const Shown shown = text.shown;
  Entry entry{.claim = MakeClaim(std::move(text))};
  entry.p_support = agreements.empty() ? 1 : 0;
  std::vector<Sample> samples;
  std::vector<std::string> tolerances;
  double worst = -1;
  for (const Agreement& agreement : agreements) {
    const Sample& sample = agreement.deviation;
    const double tolerance = agreement.tolerance;
    const EquivalenceTest test = common::TestEquivalence(sample.values, tolerance, kLevel);
    const TTest above = common::OneSampleTTest(sample.values, tolerance, kConfidence);
    const TTest below = common::OneSampleTTest(sample.values, -tolerance, kConfidence);
    const auto count = static_cast<double>(agreements.size());
    entry.p_support = std::max(entry.p_support, test.p_value);
    entry.p_refute = std::min(entry.p_refute,
                              std::min(1.0, 2 * count * std::min(above.p_greater, below.p_less)));
    // The one that is farthest from its expected value, in tolerances.
    if (above.n > 0 && std::abs(above.mean) / tolerance > worst) {
      worst = std::abs(above.mean) / tolerance;
      SetValue(above, shown, entry.claim);
      entry.found = Found(sample, above, shown);
    }
    samples.push_back(sample);
    tolerances.push_back(absl::StrFormat("%g%% at %s", 100 * tolerance, sample.name));
  }
  std::string list;
  for (const std::string& tolerance : tolerances) {
    absl::StrAppend(&list, list.empty() ? "" : ", ", tolerance);
  }
  entry.claim.rule = absl::StrCat(
      "Supported if every condition's mean over seeds lies within its tolerance of the expected "
      "value (",
      list,
      "; two one-sided t tests at 5%, Holm's adjustment over the study's claims), not supported if "
      "one lies outside; ",
      FewSeedsRule(std::nullopt, ""), ".");
  entry.supported = "every deviation lies within its tolerance";
  entry.refuted = "a deviation lies outside of its tolerance";
  FindObstacle(entry, samples);
  Add(std::move(entry));
}

void Verdicts::Untested(ClaimText text, std::string rule, std::string reason) {
  Entry entry{.claim = MakeClaim(std::move(text))};
  entry.tested = false;
  entry.claim.rule = std::move(rule);
  entry.obstacle = std::move(reason);
  Add(std::move(entry));
}

std::vector<Claim> Verdicts::Judge() const {
  std::vector<double> p_values;
  for (const Entry& entry : entries_) {
    if (entry.tested && entry.obstacle.empty()) {
      p_values.push_back(std::min(entry.p_support, entry.p_refute));
    }
  }
  const std::vector<double> adjusted = common::HolmAdjust(p_values);
  std::vector<Claim> claims;
  size_t next = 0;
  for (const Entry& entry : entries_) {
    Claim claim = entry.claim;
    claim.verdict = Verdict::kInconclusive;
    if (!entry.tested || !entry.obstacle.empty()) {
      claim.reason = absl::StrCat(entry.obstacle, ".");
      claims.push_back(std::move(claim));
      continue;
    }
    const double alone = std::min(entry.p_support, entry.p_refute);
    const double p = adjusted[next++];
    const bool supports = entry.p_support <= entry.p_refute;
    const std::string numbers = absl::StrCat(entry.found, " over ", Seeds(claim.seeds));
    if (p < kLevel) {
      claim.verdict = supports ? Verdict::kSupported : Verdict::kNotSupported;
      claim.reason = absl::StrCat(numbers, ": ", supports ? entry.supported : entry.refuted,
                                  " (adjusted ", PValue(p), ").");
    } else if (alone < kLevel) {
      claim.reason =
          absl::StrCat(numbers, ": too uncertain to say among ", adjusted.size(), " claims (alone ",
                       PValue(alone), ", by Holm's adjustment ", PValue(p), ").");
    } else {
      claim.reason = absl::StrCat(numbers, ": too uncertain to say (adjusted ", PValue(p), ").");
    }
    claims.push_back(std::move(claim));
  }
  return claims;
}

}  // namespace normlab::client::studies
