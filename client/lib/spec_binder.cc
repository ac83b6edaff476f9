#include "client/lib/spec_binder.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "client/lib/scalar_binder.h"
#include "common/name_hint.h"

#include "yaml-cpp/yaml.h"

namespace normlab::client {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

constexpr int kMaxDepth = 64;
constexpr int kMaxNodes = 200'000;
constexpr size_t kMaxViolations = 100;

// yaml-cpp's tag of a scalar that was written without quotes.
constexpr absl::string_view kPlainTag = "?";

bool IsWellKnownScalar(const Descriptor& descriptor) {
  return descriptor.full_name() == "google.protobuf.Duration" ||
         descriptor.full_name() == "google.protobuf.Timestamp";
}

std::string Join(const std::string& path, absl::string_view name) {
  return path.empty() ? std::string(name) : absl::StrCat(path, ".", name);
}

ScalarText TextOf(const YAML::Node& node) {
  return {.text = node.Scalar(), .quoted = node.Tag() != kPlainTag};
}

// "a list", "a mapping" or "a value", for messages.
absl::string_view KindOf(const YAML::Node& node) {
  return node.IsSequence() ? "a list" : node.IsMap() ? "a mapping" : "a single value";
}

// What to write where a mapping is needed and `node` stands.
std::string MappingHint(const YAML::Node& node, const Descriptor& descriptor) {
  if (node.IsScalar()) {
    const FieldDescriptor* named = FindField(descriptor, node.Scalar());
    if (named != nullptr && IsMessageChoice(*named)) {
      return absl::StrCat("write {", named->name(), ": {}}");
    }
  }
  if (descriptor.field_count() == 0) {
    return "write {}";
  }
  return absl::StrCat("write {", descriptor.field(0)->name(), ": ...}");
}

}  // namespace

const FieldDescriptor* FindField(const Descriptor& descriptor, absl::string_view name) {
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor* field = descriptor.field(i);
    if (field->name() == name || field->json_name() == name) {
      return field;
    }
  }
  return nullptr;
}

std::vector<std::string> FieldNames(const Descriptor& descriptor) {
  std::vector<std::string> names;
  for (int i = 0; i < descriptor.field_count(); ++i) {
    names.push_back(descriptor.field(i)->name());
  }
  return names;
}

bool IsMessageChoice(const FieldDescriptor& field) {
  return field.real_containing_oneof() != nullptr &&
         field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
}

void SpecBinder::AddViolation(SourcePosition where,
                              const std::string& path,
                              std::string description) {
  if (stopped_) {
    return;
  }
  SpecViolation& violation = violations_.emplace_back();
  violation.where = std::move(where);
  violation.field = path;
  violation.description = std::move(description);
  if (violations_.size() == kMaxViolations) {
    SpecViolation& last = violations_.emplace_back();
    last.where.source = source_.name();
    last.description = absl::StrCat("stopped after ", kMaxViolations,
                                    " violations; correct these and check again");
    stopped_ = true;
  }
}

bool SpecBinder::Enter(const YAML::Node& node, const std::string& path) {
  if (stopped_) {
    return false;
  }
  if (depth_ > kMaxDepth || ++nodes_ > kMaxNodes) {
    AddViolation(source_.At(node.Mark()), path,
                 depth_ > kMaxDepth
                     ? absl::StrCat("nested deeper than ", kMaxDepth, " levels; flatten it")
                     : absl::StrCat("more than ", kMaxNodes,
                                    " values with aliases written out; use fewer aliases"));
    stopped_ = true;
    return false;
  }
  return true;
}

void SpecBinder::BindMessage(const YAML::Node& node, Message& message, const std::string& path) {
  if (!Enter(node, path)) {
    return;
  }
  const Descriptor& descriptor = *message.GetDescriptor();
  if (IsWellKnownScalar(descriptor)) {
    if (!node.IsScalar()) {
      AddViolation(source_.At(node.Mark()), path,
                   absl::StrCat("is ", KindOf(node), "; write one text, such as \"90s\""));
      return;
    }
    const absl::Status status = descriptor.name() == "Duration"
                                    ? SetDuration(TextOf(node), message)
                                    : SetTimestamp(TextOf(node), message);
    if (!status.ok()) {
      AddViolation(source_.At(node.Mark()), path, std::string(status.message()));
    }
    return;
  }
  if (!node.IsMap()) {
    AddViolation(source_.At(node.Mark()), path,
                 absl::StrCat("is ", KindOf(node), " where a mapping is needed; ",
                              MappingHint(node, descriptor)));
    return;
  }
  ++depth_;
  BindMessageMembers(node, message, path);
  --depth_;
}

void SpecBinder::BindMessageMembers(const YAML::Node& node,
                                    Message& message,
                                    const std::string& path) {
  const Descriptor& descriptor = *message.GetDescriptor();
  std::map<const FieldDescriptor*, SourcePosition> seen;
  std::map<const OneofDescriptor*, const FieldDescriptor*> chosen;
  for (const auto& member : node) {
    if (stopped_) {
      return;
    }
    const SourcePosition where = source_.At(member.first.Mark());
    if (!member.first.IsScalar()) {
      AddViolation(where, path, "a key must be the name of a field; write name: value");
      continue;
    }
    const std::string& name = member.first.Scalar();
    const FieldDescriptor* field = FindField(descriptor, name);
    if (field == nullptr) {
      AddViolation(where, Join(path, name),
                   name == "<<" ? "YAML merge keys are not supported; write the fields out"
                                : absl::StrCat("unknown field; ",
                                               common::NameHint(name, FieldNames(descriptor))));
      continue;
    }
    const std::string field_path = Join(path, field->name());
    const auto [previous, is_new] = seen.emplace(field, where);
    if (!is_new) {
      AddViolation(where, field_path,
                   absl::StrCat("is set twice, first at ", previous->second.ToString(),
                                "; keep one of the two"));
      continue;
    }
    if (member.second.IsNull()) {
      if (IsMessageChoice(*field)) {
        AddViolation(where, field_path,
                     absl::StrCat("has no value, which would leave it out; write ", field->name(),
                                  ": {} for its defaults, or remove the line"));
      }
      continue;
    }
    if (const OneofDescriptor* oneof = field->real_containing_oneof()) {
      const auto [other, is_first] = chosen.emplace(oneof, field);
      if (!is_first) {
        AddViolation(where, field_path,
                     absl::StrCat("cannot be set together with ", other->second->name(), " (at ",
                                  seen[other->second].ToString(), "); keep one of the two"));
        continue;
      }
    }
    BindField(member.second, *field, message, field_path);
  }
}

void SpecBinder::BindField(const YAML::Node& node,
                           const FieldDescriptor& field,
                           Message& message,
                           const std::string& path) {
  positions_[path] = source_.At(node.Mark());
  const Reflection& reflection = *message.GetReflection();
  if (node.IsNull()) {
    reflection.ClearField(&message, &field);
    return;
  }
  if (field.is_map()) {
    reflection.ClearField(&message, &field);
    BindMap(node, field, message, path);
    return;
  }
  if (!field.is_repeated()) {
    BindValue(node, field, message, path);
    return;
  }
  reflection.ClearField(&message, &field);
  if (!Enter(node, path)) {
    return;
  }
  if (!node.IsSequence()) {
    AddViolation(source_.At(node.Mark()), path,
                 absl::StrCat("is ", KindOf(node), " where a list is needed; write [",
                              node.IsScalar() ? node.Scalar().substr(0, 60) : "...", "]"));
    return;
  }
  ++depth_;
  int index = 0;
  for (const YAML::Node& element : node) {
    BindElement(element, field, message, absl::StrCat(path, "[", index++, "]"));
  }
  --depth_;
}

void SpecBinder::BindElement(const YAML::Node& node,
                             const FieldDescriptor& field,
                             Message& message,
                             const std::string& path) {
  if (node.IsNull()) {
    AddViolation(source_.At(node.Mark()), path, "an element has no value; remove it");
    return;
  }
  positions_[path] = source_.At(node.Mark());
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    BindMessage(node, *message.GetReflection()->AddMessage(&message, &field), path);
  } else {
    BindValue(node, field, message, path);
  }
}

void SpecBinder::BindValue(const YAML::Node& node,
                           const FieldDescriptor& field,
                           Message& message,
                           const std::string& path) {
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    BindMessage(node, *message.GetReflection()->MutableMessage(&message, &field), path);
    return;
  }
  if (!Enter(node, path)) {
    return;
  }
  if (!node.IsScalar()) {
    AddViolation(source_.At(node.Mark()), path,
                 absl::StrCat("is ", KindOf(node), " where a single value is needed; write ",
                              path.substr(path.rfind('.') + 1), ": VALUE"));
    return;
  }
  if (const absl::Status status = SetScalar(TextOf(node), field, message); !status.ok()) {
    AddViolation(source_.At(node.Mark()), path, std::string(status.message()));
  }
}

void SpecBinder::BindMap(const YAML::Node& node,
                         const FieldDescriptor& field,
                         Message& message,
                         const std::string& path) {
  if (!Enter(node, path)) {
    return;
  }
  if (!node.IsMap()) {
    AddViolation(
        source_.At(node.Mark()), path,
        absl::StrCat("is ", KindOf(node), " where a mapping is needed; write {key: value}"));
    return;
  }
  std::map<std::string, SourcePosition> seen;
  ++depth_;
  for (const auto& entry : node) {
    const SourcePosition where = source_.At(entry.first.Mark());
    if (!entry.first.IsScalar()) {
      AddViolation(where, path, "a key must be a text; write key: value");
      continue;
    }
    const std::string& key = entry.first.Scalar();
    const auto [previous, is_new] = seen.emplace(key, where);
    if (!is_new) {
      AddViolation(where, Join(path, key),
                   absl::StrCat("is set twice, first at ", previous->second.ToString(),
                                "; keep one of the two"));
      continue;
    }
    BindMapEntry(key, entry.second, field, message, Join(path, key));
  }
  --depth_;
}

void SpecBinder::BindMapEntry(absl::string_view key,
                              const YAML::Node& value,
                              const FieldDescriptor& field,
                              Message& message,
                              const std::string& path) {
  positions_[path] = source_.At(value.Mark());
  if (value.IsNull()) {
    AddViolation(source_.At(value.Mark()), path,
                 "has no value; write one, \"\" for an empty text, or remove the key");
    return;
  }
  const Descriptor& entry_type = *field.message_type();
  Message& entry = *message.GetReflection()->AddMessage(&message, &field);
  if (const absl::Status status =
          SetScalar({.text = key, .quoted = false}, *entry_type.map_key(), entry);
      !status.ok()) {
    AddViolation(source_.At(value.Mark()), path, std::string(status.message()));
    return;
  }
  BindValue(value, *entry_type.map_value(), entry, path);
}

}  // namespace normlab::client
