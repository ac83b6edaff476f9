#pragma once

#include <istream>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "client/lib/spec_violation.h"

namespace normlab::client {

// The outcome of reading a spec: what could be read, and everything that is wrong. Only a document
// without violations may be used.
struct SpecResult {
  SpecDocument document;
  std::vector<SpecViolation> violations;
};

enum class SpecFormat {
  kYaml,       // JSON too, which is YAML
  kTextProto,  // protobuf's text format
};

// kTextProto for names that end in .textproto, .txtpb, .pbtxt or .prototxt. Thread-safe.
SpecFormat FormatOfFile(absl::string_view path);

// Reads a spec of at most 1 MiB; `name` stands in the positions. Every violation is found in one
// go, but a syntax error ends the reading. Thread-safe.
SpecResult ParseSpec(const std::string& name, absl::string_view text, SpecFormat format);

// The same from a file ("-": from `standard_input`, as YAML or JSON). A file that cannot be read is
// a violation too. Blocks on I/O; thread-safe.
SpecResult ReadSpecFile(const std::string& path, std::istream& standard_input);

// A normalizer: the name of a kind ("batch"), YAML or JSON written out ("{batch: {epsilon: 0}}"), or
// the path of such a file ("-": from `standard_input`). It is in document.spec.normalization; fields of
// violations and positions begin with "normalizer". `name` stands in the positions of what is written
// out. Blocks on I/O; thread-safe.
SpecResult ReadNormalizer(const std::string& name,
                          const std::string& argument,
                          std::istream& standard_input);

}  // namespace normlab::client
