#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "client/lib/spec_violation.h"

namespace normlab::client {

// Gives the field at `path` of a spec a value. `path` names a field (optimizer.sgd.learning_rate),
// an element (model.mlp.hidden[1]; the index one past the last appends) or a map's key
// (labels.study); messages on the way are created, and other members of their oneofs give way.
// `value`:
//   * for a text field, the text as it is;
//   * for a message with a oneof of messages, the bare name of a member selects it with defaults
//     (normalization=batch), the message's other fields stay;
//   * else YAML or JSON: a number, [100, 100], {sgd: {momentum: 0.9}}; it replaces what was there;
//   * null clears the field.
// What is wrong is added to `violations`, with `source` as its place, and the spec may then be half
// changed. Thread-safe for different documents.
void ApplyOverride(absl::string_view path,
                   absl::string_view value,
                   const std::string& source,
                   SpecDocument& document,
                   std::vector<SpecViolation>& violations);

// The same for "path=value", as given to --set.
void ApplyAssignment(absl::string_view assignment,
                     SpecDocument& document,
                     std::vector<SpecViolation>& violations);

}  // namespace normlab::client
