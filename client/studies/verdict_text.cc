#include "client/studies/verdict_text.h"

#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace normlab::client::studies {

using common::TTest;
using report::Claim;

std::string Number(double value) {
  constexpr double kWholeFrom = 1e3;
  constexpr double kWholeBelow = 1e6;
  const double size = std::abs(value);
  return size >= kWholeFrom && size < kWholeBelow ? absl::StrFormat("%.0f", value)
                                                  : absl::StrFormat("%.4g", value);
}

double ShownValue(Shown shown, double value) {
  return shown == Shown::kTimes     ? std::pow(10, value)
         : shown == Shown::kPercent ? 100 * std::expm1(value)
                                    : value;
}

std::string ShownText(Shown shown, double value) {
  return absl::StrCat(Number(ShownValue(shown, value)), shown == Shown::kTimes     ? " times"
                                                        : shown == Shown::kPercent ? "%"
                                                                                   : "");
}

std::string PValue(double p) {
  constexpr double kSmallest = 1e-6;
  return p < kSmallest ? "p < 1e-06" : absl::StrFormat("p = %.2g", p);
}

std::string Seeds(int n) {
  return absl::StrCat(n, n == 1 ? " seed" : " seeds");
}

Claim MakeClaim(ClaimText text) {
  Claim claim;
  claim.id = std::move(text.id);
  claim.statement = std::move(text.statement);
  claim.source = std::move(text.source);
  claim.quantity = std::move(text.quantity);
  const bool ours = absl::StartsWith(claim.source, "this study");
  claim.paper = text.paper.empty() && ours ? "not in the paper" : std::move(text.paper);
  claim.unit = text.shown == Shown::kTimes ? " times" : text.shown == Shown::kPercent ? "%" : "";
  claim.confidence = kConfidence;
  return claim;
}

void SetValue(const TTest& test, Shown shown, Claim& claim) {
  if (test.n >= 1) {
    claim.value = ShownValue(shown, test.mean);
  }
  if (test.n >= 2) {
    claim.interval = report::Interval{ShownValue(shown, test.interval.low),
                                      ShownValue(shown, test.interval.high)};
  }
}

std::string FewSeedsRule(LargeEffect large, const char* side, Shown shown) {
  return large.has_value()
             ? absl::StrCat("at least ", kSeedsForAVerdict, " seeds, or ", kFewestSeeds,
                            " of which every one lies ", side, " ", ShownText(shown, *large))
             : absl::StrCat("at least ", kSeedsForAVerdict, " seeds");
}

std::string Found(const Sample& sample, const TTest& test, Shown shown) {
  if (test.n == 0) {
    return "";
  }
  const std::string name = sample.name.empty() ? "" : absl::StrCat(sample.name, ": ");
  const std::string mean = ShownText(shown, test.mean);
  return test.n < 2 ? absl::StrCat(name, mean)
                    : absl::StrCat(name, mean, " [", Number(ShownValue(shown, test.interval.low)),
                                   ", ", Number(ShownValue(shown, test.interval.high)), "]");
}

}  // namespace normlab::client::studies
