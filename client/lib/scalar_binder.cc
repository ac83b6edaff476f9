#include "client/lib/scalar_binder.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"

#include "client/lib/number_format.h"
#include "common/name_hint.h"
#include "common/status_macros.h"

namespace normlab::client {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr int64_t kLongestDurationSeconds = 315'576'000'000;  // as duration.proto says
constexpr size_t kLongestQuote = 60;

// `text` in quotes for a message, shortened.
std::string Quote(absl::string_view text) {
  if (text.size() <= kLongestQuote) {
    return FormatJsonString(text);
  }
  return absl::StrCat(FormatJsonString(text.substr(0, kLongestQuote)), "...");
}

bool LooksLikeNumber(absl::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789+-.eE") == absl::string_view::npos &&
         text.find_first_of("0123456789") != absl::string_view::npos;
}

absl::StatusOr<double> ParseDouble(absl::string_view text, double largest) {
  absl::string_view name = text;
  const bool negative = absl::ConsumePrefix(&name, "-");
  if (name == "Infinity" || absl::EqualsIgnoreCase(name, ".inf")) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    return negative ? -kInfinity : kInfinity;
  }
  if (text == "NaN" || absl::EqualsIgnoreCase(text, ".nan")) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  double value = 0;
  if (!LooksLikeNumber(text) || !absl::SimpleAtod(text, &value)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quote(text), " is not a number; write one such as 0.1 or 1e-3"));
  }
  if (std::abs(value) > largest) {
    return absl::InvalidArgumentError(
        absl::StrCat(text, " is too large for the field's number format; write a smaller number"));
  }
  return value;
}

template <typename Integer>
absl::StatusOr<Integer> ParseInteger(absl::string_view text) {
  Integer value = 0;
  if (!absl::StartsWith(text, "+") && LooksLikeNumber(text) && absl::SimpleAtoi(text, &value)) {
    return value;
  }
  // Whole numbers may be written as 1e3 or 60.0; a double holds those below 2^53 exactly.
  constexpr double kExact = 9007199254740992.0;
  const absl::StatusOr<double> number = ParseDouble(text, std::numeric_limits<double>::max());
  if (!number.ok() || !std::isfinite(*number) || *number != std::floor(*number)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quote(text), " is not a whole number; write one such as 100"));
  }
  if (std::abs(*number) <= kExact &&
      *number >= static_cast<double>(std::numeric_limits<Integer>::min()) &&
      *number <= static_cast<double>(std::numeric_limits<Integer>::max())) {
    return static_cast<Integer>(*number);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      text, " is out of range; write a whole number from ", std::numeric_limits<Integer>::min(),
      " to ", std::numeric_limits<Integer>::max()));
}

absl::StatusOr<bool> ParseBool(const ScalarText& value) {
  if (!value.quoted && (value.text == "true" || value.text == "True" || value.text == "TRUE")) {
    return true;
  }
  if (!value.quoted && (value.text == "false" || value.text == "False" || value.text == "FALSE")) {
    return false;
  }
  return absl::InvalidArgumentError(absl::StrCat(Quote(value.text),
                                                 " is not a truth value; write true or false",
                                                 value.quoted ? " without quotes" : ""));
}

absl::StatusOr<int> ParseEnum(absl::string_view text, const EnumDescriptor& descriptor) {
  if (const EnumValueDescriptor* found = descriptor.FindValueByName(std::string(text))) {
    return found->number();
  }
  int number = 0;
  if (absl::SimpleAtoi(text, &number) && descriptor.FindValueByNumber(number) != nullptr) {
    return number;
  }
  std::vector<std::string> names;
  for (int i = 0; i < descriptor.value_count(); ++i) {
    if (descriptor.value(i)->number() != 0) {  // nobody means ..._UNSPECIFIED
      names.push_back(descriptor.value(i)->name());
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown value ", Quote(text), "; ", common::NameHint(text, names)));
}

absl::StatusOr<std::string> ParseBytes(absl::string_view text) {
  std::string bytes;
  if (absl::Base64Unescape(text, &bytes) || absl::WebSafeBase64Unescape(text, &bytes)) {
    return bytes;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(Quote(text), " is not base64; encode the bytes with base64 -w0"));
}

// Calls one of the two member functions of Reflection.
template <typename Value, typename Setter>
absl::Status Store(absl::StatusOr<Value> value,
                   Setter set,
                   Setter add,
                   const FieldDescriptor& field,
                   Message& message) {
  NORMLAB_RETURN_IF_ERROR(value.status());
  const Reflection& reflection = *message.GetReflection();
  (reflection.*(field.is_repeated() ? add : set))(&message, &field, *std::move(value));
  return absl::OkStatus();
}

}  // namespace

absl::Status SetScalar(const ScalarText& value, const FieldDescriptor& field, Message& message) {
  const absl::string_view text = field.type() == FieldDescriptor::TYPE_STRING
                                     ? value.text
                                     : absl::StripAsciiWhitespace(value.text);
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return Store(ParseInteger<int32_t>(text), &Reflection::SetInt32, &Reflection::AddInt32, field,
                   message);
    case FieldDescriptor::CPPTYPE_INT64:
      return Store(ParseInteger<int64_t>(text), &Reflection::SetInt64, &Reflection::AddInt64, field,
                   message);
    case FieldDescriptor::CPPTYPE_UINT32:
      return Store(ParseInteger<uint32_t>(text), &Reflection::SetUInt32, &Reflection::AddUInt32,
                   field, message);
    case FieldDescriptor::CPPTYPE_UINT64:
      return Store(ParseInteger<uint64_t>(text), &Reflection::SetUInt64, &Reflection::AddUInt64,
                   field, message);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return Store(ParseDouble(text, std::numeric_limits<double>::max()), &Reflection::SetDouble,
                   &Reflection::AddDouble, field, message);
    case FieldDescriptor::CPPTYPE_FLOAT: {
      NORMLAB_ASSIGN_OR_RETURN(const double number,
                               ParseDouble(text, std::numeric_limits<float>::max()));
      return Store(absl::StatusOr<float>(static_cast<float>(number)), &Reflection::SetFloat,
                   &Reflection::AddFloat, field, message);
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      return Store(ParseBool({text, value.quoted}), &Reflection::SetBool, &Reflection::AddBool,
                   field, message);
    case FieldDescriptor::CPPTYPE_ENUM:
      return Store(ParseEnum(text, *field.enum_type()), &Reflection::SetEnumValue,
                   &Reflection::AddEnumValue, field, message);
    case FieldDescriptor::CPPTYPE_STRING: {
      absl::StatusOr<std::string> parsed = field.type() == FieldDescriptor::TYPE_BYTES
                                               ? ParseBytes(text)
                                               : absl::StatusOr<std::string>(std::string(text));
      return Store(std::move(parsed), &Reflection::SetString, &Reflection::AddString, field,
                   message);
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      break;
  }
  return absl::InternalError(
      absl::StrCat(field.full_name(), " is no scalar; report this as a bug"));
}

absl::Status SetDuration(const ScalarText& value, Message& duration) {
  const absl::string_view text = absl::StripAsciiWhitespace(value.text);
  absl::Duration parsed;
  if (!absl::ParseDuration(text, &parsed) || LooksLikeNumber(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quote(text), " is not a duration; write a number with its unit, such as ",
                     LooksLikeNumber(text) ? absl::StrCat("\"", text, "s\"") : "\"90s\""));
  }
  if (absl::AbsDuration(parsed) > absl::Seconds(kLongestDurationSeconds)) {
    return absl::InvalidArgumentError(
        absl::StrCat(text, " is too long; write at most ", kLongestDurationSeconds, "s"));
  }
  google::protobuf::Duration result;
  result.set_seconds(absl::IDivDuration(parsed, absl::Seconds(1), &parsed));
  result.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(parsed)));
  duration.CopyFrom(result);
  return absl::OkStatus();
}

absl::Status SetTimestamp(const ScalarText& value, Message& timestamp) {
  absl::Time parsed;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, value.text, &parsed, &error)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quote(value.text), " is not a time; write one such as 2026-01-31T12:00:00Z"));
  }
  google::protobuf::Timestamp result;
  result.set_seconds(absl::ToUnixSeconds(parsed));
  result.set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(parsed - absl::FromUnixSeconds(result.seconds()))));
  timestamp.CopyFrom(result);
  return absl::OkStatus();
}

}  // namespace normlab::client
