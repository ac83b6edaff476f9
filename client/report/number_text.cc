#include "client/report/number_text.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace normlab::client::report {
namespace {

constexpr char kMinus[] = "\u2212";
constexpr char kNothing[] = "\u2013";
constexpr char kInfinity[] = "\u221e";

// A minus sign as wide as a digit in place of the hyphen, and exponents without leading zeros.
std::string Typeset(std::string text) {
  text = absl::StrReplaceAll(text, {{"e-0", "e-"}, {"e+0", "e"}, {"e+", "e"}});
  return absl::StartsWith(text, "-") ? absl::StrCat(kMinus, text.substr(1)) : text;
}

}  // namespace

std::string FormatMeasure(double value) {
  if (std::isnan(value)) {
    return kNothing;
  }
  if (std::isinf(value)) {
    return value > 0 ? kInfinity : absl::StrCat(kMinus, kInfinity);
  }
  constexpr double kWholeBelow = 1e7;
  if (value == std::round(value) && std::abs(value) < kWholeBelow) {
    return Typeset(absl::StrFormat("%.0f", value));
  }
  const double size = std::abs(value);
  return Typeset(size >= 1e3 && size < 1e5 ? absl::StrFormat("%.0f", value)
                                           : absl::StrFormat("%.4g", value));
}

MeasuredText FormatMeasured(double value, const std::optional<Interval>& interval, double neutral) {
  if (!interval.has_value() || !std::isfinite(interval->low) || !std::isfinite(interval->high)) {
    return {FormatMeasure(value), interval.has_value() ? FormatMeasure(interval->low) : "",
            interval.has_value() ? FormatMeasure(interval->high) : ""};
  }
  const double width = (interval->high - interval->low) / 2;
  const double size =
      std::max({std::abs(value), std::abs(interval->low), std::abs(interval->high)});
  constexpr double kNarrowest = 1e-5;
  constexpr double kLargest = 1e5;
  if (!(width >= kNarrowest) || size >= kLargest) {
    return {FormatMeasure(value), FormatMeasure(interval->low), FormatMeasure(interval->high)};
  }
  constexpr int kMostDecimals = 6;
  int decimals = std::clamp(1 - static_cast<int>(std::floor(std::log10(width))), 0, kMostDecimals);
  // -0.00 would hide on which side of nothing a bound lies.
  const auto hidden = [&](double number) {
    const double distance = std::abs(number - neutral);
    return distance >= std::pow(10, -kMostDecimals) / 2 && distance < std::pow(10, -decimals) / 2;
  };
  while (decimals < kMostDecimals &&
         (hidden(value) || hidden(interval->low) || hidden(interval->high))) {
    ++decimals;
  }
  const auto text = [&](double number) {
    return Typeset(absl::StrFormat("%.*f", decimals, number));
  };
  return {std::isfinite(value) ? text(value) : FormatMeasure(value), text(interval->low),
          text(interval->high)};
}

MeasuredText FormatMeasured(const Claim& claim) {
  if (!claim.value.has_value()) {
    return {kNothing, "", ""};
  }
  const bool times = claim.unit == " times";
  MeasuredText text = FormatMeasured(*claim.value, claim.interval, times ? 1 : 0);
  text.value += claim.unit;
  if (!times && !text.low.empty()) {
    text.low += claim.unit;
    text.high += claim.unit;
  }
  return text;
}

ColumnFormat ChooseFormat(const Table& table, size_t column) {
  ColumnFormat format;
  bool whole = true;
  double greatest = 0;
  double least = INFINITY;
  for (const std::vector<Table::Value>& row : table.rows) {
    if (column >= row.size()) {
      continue;
    }
    if (const auto* text = std::get_if<std::string>(&row[column])) {
      if (!text->empty()) {
        return {};
      }
      continue;
    }
    format.numeric = true;
    const double value = std::abs(std::get<double>(row[column]));
    if (!std::isfinite(value)) {
      continue;
    }
    whole = whole && value == std::round(value);
    greatest = std::max(greatest, value);
    if (value > 0) {
      least = std::min(least, value);
    }
  }
  constexpr double kWidestRatio = 2e3;  // more would need too many digits for the small ones
  if (whole && greatest < 1e9) {
    format.decimals = 0;
  } else if (greatest >= 1e-2 && greatest < 1e5 && greatest <= kWidestRatio * least) {
    format.decimals = std::clamp(3 - static_cast<int>(std::floor(std::log10(greatest))), 0, 5);
  }
  return format;
}

std::string FormatCell(const ColumnFormat& format, const Table::Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    return *text;
  }
  const double number = std::get<double>(value);
  if (format.decimals < 0 || !std::isfinite(number)) {
    return FormatMeasure(number);
  }
  return Typeset(absl::StrFormat("%.*f", format.decimals, number));
}

std::string VerdictText(Verdict verdict) {
  switch (verdict) {
    case Verdict::kSupported:
      return "supported";
    case Verdict::kNotSupported:
      return "not supported";
    case Verdict::kInconclusive:
      break;
  }
  return "inconclusive";
}

std::string SeedsText(const Claim& claim) {
  if (claim.seeds <= 0) {
    return "";
  }
  std::string text = absl::StrCat(claim.seeds, claim.seeds == 1 ? " seed" : " seeds");
  if (claim.diverged > 0) {
    absl::StrAppend(&text, "; ", claim.diverged, " of ", claim.jobs, " jobs diverged");
  }
  return text;
}

std::string TitleWithGroup(const Section& section) {
  return section.group.empty() ? section.title : absl::StrCat(section.group, ": ", section.title);
}

std::string StatementWithGroup(const Claim& claim) {
  return claim.group.empty() ? claim.statement : absl::StrCat(claim.group, ": ", claim.statement);
}

}  // namespace normlab::client::report
