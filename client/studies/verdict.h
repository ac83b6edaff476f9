#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "client/report/report.h"

namespace normlab::client::studies {

struct SeedRun;  // run.h

inline constexpr int kSeedsForAVerdict = 5;
// With so many only an effect that is a stated large multiple counts.
inline constexpr int kFewestSeeds = 3;
inline constexpr double kLevel = 0.05;
// "Does not hurt" and "comparable": so much accuracy.
inline constexpr double kAccuracyMargin = 0.02;

// One value a seed. NaN: that seed has none (its job failed, was cancelled or is not over).
struct Sample {
  std::string name;  // of the condition, where a claim is about several
  std::vector<double> values;
  // That the values rest on, not owned. Of those that diverged the values are the stated worst.
  std::set<const SeedRun*> jobs;
  // Step of the grid that the values lie on (a difference of two counts: 1); 0: they vary freely. Seeds
  // that agree on such a grid say no more than that: the rounding of both terms, step / sqrt(6), is the
  // least spread assumed. A single count has half of that variance: 1 / sqrt(2).
  double grid_step = 0;

  int diverged() const;
  // The least standard deviation assumed.
  double least_deviation() const;
};

// How the numbers of a claim are printed. They are tested as they are.
enum class Shown {
  kPlain,
  kTimes,    // of logarithms to base 10: "1.18 times"
  kPercent,  // of natural logarithms: "-0.34%"
};

// What a claim says, without what was found.
struct ClaimText {
  std::string id;
  std::string statement;
  std::string source;
  std::string quantity;
  std::string paper;  // empty: "not in the paper" for claims of this study
  Shown shown = Shown::kPlain;
};

// Effects that are large enough to count with 3 or 4 seeds, when every seed has one. Absent: none is.
using LargeEffect = std::optional<double>;

// Gathers the claims of a study and judges them together.
//
// Every claim is a t test over seeds of values that are paired differences (or ratios, as logarithms) already. Supported:
// the test is significant at 5% on the claim's side; not supported: on the other side; else inconclusive. The p values of
// all claims of the study are adjusted by Holm's method first. Fewer than 5 seeds are inconclusive, 3 and 4 unless every
// seed shows the stated large effect. Diverged seeds carry the value that the caller says is the worst; they are counted
// and shown.
//
// Not thread-safe.
class Verdicts {
 public:
  // What holds for the claims added from now on: `rule` stands before theirs. With an obstacle they are inconclusive for that
  // reason and take no part in the adjustment; what was measured is shown.
  void Precondition(std::string rule, std::optional<std::string> obstacle);

  // The mean lies above `threshold`.
  void Above(ClaimText text, Sample sample, double threshold, LargeEffect large = std::nullopt);
  // The mean lies below `threshold`; `large` then bounds from above.
  void Below(ClaimText text, Sample sample, double threshold, LargeEffect large = std::nullopt);
  // The mean of every sample lies above `threshold`: the least certain one decides (an intersection-union test).
  void AllAbove(ClaimText text,
                std::vector<Sample> samples,
                double threshold,
                LargeEffect large = std::nullopt);
  // The mean of every sample lies below it.
  void AllBelow(ClaimText text,
                std::vector<Sample> samples,
                double threshold,
                LargeEffect large = std::nullopt);
  // "Need not": at least one sample has its mean above `threshold`; p values are multiplied by the number of samples.
  // Not supported: all of them lie below.
  void SomeAbove(ClaimText text,
                 std::vector<Sample> samples,
                 double threshold,
                 LargeEffect large = std::nullopt);
  // At least one lies below. Not supported: all of them lie above.
  void SomeBelow(ClaimText text,
                 std::vector<Sample> samples,
                 double threshold,
                 LargeEffect large = std::nullopt);
  // "Comparable": the mean lies between -margin and margin (two one-sided tests). Not supported: outside.
  void Equivalent(ClaimText text, Sample difference, double margin);
  // Measured values meet expected ones: the mean of every sample (a relative deviation) lies within its own tolerance.
  struct Agreement {
    Sample deviation;
    double tolerance = 0;
  };
  void AllAgree(ClaimText text, std::vector<Agreement> agreements);
  // There is nothing to test.
  void Untested(ClaimText text, std::string rule, std::string reason);

  // All claims in the order of the calls.
  std::vector<report::Claim> Judge() const;

 private:
  struct Entry {
    report::Claim claim;  // all but verdict and reason
    bool tested = true;
    std::string obstacle;   // why it is inconclusive whatever the test says
    std::string found;      // the measured value in words
    double p_support = 1;   // small: the claim holds
    double p_refute = 1;    // small: its contrary holds
    std::string supported;  // what follows then, in words
    std::string refuted;
    bool large_support = false;  // every seed shows the stated large effect
    bool large_refute = false;
  };

  void Add(Entry entry);
  void OneSided(ClaimText text,
                std::vector<Sample> samples,
                double threshold,
                LargeEffect large,
                bool above,
                bool all);
  static void FindObstacle(Entry& entry, absl::Span<const Sample> samples);

  std::vector<Entry> entries_;
  std::string precondition_;
  std::optional<std::string> precondition_fails_;
};

}  // namespace normlab::client::studies
