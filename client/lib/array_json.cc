#include "client/lib/array_json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"

#include "nlohmann/json.hpp"

namespace normlab::client {
namespace {

using nlohmann::json;
using normlab::v1::Tensor;

constexpr int kMaxDimensions = 8;

std::optional<float> NumberOf(const json& value) {
  if (value.is_number()) {
    const double wide = value.get<double>();
    const auto narrow = static_cast<float>(wide);
    return std::isinf(narrow) ? std::nullopt : std::optional(narrow);
  }
  if (value == "NaN") {
    return std::numeric_limits<float>::quiet_NaN();
  }
  if (value == "Infinity") {
    return std::numeric_limits<float>::infinity();
  }
  if (value == "-Infinity") {
    return -std::numeric_limits<float>::infinity();
  }
  return std::nullopt;
}

// Appends the values of `value`, which is `depth` lists deep, in C order. `path`: where it stands,
// for messages.
absl::Status Collect(const json& value, int depth, const std::string& path, Tensor& tensor) {
  const auto bad = [&path](absl::string_view problem) {
    return absl::InvalidArgumentError(
        absl::StrCat("the array ", path.empty() ? "" : absl::StrCat("at ", path, " "), problem));
  };
  if (depth == tensor.dims_size()) {
    const std::optional<float> number = NumberOf(value);
    if (!number.has_value()) {
      return bad(absl::StrCat(value.is_number()
                                  ? "has a number beyond float32"
                                  : absl::StrCat("has ", value.is_array()    ? "a list"
                                                         : value.is_object() ? "an object"
                                                         : value.is_string() ? "text"
                                                                             : "no number"),
                              "; give numbers, all lists of one level equally deep and long"));
    }
    tensor.add_values(*number);
    return absl::OkStatus();
  }
  if (!value.is_array() || static_cast<int64_t>(value.size()) != tensor.dims(depth)) {
    return bad(absl::StrCat(
        value.is_array() ? absl::StrCat("has a list of ", value.size())
                         : std::string("has no list"),
        " where lists of ", tensor.dims(depth),
        " stand before it; give numbers, all lists of one level equally deep and long"));
  }
  for (size_t i = 0; i < value.size(); ++i) {
    // Paths are for messages only: not made for the numbers themselves.
    const bool leaf = depth + 1 == tensor.dims_size() && NumberOf(value[i]).has_value();
    const absl::Status status = Collect(
        value[i], depth + 1, leaf ? std::string() : absl::StrCat(path, "[", i, "]"), tensor);
    if (!status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

void AppendFloat(float value, std::string& out) {
  if (std::isnan(value)) {
    out.append("\"NaN\"");
    return;
  }
  if (std::isinf(value)) {
    out.append(value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    return;
  }
  if (value == 0 && std::signbit(value)) {
    out.append("-0.0");  // "-0" reads back as the integer 0
    return;
  }
  std::array<char, 32> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  out.append(text.data(), static_cast<size_t>(end - text.data()));
}

void AppendArray(const Tensor& tensor, int depth, int& next, std::string& out) {
  if (depth == tensor.dims_size()) {
    AppendFloat(tensor.values(next++), out);
    return;
  }
  out.push_back('[');
  for (int64_t i = 0; i < tensor.dims(depth); ++i) {
    if (i > 0) {
      out.append(", ");
    }
    AppendArray(tensor, depth + 1, next, out);
  }
  out.push_back(']');
}

}  // namespace

absl::StatusOr<Tensor> ParseJsonArray(absl::string_view text) {
  json parsed;
  try {
    parsed = json::parse(text.begin(), text.end());
  } catch (const json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: ..."
    absl::string_view message = error.what();
    const size_t end_of_id = message.find("] ");
    if (end_of_id != absl::string_view::npos) {
      message.remove_prefix(end_of_id + 2);
    }
    return absl::InvalidArgumentError(
        absl::StrCat("the array is no JSON (", message, "); write for example [[1, 2], [3, 4]]"));
  }
  Tensor tensor;
  for (const json* level = &parsed; level->is_array(); level = &level->front()) {
    if (tensor.dims_size() == kMaxDimensions) {
      return absl::InvalidArgumentError(absl::StrCat("the array has more than ", kMaxDimensions,
                                                     " dimensions; give two or four"));
    }
    tensor.add_dims(static_cast<int64_t>(level->size()));
    if (level->empty()) {
      break;
    }
  }
  if (const absl::Status status = Collect(parsed, 0, "", tensor); !status.ok()) {
    return status;
  }
  return tensor;
}

std::string FormatJsonArray(const Tensor& tensor) {
  std::string text;
  int next = 0;
  AppendArray(tensor, 0, next, text);
  return text;
}

}  // namespace normlab::client
