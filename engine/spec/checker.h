#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include <google/protobuf/descriptor.h>

#include "engine/spec/violation.h"

namespace normlab::engine {

// Collects violations: one method per kind of rule, so that the same mistake reads the same in
// every field. Internal to engine/spec. Not thread-safe.
class Checker {
 public:
  void Fail(absl::string_view field, std::string description);

  // minimum <= value <= maximum. `hint` ends the description: what to do.
  void Range(absl::string_view field,
             int64_t value,
             int64_t minimum,
             int64_t maximum,
             absl::string_view hint);

  // Finite, and minimum <= value <= kMaxReal (`open_minimum`: minimum < value), and value <=
  // maximum or, with `open_maximum`, value < maximum.
  struct RealRange {
    double minimum = 0;
    bool open_minimum = false;
    double maximum = 0;
    bool open_maximum = false;
  };
  void Real(absl::string_view field, double value, RealRange range, absl::string_view hint);

  // A number of the enum (0, "unspecified", means the default).
  void Enum(absl::string_view field, int value, const google::protobuf::EnumDescriptor* descriptor);

  // At most `max_characters` UTF-8 characters, none of them a control character.
  void Text(absl::string_view field, absl::string_view value, int64_t max_characters);

  // A path that can be shown: at most kMaxPathBytes, no control character. Whether there is
  // something is another matter.
  void Path(absl::string_view field, absl::string_view path);

  // The violations found, with a summary in place of those beyond kMaxViolations.
  std::vector<Violation> Take();

 private:
  std::vector<Violation> violations_;
  int64_t left_out_ = 0;
};

}  // namespace normlab::engine
