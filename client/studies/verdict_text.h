#pragma once

#include <string>

#include "client/report/report.h"
#include "client/studies/verdict.h"
#include "common/statistics.h"

// How a claim's rule, numbers and reason are put into words. All functions are pure and thread-safe.
namespace normlab::client::studies {

inline constexpr double kConfidence = 1 - kLevel;

// Four digits, and all of those before the point where they are few enough to read.
std::string Number(double value);

// What is tested as it is meant to be read, such as 10^value of a logarithm.
double ShownValue(Shown shown, double value);
// With its unit: "1.183 times", "-0.34%".
std::string ShownText(Shown shown, double value);

// An adjusted p value: "p = 0.012"; nobody needs the digits of a very small one.
std::string PValue(double p);

// "1 seed", "5 seeds".
std::string Seeds(int n);

// The claim without verdict, value and reason.
report::Claim MakeClaim(ClaimText text);

// The mean and its interval, as far as there are seeds for them.
void SetValue(const common::TTest& test, Shown shown, report::Claim& claim);

// How many seeds a verdict takes, as the end of a rule. `side` is "above" or "below".
std::string FewSeedsRule(LargeEffect large, const char* side, Shown shown = Shown::kPlain);

// What was measured: "condition: 1.18 times [1.1, 1.3]". Empty without a value.
std::string Found(const Sample& sample, const common::TTest& test, Shown shown);

}  // namespace normlab::client::studies
