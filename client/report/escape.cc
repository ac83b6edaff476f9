#include "client/report/escape.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

#include "client/lib/csv_field.h"

namespace normlab::client::report {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

// Length of the UTF-8 character at `at`; 0: it is none (overlong forms and surrogates are none either).
size_t CharacterLength(absl::string_view text, size_t at) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0};
  };
  const auto follows = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const uint8_t first = byte(at);
  const uint8_t second = byte(at + 1);
  if (first < 0x80) {
    return 1;
  }
  if (first >= 0xC2 && first <= 0xDF) {
    return follows(at + 1) ? 2 : 0;
  }
  if (first >= 0xE0 && first <= 0xEF) {
    const bool legal = !(first == 0xE0 && second < 0xA0) && !(first == 0xED && second > 0x9F);
    return legal && follows(at + 1) && follows(at + 2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const bool legal = !(first == 0xF0 && second < 0x90) && !(first == 0xF4 && second > 0x8F);
    return legal && follows(at + 1) && follows(at + 2) && follows(at + 3) ? 4 : 0;
  }
  return 0;
}

std::string Clean(absl::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t length = CharacterLength(text, i);
    const char c = text[i];
    const bool control =
        (absl::ascii_iscntrl(static_cast<unsigned char>(c)) && c != '\n' && c != '\t');
    if (length == 0 || control) {
      clean += kReplacement;
      ++i;
    } else {
      clean.append(text.data() + i, length);
      i += length;
    }
  }
  return clean;
}

}  // namespace

std::string EscapeHtml(absl::string_view text) {
  return absl::StrReplaceAll(
      Clean(text),
      {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

std::string EscapeJsonInScript(absl::string_view json) {
  // All three only stand inside strings of JSON, where they may be written so.
  return absl::StrReplaceAll(json, {{"<", "\\u003c"}, {">", "\\u003e"}, {"&", "\\u0026"}});
}

std::string EscapeMarkdown(absl::string_view text) {
  std::string escaped;
  for (const char c : Clean(text)) {
    if (c == '\n' || c == '\t') {
      escaped += ' ';
    } else if (c == '<') {
      escaped += "&lt;";
    } else if (c == '&') {
      escaped += "&amp;";
    } else {
      if (absl::string_view("\\`*_[]|>#~$").find(c) != absl::string_view::npos) {
        escaped += '\\';
      }
      escaped += c;
    }
  }
  return escaped;
}

std::string CsvField(absl::string_view text) {
  std::string field = Clean(text);
  if (!field.empty() && absl::string_view("=+-@\t").find(field[0]) != absl::string_view::npos) {
    field.insert(0, 1, '\'');
  }
  return client::CsvField(field);
}

std::string PlainFileName(absl::string_view text) {
  constexpr size_t kLongest = 100;
  std::string name;
  for (const char c : text.substr(0, kLongest)) {
    const bool plain = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ||
                       (c == '.' && !name.empty());
    name += plain ? c : '-';
  }
  return name.empty() ? "unnamed" : name;
}

std::string ShellWord(absl::string_view text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           absl::string_view("_-./=,:+").find(c) != absl::string_view::npos;
  });
  return plain ? std::string(text)
               : absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

}  // namespace normlab::client::report
