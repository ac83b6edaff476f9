#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client/report/report.h"

// Numbers as people read them. All functions are pure and thread-safe.
namespace normlab::client::report {

// Four significant digits, and all of those before the point up to 100,000: "0.3127", "1.2e-5", "18223"; whole numbers below
// ten million in full: "−3", "1234567". "∞", and "–" for NaN.
std::string FormatMeasure(double value);

// A measured value and the ends of its interval, with as many places as the interval's width gives meaning to: "0.52",
// "0.31", "0.73". Without an interval four digits; a value that is not there is "–".
struct MeasuredText {
  std::string value;
  std::string low;
  std::string high;
};
// As many more digits as it takes to show on which side of `neutral` (a value that means nothing happened) each of them lies.
MeasuredText FormatMeasured(double value,
                            const std::optional<Interval>& interval,
                            double neutral = 0);
// With the claim's unit: "1.18 times", "-0.34%".
MeasuredText FormatMeasured(const Claim& claim);

// How the numbers of one column are written, so that their points stand below each other: `decimals` places when they are of
// similar size, else FormatMeasure.
struct ColumnFormat {
  bool numeric = false;  // the column has numbers and no text but empty ones
  int decimals = -1;     // -1: FormatMeasure
};
ColumnFormat ChooseFormat(const Table& table, size_t column);
std::string FormatCell(const ColumnFormat& format, const Table::Value& value);

// "supported", "not supported", "inconclusive".
std::string VerdictText(Verdict verdict);

// "5 seeds", "5 seeds; 2 of 10 jobs diverged"; empty when the claim names none.
std::string SeedsText(const Claim& claim);

// What stands over a section, and a claim's sentence, where their group has no heading of its own. Thread-safe.
std::string TitleWithGroup(const Section& section);
std::string StatementWithGroup(const Claim& claim);

}  // namespace normlab::client::report
