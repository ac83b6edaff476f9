#pragma once

#include <string>
#include <vector>

#include "normlab/v1/spec.pb.h"

namespace normlab::client::report {

// What specs differ in: one row for each field, one value for each spec.
struct SpecDifference {
  std::string
      field;  // path below the spec; for a choice of kinds that of the message: "normalization"
  bool kind = false;                // the values are names of kinds
  std::vector<std::string> values;  // in the order of the specs; empty: not set
};

// Fields in which not all of `specs` (resolved ones, best) agree. What lies inside kinds that differ is left out, and so are
// the seed, names, labels, priorities, probes and checkpoints. Thread-safe.
std::vector<SpecDifference> CompareSpecs(const std::vector<const normlab::v1::JobSpec*>& specs);

// A short name for each spec, from what differs most: "batch, learning rate 0.1". Equal ones get equal names; all equal: empty
// ones.
std::vector<std::string> NamesByDifference(const std::vector<const normlab::v1::JobSpec*>& specs);

}  // namespace normlab::client::report
