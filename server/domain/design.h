#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "server/domain/errors.h"

#include "normlab/v1/experiments.pb.h"
#include "normlab/v1/spec.pb.h"

namespace normlab::server {

// An experiment has at most so many jobs.
inline constexpr int kMaxExperimentJobs = 10000;

// A cell of a design with its spec, but for the seed.
struct DesignCell {
  std::vector<std::pair<std::string, std::string>>
      values;  // field to value, in the order of the axes
  v1::JobSpec spec;
};

struct ExpandedDesign {
  std::vector<FieldViolation> violations;  // fields below the experiment: design.axes[1].values[0]
  std::vector<DesignCell> cells;           // empty with violations
  std::vector<uint32_t> seeds;             // at least one
};

// All cells of a design, in its order. Every axis is checked on its own, so that a mistake is reported once and not for
// each cell that it is in; 10^9 cells are refused without making one. Whether a cell's spec is valid is not looked at.
// Pure; thread-safe.
ExpandedDesign ExpandDesign(const v1::JobSpec& base, const v1::Design& design);

// Sets the field at `path` (names joined by dots, elements of lists by index: probes[0].every) of a spec. A value that
// names a member of the field's oneof selects that member with its defaults; anything else is JSON, and a string or enum
// needs no quotes. INVALID_ARGUMENT: no such field, naming the nearest one; or the path goes through a member of a oneof of
// which the spec has chosen another. OUT_OF_RANGE: not a value of the field.
absl::Status SetField(absl::string_view path, absl::string_view value, v1::JobSpec& spec);

}  // namespace normlab::server
