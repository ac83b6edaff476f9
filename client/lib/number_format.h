#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace normlab::client {

// The shortest decimal text that reads back as exactly `value`; "NaN", "Infinity" and "-Infinity"
// for the rest, as protobuf's JSON mapping spells them. Thread-safe.
std::string FormatDouble(double value);

// The same as a JSON value: the non-finite ones in quotes. Thread-safe.
std::string FormatJsonDouble(double value);

// `text` as a JSON string, quotes included; bytes that are not UTF-8 become U+FFFD. Thread-safe.
std::string FormatJsonString(absl::string_view text);

// For people: four significant digits, such as 0.3127 or 1.2e-05. Thread-safe.
std::string FormatRounded(double value);

// For people: 0:07, 12:34 or 3:04:05. Negative or not finite: "?". Thread-safe.
std::string FormatSeconds(double seconds);

// For people: 950, 52.3k, 1.8M. Thread-safe.
std::string FormatCount(double count);

// For people: 12 MiB and the like. Thread-safe.
std::string FormatBytes(double bytes);

}  // namespace normlab::client
