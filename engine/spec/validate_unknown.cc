#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/unknown_field_set.h>

#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

void CheckMessage(const std::string& path, const Message& message, Checker& checker) {
  const Reflection& reflection = *message.GetReflection();
  const auto& unknown = reflection.GetUnknownFields(message);
  std::set<int> numbers;
  for (int i = 0; i < unknown.field_count(); ++i) {
    numbers.insert(unknown.field(i).number());
  }
  if (!numbers.empty()) {
    checker.Fail(
        path, absl::StrCat("has fields that this version does not know (numbers ",
                           absl::StrJoin(numbers, ", "), "); remove them, or use a newer server"));
  }
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_map()) {
      continue;
    }
    const std::string name = path.empty() ? field->name() : absl::StrCat(path, ".", field->name());
    if (!field->is_repeated()) {
      CheckMessage(name, reflection.GetMessage(message, field), checker);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      CheckMessage(absl::StrCat(name, "[", i, "]"),
                   reflection.GetRepeatedMessage(message, field, i), checker);
    }
  }
}

}  // namespace

void ValidateUnknownFields(const v1::JobSpec& spec, Checker& checker) {
  CheckMessage("", spec, checker);
}

}  // namespace normlab::engine
