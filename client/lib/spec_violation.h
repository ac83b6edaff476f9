#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::client {

// Where something was written: a file ("-": standard input) or an option of the command line.
struct SourcePosition {
  std::string source;
  int line = 0;    // from 1; 0: the source has no lines
  int column = 0;  // in characters, from 1

  // "spec.json:3:14", or only the source.
  std::string ToString() const;
};

// One thing that is wrong with a spec. An empty `field` means the text as a whole.
struct SpecViolation {
  SourcePosition where;
  std::string field;        // path below the spec, for example model.mlp.hidden[1]
  std::string description;  // what is wrong and what to do

  // "spec.json:3:14: model.mlp.hidden[1]: ...".
  std::string ToString() const;
};

// A spec and where each of its fields was written, so that what the server finds wrong with it can
// be shown at its line too.
struct SpecDocument {
  normlab::v1::JobSpec spec;
  std::map<std::string, SourcePosition> positions;  // by field path
};

// INVALID_ARGUMENT with google.rpc details: one BadRequest violation each (its description begins
// with the position) and the reason INVALID_SPEC_FILE. OK when there are none. Thread-safe.
absl::Status ViolationsToStatus(const std::vector<SpecViolation>& violations);

// The violations that the server reported in `status`, each at the place where its field (or the
// nearest field around it) was written; without position where the document does not mention it.
// Thread-safe.
std::vector<SpecViolation> LocateViolations(const absl::Status& status,
                                            const SpecDocument& document);

}  // namespace normlab::client
