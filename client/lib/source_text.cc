#include "client/lib/source_text.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace normlab::client {
namespace {

constexpr absl::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr size_t kEscapeLength = 6;       // \uXXXX
constexpr size_t kSurrogatePairGap = 11;  // two escapes are 12 characters, the result is one

bool IsContinuation(char byte) {
  return (static_cast<uint8_t>(byte) & 0xC0U) == 0x80U;
}

// The value of the escape \uXXXX at `offset`; nothing when there is none.
std::optional<uint32_t> UnicodeEscape(absl::string_view text, size_t offset) {
  uint32_t value = 0;
  if (text.size() < offset + kEscapeLength || text[offset] != '\\' || text[offset + 1] != 'u' ||
      !absl::SimpleHexAtoi(text.substr(offset + 2, 4), &value)) {
    return std::nullopt;
  }
  return value;
}

void AppendUtf8(uint32_t code_point, std::string* out) {  // of four bytes
  out->push_back(static_cast<char>(0xF0U | code_point >> 18U));
  out->push_back(static_cast<char>(0x80U | (code_point >> 12U & 0x3FU)));
  out->push_back(static_cast<char>(0x80U | (code_point >> 6U & 0x3FU)));
  out->push_back(static_cast<char>(0x80U | (code_point & 0x3FU)));
}

// Copies `text`, replacing escaped surrogate pairs; notes the offsets of the results.
std::string DecodeSurrogatePairs(absl::string_view text, std::vector<size_t>* offsets) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const std::optional<uint32_t> high = UnicodeEscape(text, i);
    const std::optional<uint32_t> low = high.has_value() && *high >= 0xD800 && *high < 0xDC00
                                            ? UnicodeEscape(text, i + kEscapeLength)
                                            : std::nullopt;
    if (low.has_value() && *low >= 0xDC00 && *low < 0xE000) {
      offsets->push_back(result.size());
      AppendUtf8(0x10000 + ((*high - 0xD800) << 10U) + (*low - 0xDC00), &result);
      i += 2 * kEscapeLength;
      continue;
    }
    // An escaped backslash must not be taken for the beginning of an escape.
    const size_t length = text[i] == '\\' && i + 1 < text.size() ? 2 : 1;
    absl::StrAppend(&result, text.substr(i, length));
    i += length;
  }
  return result;
}

}  // namespace

std::optional<size_t> FirstInvalidUtf8(absl::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<uint8_t>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if ((lead >= 0x80 && lead < 0xC2) || lead > 0xF4 || i + length > text.size()) {
      return i;
    }
    for (size_t j = 1; j < length; ++j) {
      if (!IsContinuation(text[i + j])) {
        return i;
      }
    }
    // Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte.
    const uint8_t second = length > 1 ? static_cast<uint8_t>(text[i + 1]) : 0;
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
        (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) {
      return i;
    }
    i += length;
  }
  return std::nullopt;
}

SourceText::SourceText(std::string name, absl::string_view text) : name_(std::move(name)) {
  absl::ConsumePrefix(&text, kByteOrderMark);
  if (absl::StartsWith(absl::StripLeadingAsciiWhitespace(text), "{")) {
    yaml_ = DecodeSurrogatePairs(text, &surrogate_pairs_);
  } else {
    yaml_ = std::string(text);
  }
  line_starts_.push_back(0);
  for (size_t i = 0; i < yaml_.size(); ++i) {
    if (yaml_[i] == '\n') {
      line_starts_.push_back(i + 1);
    }
  }
}

SourceText SourceText::WithoutLines(std::string name, absl::string_view text) {
  SourceText result(std::move(name), text);
  result.has_lines_ = false;
  return result;
}

SourcePosition SourceText::At(const YAML::Mark& mark) const {
  if (mark.is_null() || mark.line < 0 || mark.column < 0) {
    return {.source = name_};
  }
  const size_t line = std::min<size_t>(mark.line, line_starts_.size() - 1);
  return AtOffset(line_starts_[line] + mark.column);
}

SourcePosition SourceText::AtOffset(size_t offset) const {
  if (!has_lines_) {
    return {.source = name_};
  }
  offset = std::min(offset, yaml_.size());
  const auto after = std::upper_bound(line_starts_.begin(), line_starts_.end(), offset);
  const size_t start = *(after - 1);
  auto column = static_cast<size_t>(std::count_if(yaml_.begin() + static_cast<ptrdiff_t>(start),
                                                  yaml_.begin() + static_cast<ptrdiff_t>(offset),
                                                  [](char byte) { return !IsContinuation(byte); }));
  const auto first = std::lower_bound(surrogate_pairs_.begin(), surrogate_pairs_.end(), start);
  const auto last = std::lower_bound(surrogate_pairs_.begin(), surrogate_pairs_.end(), offset);
  column += static_cast<size_t>(last - first) * kSurrogatePairGap;
  return {.source = name_,
          .line = static_cast<int>(after - line_starts_.begin()),
          .column = static_cast<int>(column) + 1};
}

}  // namespace normlab::client
