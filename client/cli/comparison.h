#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "normlab/v1/job.pb.h"
#include "normlab/v1/spec.pb.h"

// What `normlab compare` shows, as pure functions. Thread-safe.
namespace normlab::client {

// A field in which specs differ, with each spec's value; "-" where it has none.
struct SpecDifference {
  std::string field;
  std::vector<std::string> values;
};

// The fields in which specs (resolved ones, so that defaults are compared too) differ, in the order
// of their paths. Where they have chosen different members of a oneof of messages (normalization),
// that is one difference and what lies below is not told. Names, labels and priorities are left out.
std::vector<SpecDifference> CompareSpecs(const std::vector<normlab::v1::JobSpec>& specs);

struct Curve {
  std::string name;
  std::vector<int64_t> steps;  // rising
  std::vector<double> values;  // as many; those that are not finite leave a gap
};

// Curves in one plot of letters (a for the first one, at most 26), with a legend; the last of those
// that meet in a place is seen. A few values far above the others (a run on its way to diverging) are
// drawn at the top, as the last line then says; values above 0 that still range over more than a factor
// of 30 stand on a logarithmic scale. Every line ends with a line break.
std::string RenderCurves(const std::string& title,
                         const std::vector<Curve>& curves,
                         int width,
                         int height);

}  // namespace normlab::client
