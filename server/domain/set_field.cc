// SetField: one field of a spec from a text.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/json_util.h>

#include "common/name_hint.h"
#include "common/status_macros.h"
#include "server/domain/design.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;

std::vector<std::string> FieldNames(const Descriptor& descriptor) {
  std::vector<std::string> names;
  for (int i = 0; i < descriptor.field_count(); ++i) {
    names.push_back(descriptor.field(i)->name());
  }
  return names;
}

absl::Status Invalid(std::string description) {
  return absl::InvalidArgumentError(std::move(description));
}

// "probes[0]" -> probes, 0; -1 without an index.
struct PathPart {
  std::string name;
  int index = -1;
};

absl::StatusOr<PathPart> ParsePart(absl::string_view text) {
  PathPart part;
  const size_t bracket = text.find('[');
  part.name = std::string(text.substr(0, bracket));
  if (bracket != absl::string_view::npos) {
    absl::string_view index = text.substr(bracket + 1);
    if (!absl::ConsumeSuffix(&index, "]") || !absl::SimpleAtoi(index, &part.index) ||
        part.index < 0) {
      return Invalid(absl::StrCat(QuotedForMessage(text),
                                  " is no element of a list; write for example probes[0]"));
    }
  }
  return part;
}

absl::StatusOr<const FieldDescriptor*> FindField(const Message& message, const std::string& name) {
  const Descriptor& descriptor = *message.GetDescriptor();
  const FieldDescriptor* field = descriptor.FindFieldByName(name);
  if (field == nullptr) {
    return Invalid(absl::StrCat(QuotedForMessage(name), " is no field; ",
                                common::NameHint(name, FieldNames(descriptor))));
  }
  const OneofDescriptor* const oneof = field->real_containing_oneof();
  if (oneof != nullptr) {
    const FieldDescriptor* const chosen =
        message.GetReflection()->GetOneofFieldDescriptor(message, oneof);
    if (chosen != nullptr && chosen != field) {
      return Invalid(absl::StrCat("goes through ", name, ", but the spec has chosen ",
                                  chosen->name(), "; change the base spec, or choose ", name,
                                  " on an axis before this one"));
    }
  }
  return field;
}

// The message that holds the last field of the path.
absl::StatusOr<Message*> Descend(Message* message, const PathPart& part) {
  NORMLAB_ASSIGN_OR_RETURN(const FieldDescriptor* const field, FindField(*message, part.name));
  if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_map()) {
    return Invalid(absl::StrCat(QuotedForMessage(part.name), " has no fields; end the path there"));
  }
  if (!field->is_repeated()) {
    return message->GetReflection()->MutableMessage(message, field);
  }
  if (part.index < 0 || part.index >= message->GetReflection()->FieldSize(*message, field)) {
    return Invalid(absl::StrCat(QuotedForMessage(part.name), " is a list with ",
                                message->GetReflection()->FieldSize(*message, field),
                                " elements; name one of them, as ", part.name, "[0]"));
  }
  return message->GetReflection()->MutableRepeatedMessage(message, field, part.index);
}

// The member of a oneof of the field's message that `value` names; null: none.
const FieldDescriptor* NamedMember(const FieldDescriptor& field, absl::string_view value) {
  if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field.is_repeated()) {
    return nullptr;
  }
  const FieldDescriptor* const member = field.message_type()->FindFieldByName(std::string(value));
  return member != nullptr && member->real_containing_oneof() != nullptr &&
                 member->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE
             ? member
             : nullptr;
}

bool IsText(const FieldDescriptor& field) {
  const bool duration = field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
                        field.message_type()->full_name() == "google.protobuf.Duration";
  return !field.is_repeated() && (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM ||
                                  field.cpp_type() == FieldDescriptor::CPPTYPE_STRING || duration);
}

std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}}), "\"");
}

std::vector<std::string> MemberNames(const FieldDescriptor& field) {
  std::vector<std::string> names;
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    for (int i = 1; i < field.enum_type()->value_count(); ++i) {
      names.push_back(field.enum_type()->value(i)->name());
    }
  } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    for (int i = 0; i < field.message_type()->field_count(); ++i) {
      if (field.message_type()->field(i)->real_containing_oneof() != nullptr) {
        names.push_back(field.message_type()->field(i)->name());
      }
    }
  }
  return names;
}

absl::Status NotAValue(const FieldDescriptor& field, absl::string_view value) {
  const std::vector<std::string> names = MemberNames(field);
  const bool json = absl::StartsWith(value, "{") || absl::StartsWith(value, "[");
  return absl::OutOfRangeError(absl::StrCat(
      QuotedForMessage(value), " is no value of ", field.name(), "; ",
      names.empty() || json ? "give JSON of this field" : common::NameHint(value, names)));
}

absl::Status SetLast(Message* message, const PathPart& part, absl::string_view value) {
  NORMLAB_ASSIGN_OR_RETURN(const FieldDescriptor* const field, FindField(*message, part.name));
  if (part.index >= 0) {
    return Invalid(
        "ends with an element of a list; give the whole list as JSON, or go on to a field of the "
        "element");
  }
  std::string json(value);
  if (const FieldDescriptor* const member = NamedMember(*field, value)) {
    json = absl::StrCat("{\"", member->name(), "\": {}}");
  } else if (IsText(*field) && !absl::StartsWith(value, "\"")) {
    json = Quoted(value);
  }
  // The parser of protobuf takes trailing text and single quotes for more than they are, so the value stands alone.
  const std::unique_ptr<Message> parsed(message->New());
  google::protobuf::util::JsonParseOptions options;
  options.case_insensitive_enum_parsing = false;
  const auto status = google::protobuf::util::JsonStringToMessage(
      absl::StrCat("{\"", field->name(), "\": ", json, "}"), parsed.get(), options);
  std::vector<const FieldDescriptor*> set;
  parsed->GetReflection()->ListFields(*parsed, &set);
  const bool only_this = set.empty() || (set.size() == 1 && set.front() == field);
  if (!status.ok() || !only_this) {
    return NotAValue(*field, value);
  }
  message->GetReflection()->ClearField(message, field);
  message->MergeFrom(*parsed);
  return absl::OkStatus();
}

}  // namespace

absl::Status SetField(absl::string_view path, absl::string_view value, v1::JobSpec& spec) {
  if (path.empty()) {
    return Invalid("is empty; give the path of a field, for example optimizer.sgd.learning_rate");
  }
  Message* message = &spec;
  const std::vector<absl::string_view> parts = absl::StrSplit(path, '.');
  // A failure leaves the spec as it was.
  v1::JobSpec changed = spec;
  message = &changed;
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    NORMLAB_ASSIGN_OR_RETURN(const PathPart part, ParsePart(parts[i]));
    NORMLAB_ASSIGN_OR_RETURN(message, Descend(message, part));
  }
  NORMLAB_ASSIGN_OR_RETURN(const PathPart last, ParsePart(parts.back()));
  NORMLAB_RETURN_IF_ERROR(SetLast(message, last, value));
  spec.Swap(&changed);
  return absl::OkStatus();
}

}  // namespace normlab::server
