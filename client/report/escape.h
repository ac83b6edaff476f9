#pragma once

#include <string>

#include "absl/strings/string_view.h"

// Text of other people (labels, names of jobs, messages) made harmless for where it is put. Bytes that are not UTF-8 become
// U+FFFD everywhere, control characters other than line breaks and tabs too. All functions are thread-safe.
namespace normlab::client::report {

// For the text of an HTML element and for attributes in quotes.
std::string EscapeHtml(absl::string_view text);

// JSON inside a script element: no byte of it can end the element or begin a comment. `json` must be valid JSON.
std::string EscapeJsonInScript(absl::string_view json);

// For one line of Markdown, also inside a table: markup of Markdown and HTML shows as it is written, line breaks become
// spaces.
std::string EscapeMarkdown(absl::string_view text);

// A field of CSV: quoted where it has to be. A text that a spreadsheet would take for a formula gets an apostrophe.
std::string CsvField(absl::string_view text);

// Something of `text` that is safe as a file name: letters, digits, '-', '_' and '.', at most 100 characters, never empty and
// never with a dot in front.
std::string PlainFileName(absl::string_view text);

// One word of a POSIX shell's command, in quotes where it needs some.
std::string ShellWord(absl::string_view text);

}  // namespace normlab::client::report
