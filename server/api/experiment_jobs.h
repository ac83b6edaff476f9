#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"

#include "server/domain/design.h"
#include "server/domain/errors.h"

#include "normlab/v1/experiments.pb.h"
#include "normlab/v1/job.pb.h"

// How the cells of a design become jobs, as pure functions. Thread-safe.
namespace normlab::server {

// Label keys for the fields of a design, in their order: the last name of the path where that is
// enough to tell them apart (learning_rate), the whole path otherwise (model-mlp-activation); in the
// form that label keys have.
std::vector<std::string> LabelKeys(const std::vector<std::string>& fields);

// What a person and a list need to tell the jobs of an experiment apart: "display name:
// normalization=batch, learning_rate=0.1, seed=3", and one label for each value, as far as there is
// room. `keys` belong to `cell.values`.
void NameJob(const v1::Experiment& experiment,
             const DesignCell& cell,
             const std::vector<std::string>& keys,
             uint32_t seed,
             v1::Job& job);

// Gathers what is wrong with the cells' specs, so that a mistake is told once and not for every cell
// that shares it.
class CellViolations {
 public:
  // `cell`: index in the design. `violations` have their fields below the spec.
  void Add(int64_t cell,
           const DesignCell& design_cell,
           absl::Span<const FieldViolation> violations);
  bool empty() const { return distinct_.empty(); }

  // Fields below the experiment: base.<field> where every one of the `cells` cells has it, otherwise
  // cells[<first>].<field>, with the cell's values and how many others share it. At most 100, and a
  // last one that counts the rest.
  std::vector<FieldViolation> Take(int64_t cells) const;

 private:
  struct Seen {
    size_t order = 0;
    int64_t first_cell = 0;
    std::string values;
    int64_t count = 0;
  };
  std::map<std::pair<std::string, std::string>, Seen> distinct_;  // by field and description
  int64_t dropped_ = 0;                                           // beyond what is remembered
};

}  // namespace normlab::server
