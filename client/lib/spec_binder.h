#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

#include "client/lib/source_text.h"
#include "client/lib/spec_violation.h"

#include "yaml-cpp/node/node.h"

namespace normlab::client {

// The field of `descriptor` that a spec calls `name`: its proto name or its lowerCamelCase JSON
// name. nullptr when there is none. Thread-safe.
const google::protobuf::FieldDescriptor* FindField(const google::protobuf::Descriptor& descriptor,
                                                   absl::string_view name);

// Proto names of all fields of `descriptor`, for hints. Thread-safe.
std::vector<std::string> FieldNames(const google::protobuf::Descriptor& descriptor);

// Whether `field` is a message that is one choice of a oneof, such as Model.mlp: its bare name is
// enough to select it with defaults. Thread-safe.
bool IsMessageChoice(const google::protobuf::FieldDescriptor& field);

// Copies a tree that yaml-cpp read (of YAML or JSON) into a message, by the message's descriptor
// and protobuf's JSON mapping, and goes on after an error, so that one run finds every violation.
//
// Stricter than the mapping in three things: a key may not stand twice; two members of a oneof may
// not both be set; and null for a message inside a oneof is refused, because "batch:" without
// braces in YAML would silently mean no batch norm. Otherwise null leaves a field unset.
//
// Bounds: 100 violations, nesting of 64, 200,000 nodes with aliases counted as often as they are
// used (a cycle of aliases ends at the nesting).
//
// Not thread-safe. Keeps references to the constructor's arguments.
class SpecBinder {
 public:
  SpecBinder(const SourceText& source,
             std::vector<SpecViolation>& violations,
             std::map<std::string, SourcePosition>& positions)
      : source_(source), violations_(violations), positions_(positions) {}

  // Merges `node` into `message`; `path` is that of the message, "" at the root.
  void BindMessage(const YAML::Node& node,
                   google::protobuf::Message& message,
                   const std::string& path);

  // Gives `field` of `message` the value `node` (null: clears it); a repeated or map field is
  // replaced as a whole. `path` is that of the field.
  void BindField(const YAML::Node& node,
                 const google::protobuf::FieldDescriptor& field,
                 google::protobuf::Message& message,
                 const std::string& path);

  // Appends `node` as one element of the repeated `field`. `path` ends with the index.
  void BindElement(const YAML::Node& node,
                   const google::protobuf::FieldDescriptor& field,
                   google::protobuf::Message& message,
                   const std::string& path);

  // Adds an entry to the map `field`; `path` ends with the key.
  void BindMapEntry(absl::string_view key,
                    const YAML::Node& value,
                    const google::protobuf::FieldDescriptor& field,
                    google::protobuf::Message& message,
                    const std::string& path);

  void AddViolation(SourcePosition where, const std::string& path, std::string description);

 private:
  // Counts a node and looks at the bounds; false when the walk must not go deeper.
  bool Enter(const YAML::Node& node, const std::string& path);
  void BindMessageMembers(const YAML::Node& node,
                          google::protobuf::Message& message,
                          const std::string& path);
  void BindValue(const YAML::Node& node,
                 const google::protobuf::FieldDescriptor& field,
                 google::protobuf::Message& message,
                 const std::string& path);
  void BindMap(const YAML::Node& node,
               const google::protobuf::FieldDescriptor& field,
               google::protobuf::Message& message,
               const std::string& path);

  const SourceText& source_;
  std::vector<SpecViolation>& violations_;
  std::map<std::string, SourcePosition>& positions_;
  int depth_ = 0;
  int nodes_ = 0;
  bool stopped_ = false;
};

}  // namespace normlab::client
