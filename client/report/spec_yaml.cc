#include "client/report/spec_yaml.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include <google/protobuf/util/json_util.h>

#include "nlohmann/json.hpp"

namespace normlab::client::report {
namespace {

using Json = nlohmann::ordered_json;

// Scalars and empty containers look the same in JSON and in YAML.
bool IsInline(const Json& value) {
  return !value.is_structured() || value.empty();
}

std::string Inline(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Lists of scalars stay on a line: [100, 100, 100].
bool IsShortList(const Json& value) {
  return value.is_array() && std::all_of(value.begin(), value.end(), IsInline);
}

void Append(const Json& value, int indent, std::string& text);

void AppendMember(const std::string& lead, const Json& value, int indent, std::string& text) {
  if (IsInline(value)) {
    absl::StrAppend(&text, lead, " ", Inline(value), "\n");
  } else if (IsShortList(value)) {
    absl::StrAppend(&text, lead, " [");
    for (size_t i = 0; i < value.size(); ++i) {
      absl::StrAppend(&text, i > 0 ? ", " : "", Inline(value[i]));
    }
    text += "]\n";
  } else {
    absl::StrAppend(&text, lead, "\n");
    Append(value, indent + 2, text);
  }
}

void Append(const Json& value, int indent, std::string& text) {
  const std::string margin(static_cast<size_t>(indent), ' ');
  if (value.is_object()) {
    for (const auto& [key, member] : value.items()) {
      // Keys of maps are other people's text; field names need no quotes.
      const bool plain = std::all_of(key.begin(), key.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
      });
      const bool digit_first = key.empty() || (key[0] >= '0' && key[0] <= '9');
      AppendMember(absl::StrCat(margin, plain && !digit_first ? key : Inline(key), ":"), member,
                   indent, text);
    }
    return;
  }
  for (const Json& element : value) {
    AppendMember(absl::StrCat(margin, "-"), element, indent, text);
  }
}

}  // namespace

std::string SpecYaml(const normlab::v1::JobSpec& spec) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  // It fails only for an Any of an unknown type, which a spec has not.
  if (!google::protobuf::util::MessageToJsonString(spec, &json, options).ok()) {
    return "";
  }
  std::string text;
  Append(Json::parse(json, nullptr, false), 0, text);
  return text;
}

}  // namespace normlab::client::report
