#include "client/lib/number_format.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "nlohmann/json.hpp"

namespace normlab::client {

std::string FormatDouble(double value) {
  if (std::isnan(value)) {
    return "NaN";
  }
  if (std::isinf(value)) {
    return value > 0 ? "Infinity" : "-Infinity";
  }
  std::array<char, 32> buffer;  // 24 characters are the most a double needs
  const std::to_chars_result end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return std::string(buffer.data(), end.ptr);
}

std::string FormatJsonDouble(double value) {
  return std::isfinite(value) ? FormatDouble(value) : absl::StrCat("\"", FormatDouble(value), "\"");
}

std::string FormatJsonString(absl::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string FormatRounded(double value) {
  return std::isfinite(value) ? absl::StrFormat("%.4g", value) : FormatDouble(value);
}

std::string FormatSeconds(double seconds) {
  constexpr double kLongest = 1e9;  // some 30 years: certainly a wrong estimate
  if (!(seconds >= 0) || seconds > kLongest) {
    return "?";
  }
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  const int64_t hours = whole / 3600;
  const int64_t minutes = whole / 60 % 60;
  return hours > 0 ? absl::StrFormat("%d:%02d:%02d", hours, minutes, whole % 60)
                   : absl::StrFormat("%d:%02d", minutes, whole % 60);
}

std::string FormatCount(double count) {
  if (std::abs(count) >= 1e6) {
    return absl::StrFormat("%.1fM", count / 1e6);
  }
  if (std::abs(count) >= 1e4) {
    return absl::StrFormat("%.1fk", count / 1e3);
  }
  return absl::StrFormat("%.0f", count);
}

std::string FormatBytes(double bytes) {
  constexpr double kKibi = 1024;
  constexpr std::array<absl::string_view, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= kKibi && unit + 1 < kUnits.size()) {
    bytes /= kKibi;
    ++unit;
  }
  return unit == 0 || bytes >= 10 ? absl::StrFormat("%.0f %s", bytes, kUnits[unit])
                                  : absl::StrFormat("%.1f %s", bytes, kUnits[unit]);
}

}  // namespace normlab::client
