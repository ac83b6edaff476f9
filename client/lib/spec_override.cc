#include "client/lib/spec_override.h"

#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

#include "client/lib/source_text.h"
#include "client/lib/spec_binder.h"
#include "common/name_hint.h"

#include "yaml-cpp/yaml.h"

namespace normlab::client {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// One assignment on its way through the message.
class Override {
 public:
  Override(absl::string_view value,
           const std::string& source,
           SpecDocument& document,
           std::vector<SpecViolation>& violations)
      : source_(SourceText::WithoutLines(source, value)),
        value_(value),
        binder_(source_, violations, document.positions) {}

  void Apply(absl::string_view path, Message& root);

 private:
  void Refuse(const std::string& path, std::string description) {
    binder_.AddViolation({.source = source_.name()}, path, std::move(description));
  }
  // The value as YAML or JSON; nothing, with a violation, when it is neither.
  std::optional<YAML::Node> ParseValue(const std::string& path);
  void SetField(const FieldDescriptor& field, Message& message, const std::string& path);
  void SetElement(const FieldDescriptor& field,
                  int index,
                  Message& message,
                  const std::string& path);
  void SetMapEntry(const FieldDescriptor& field,
                   absl::string_view key,
                   Message& message,
                   const std::string& path);

  SourceText source_;
  std::string value_;
  SpecBinder binder_;
};

// Splits "hidden[2]" into name and index; false when the brackets are malformed.
bool SplitIndex(absl::string_view part, absl::string_view* name, std::optional<int>* index) {
  const size_t open = part.find('[');
  *name = part.substr(0, open);
  if (open == absl::string_view::npos) {
    return true;
  }
  absl::string_view digits = part.substr(open + 1);
  int value = 0;
  if (!absl::ConsumeSuffix(&digits, "]") || digits.empty() ||
      digits.find_first_not_of("0123456789") != absl::string_view::npos ||
      !absl::SimpleAtoi(digits, &value)) {
    return false;
  }
  *index = value;
  return true;
}

// Forgets the entry of `key`, if there is one.
void RemoveMapEntry(const FieldDescriptor& field, absl::string_view key, Message& message) {
  const Reflection& reflection = *message.GetReflection();
  const FieldDescriptor* key_field = field.message_type()->map_key();
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
    if (key_field->cpp_type() == FieldDescriptor::CPPTYPE_STRING &&
        entry.GetReflection()->GetString(entry, key_field) == key) {
      reflection.SwapElements(&message, &field, i, reflection.FieldSize(message, &field) - 1);
      reflection.RemoveLast(&message, &field);
      return;
    }
  }
}

std::optional<YAML::Node> Override::ParseValue(const std::string& path) {
  try {
    return YAML::Load(source_.yaml());
  } catch (const YAML::Exception& error) {
    Refuse(path, absl::StrCat("the value is neither YAML nor JSON: ", error.msg,
                              "; quote it for the shell and check its brackets"));
    return std::nullopt;
  }
}

void Override::SetField(const FieldDescriptor& field, Message& message, const std::string& path) {
  if (field.type() == FieldDescriptor::TYPE_STRING && !field.is_repeated()) {
    if (FirstInvalidUtf8(value_).has_value()) {
      Refuse(path, "the value is not UTF-8 text; use a UTF-8 terminal");
      return;
    }
    message.GetReflection()->SetString(&message, &field, value_);
    return;
  }
  const std::optional<YAML::Node> node = ParseValue(path);
  if (!node.has_value()) {
    return;
  }
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field.is_repeated() &&
      !node->IsNull()) {
    Message& target = *message.GetReflection()->MutableMessage(&message, &field);
    const FieldDescriptor* choice =
        node->IsScalar() ? FindField(*field.message_type(), node->Scalar()) : nullptr;
    if (choice != nullptr && IsMessageChoice(*choice)) {
      target.GetReflection()->MutableMessage(&target, choice)->Clear();
      return;
    }
    if (node->IsScalar() && field.message_type()->oneof_decl_count() > 0) {
      std::vector<std::string> choices;
      for (int i = 0; i < field.message_type()->field_count(); ++i) {
        if (IsMessageChoice(*field.message_type()->field(i))) {
          choices.push_back(field.message_type()->field(i)->name());
        }
      }
      if (!choices.empty()) {
        Refuse(path, absl::StrCat("unknown kind ", node->Scalar(), "; ",
                                  common::NameHint(node->Scalar(), choices)));
        return;
      }
    }
    target.Clear();  // a mapping replaces the message
  }
  binder_.BindField(*node, field, message, path);
}

void Override::SetElement(const FieldDescriptor& field,
                          int index,
                          Message& message,
                          const std::string& path) {
  const std::optional<YAML::Node> node = ParseValue(path);
  if (!node.has_value()) {
    return;
  }
  const Reflection& reflection = *message.GetReflection();
  const int size = reflection.FieldSize(message, &field);
  binder_.BindElement(*node, field, message, path);
  if (reflection.FieldSize(message, &field) == size + 1 && index < size) {
    reflection.SwapElements(&message, &field, index, size);
    reflection.RemoveLast(&message, &field);
  }
}

void Override::SetMapEntry(const FieldDescriptor& field,
                           absl::string_view key,
                           Message& message,
                           const std::string& path) {
  // A text value is taken as it is, like that of a text field.
  const bool is_text = field.message_type()->map_value()->type() == FieldDescriptor::TYPE_STRING;
  const std::optional<YAML::Node> node = is_text ? YAML::Node(value_) : ParseValue(path);
  if (!node.has_value()) {
    return;
  }
  if (is_text && FirstInvalidUtf8(value_).has_value()) {
    Refuse(path, "the value is not UTF-8 text; use a UTF-8 terminal");
    return;
  }
  RemoveMapEntry(field, key, message);
  binder_.BindMapEntry(key, *node, field, message, path);
}

void Override::Apply(absl::string_view path, Message& root) {
  Message* message = &root;
  std::string done;
  absl::string_view rest = path;
  while (true) {
    const size_t dot = rest.find('.');
    const absl::string_view part = rest.substr(0, dot);
    const bool is_last = dot == absl::string_view::npos;
    rest = is_last ? absl::string_view() : rest.substr(dot + 1);
    absl::string_view name;
    std::optional<int> index;
    const bool well_formed = SplitIndex(part, &name, &index);
    const FieldDescriptor* field = FindField(*message->GetDescriptor(), name);
    const std::string field_path =
        absl::StrCat(done, done.empty() ? "" : ".", field != nullptr ? field->name() : name);
    if (!well_formed) {
      return Refuse(absl::StrCat(done, done.empty() ? "" : ".", part),
                    "the index is malformed; write NAME[0]");
    }
    if (field == nullptr) {
      return Refuse(field_path,
                    absl::StrCat("unknown field; ",
                                 common::NameHint(name, FieldNames(*message->GetDescriptor()))));
    }
    const Reflection& reflection = *message->GetReflection();
    if (field->is_map() && !is_last) {
      return SetMapEntry(*field, rest, *message, absl::StrCat(field_path, ".", rest));
    }
    if (index.has_value() && (!field->is_repeated() || field->is_map())) {
      return Refuse(field_path, "is not a list; remove the index");
    }
    if (is_last && !index.has_value()) {
      return SetField(*field, *message, field_path);
    }
    if (field->is_repeated() && !index.has_value()) {
      return Refuse(field_path, absl::StrCat("is a list; write ", name, "[0]"));
    }
    done = field_path;
    if (index.has_value()) {
      const int size = reflection.FieldSize(*message, field);
      absl::StrAppend(&done, "[", *index, "]");
      if (*index > size) {
        return Refuse(done,
                      absl::StrCat("the list has ", size, " elements; the next index is ", size));
      }
      if (is_last) {
        return SetElement(*field, *index, *message, done);
      }
    }
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      return Refuse(done, "is a single value and has no fields; end the path here");
    }
    if (!index.has_value()) {
      message = reflection.MutableMessage(message, field);
    } else if (*index == reflection.FieldSize(*message, field)) {
      message = reflection.AddMessage(message, field);
    } else {
      message = reflection.MutableRepeatedMessage(message, field, *index);
    }
  }
}

}  // namespace

void ApplyOverride(absl::string_view path,
                   absl::string_view value,
                   const std::string& source,
                   SpecDocument& document,
                   std::vector<SpecViolation>& violations) {
  Override(value, source, document, violations).Apply(path, document.spec);
}

void ApplyAssignment(absl::string_view assignment,
                     SpecDocument& document,
                     std::vector<SpecViolation>& violations) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(assignment, absl::MaxSplits('=', 1));
  const absl::string_view path = absl::StripAsciiWhitespace(parts.first);
  const std::string source = absl::StrCat("--set ", assignment);
  if (assignment.find('=') == absl::string_view::npos || path.empty()) {
    violations.push_back({.where = {.source = source},
                          .description = "is not PATH=VALUE; write for example "
                                         "--set optimizer.sgd.learning_rate=0.5"});
    return;
  }
  ApplyOverride(path, parts.second, source, document, violations);
}

}  // namespace normlab::client
