// What a run begins with: the initializer, and weights from a file.
#include <string>

#include "absl/strings/str_cat.h"

#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

constexpr Checker::RealRange kNotNegative = {.minimum = 0, .maximum = kMaxReal};

}  // namespace

void ValidateInitializer(const v1::Initializer& initializer, Checker& checker) {
  if (initializer.fan_in_normal().has_gain()) {
    checker.Real("initializer.fan_in_normal.gain", initializer.fan_in_normal().gain(), kNotNegative,
                 "weights are drawn from N(0, gain^2/fan_in); the default is 1");
  }
  if (initializer.normal().has_std()) {
    checker.Real("initializer.normal.std", initializer.normal().std(), kNotNegative,
                 "weights are drawn from N(0, std^2); the default is 0.01");
  }
  if (initializer.has_scale()) {
    checker.Real("initializer.scale", initializer.scale(), kNotNegative,
                 "it multiplies every initial weight; the default is 1");
  }
}

void ValidateInitialWeights(const v1::InitialWeights& weights, Checker& checker) {
  constexpr absl::string_view kPath = "initial_weights.path";
  const std::string& path = weights.path();
  if (path.empty()) {
    checker.Fail(kPath,
                 "is missing; name a safetensors file below a data root of the server, or leave "
                 "initial_weights out");
  }
  checker.Path(kPath, path);
  if (weights.ignore_size() > kMaxIgnorePatterns) {
    checker.Fail("initial_weights.ignore",
                 absl::StrCat("has ", weights.ignore_size(), " patterns, but at most ",
                              kMaxIgnorePatterns, " are allowed; use '*' to join some"));
    return;
  }
  for (int i = 0; i < weights.ignore_size(); ++i) {
    const std::string field = absl::StrCat("initial_weights.ignore[", i, "]");
    if (weights.ignore(i).empty()) {
      checker.Fail(field,
                   "is empty, which matches nothing; name a parameter, for example "
                   "\"head.weight\", or several, \"head.*\"");
    }
    checker.Text(field, weights.ignore(i), kMaxTextCharacters);
  }
}

}  // namespace normlab::engine
