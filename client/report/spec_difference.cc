#include "client/report/spec_difference.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/json_util.h>

#include "client/lib/number_format.h"

namespace normlab::client::report {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Fields of one spec as text. The order of first appearance is kept beside it.
struct Flat {
  std::map<std::string, std::string> values;
  std::set<std::string> kinds;  // paths whose value is the name of a chosen kind
};

std::string Join(const std::string& path, const std::string& name) {
  return path.empty() ? name : absl::StrCat(path, ".", name);
}

std::string ScalarText(const Message& message, const FieldDescriptor& field, int index) {
  const google::protobuf::Reflection& get = *message.GetReflection();
  const bool repeated = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return repeated ? get.GetRepeatedString(message, &field, index)
                      : get.GetString(message, &field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return (repeated ? get.GetRepeatedBool(message, &field, index) : get.GetBool(message, &field))
                 ? "true"
                 : "false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return (repeated ? get.GetRepeatedEnum(message, &field, index) : get.GetEnum(message, &field))
          ->name();
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return FormatDouble(repeated ? get.GetRepeatedDouble(message, &field, index)
                                   : get.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return FormatDouble(repeated ? get.GetRepeatedFloat(message, &field, index)
                                   : get.GetFloat(message, &field));
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(repeated ? get.GetRepeatedInt32(message, &field, index)
                                   : get.GetInt32(message, &field));
    case FieldDescriptor::CPPTYPE_UINT32:
      return absl::StrCat(repeated ? get.GetRepeatedUInt32(message, &field, index)
                                   : get.GetUInt32(message, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(repeated ? get.GetRepeatedInt64(message, &field, index)
                                   : get.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(repeated ? get.GetRepeatedUInt64(message, &field, index)
                                   : get.GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      break;
  }
  return "";
}

void Flatten(const Message& message,
             const std::string& path,
             Flat& flat,
             std::vector<std::string>& order) {
  const auto note = [&](const std::string& key, std::string value) {
    if (flat.values.emplace(key, std::move(value)).second &&
        std::find(order.begin(), order.end(), key) == order.end()) {
      order.push_back(key);
    }
  };
  const google::protobuf::Reflection& get = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  get.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    const std::string here = Join(path, field->name());
    if (field->is_repeated()) {
      const int count = get.FieldSize(message, field);
      std::vector<std::string> elements;
      for (int i = 0; i < count; ++i) {
        if (is_message) {
          Flatten(get.GetRepeatedMessage(message, field, i), absl::StrCat(here, "[", i, "]"), flat,
                  order);
        } else {
          elements.push_back(ScalarText(message, *field, i));
        }
      }
      note(here, is_message ? absl::StrCat(count) : absl::StrJoin(elements, " "));
    } else if (is_message) {
      if (field->real_containing_oneof() != nullptr) {
        const std::string kind = path.empty() ? here : path;
        note(kind, field->name());
        flat.kinds.insert(kind);
      }
      Flatten(get.GetMessage(message, field), here, flat, order);
    } else {
      note(here, ScalarText(message, *field, 0));
    }
  }
}

// Who, not what, and what only looks on: no part of what an experiment is about.
bool IsBeside(const std::string& field) {
  return field == "seed" || field == "display_name" || field == "priority" ||
         field == "max_retries" || absl::StartsWith(field, "labels") ||
         absl::StartsWith(field, "checkpoint") || absl::StartsWith(field, "time_limit") ||
         absl::StartsWith(field, "slurm");
}

// The name of a field that tells it apart from others: its last part.
std::string LastPart(const std::string& field) {
  const size_t dot = field.rfind('.');
  return dot == std::string::npos ? field : field.substr(dot + 1);
}

// The order of fields in a name.
int Rank(const std::string& field) {
  constexpr std::array<absl::string_view, 7> kOrder = {
      "normalization", "model", "initializer", "optimizer", "batch_size", "data", "schedule"};
  for (size_t i = 0; i < kOrder.size(); ++i) {
    if (absl::StartsWith(field, kOrder[i])) {
      return static_cast<int>(i);
    }
  }
  return static_cast<int>(kOrder.size());
}

}  // namespace

std::vector<SpecDifference> CompareSpecs(const std::vector<const normlab::v1::JobSpec*>& specs) {
  std::vector<Flat> flats(specs.size());
  std::vector<std::string> order;
  for (size_t i = 0; i < specs.size(); ++i) {
    Flatten(*specs[i], "", flats[i], order);
  }
  std::vector<SpecDifference> differences;
  std::vector<std::string> other_kinds;  // with a dot behind
  for (const std::string& field : order) {
    SpecDifference difference{.field = field};
    for (const Flat& flat : flats) {
      const auto found = flat.values.find(field);
      difference.values.push_back(found == flat.values.end() ? "" : found->second);
      difference.kind = difference.kind || flat.kinds.count(field) > 0;
    }
    const bool same =
        std::all_of(difference.values.begin(), difference.values.end(),
                    [&](const std::string& value) { return value == difference.values[0]; });
    if (same || IsBeside(field)) {
      continue;
    }
    if (difference.kind) {
      other_kinds.push_back(absl::StrCat(field, "."));
    }
    differences.push_back(std::move(difference));
  }
  differences.erase(std::remove_if(differences.begin(), differences.end(),
                                   [&](const SpecDifference& difference) {
                                     return std::any_of(other_kinds.begin(), other_kinds.end(),
                                                        [&](const std::string& kind) {
                                                          return absl::StartsWith(difference.field,
                                                                                  kind);
                                                        });
                                   }),
                    differences.end());
  return differences;
}

std::vector<std::string> NamesByDifference(const std::vector<const normlab::v1::JobSpec*>& specs) {
  std::vector<SpecDifference> differences = CompareSpecs(specs);
  // A name says what an experiment is about first, and leaves out what follows from the rest or only says how long.
  constexpr size_t kParts = 4;
  std::stable_sort(differences.begin(), differences.end(),
                   [](const SpecDifference& a, const SpecDifference& b) {
                     return Rank(a.field) < Rank(b.field);
                   });
  if (differences.size() > kParts) {
    differences.resize(kParts);
  }
  std::vector<std::string> names;
  for (size_t i = 0; i < specs.size(); ++i) {
    std::vector<std::string> parts;
    for (const SpecDifference& difference : differences) {
      const std::string& value = difference.values[i];
      if (value.empty()) {
        parts.push_back(absl::StrCat("no ", LastPart(difference.field)));
        continue;
      }
      // Names of kinds speak for themselves, but for those of an element of a list.
      const bool alone = difference.kind && difference.field.find('[') == std::string::npos;
      parts.push_back(alone ? value : absl::StrCat(LastPart(difference.field), " ", value));
    }
    names.push_back(
        absl::StrReplaceAll(absl::StrJoin(parts, ", "), {{"_", " "}, {"e+0", "e"}, {"e-0", "e-"}}));
  }
  return names;
}

}  // namespace normlab::client::report
