#pragma once

#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace normlab::client {

enum class Color { kPlain, kRed, kGreen, kYellow, kCyan, kDim, kBold };

// What a stream of ours is connected to.
struct OutputStyle {
  bool terminal = false;  // somebody looks at it: lines may be redrawn
  bool color = false;
  bool unicode = false;
  int width = 80;  // columns, when it is not a terminal that can be asked
};

// Standard output or standard error. The first error of writing is kept and what follows is
// dropped, so that callers need to look only now and then. Not thread-safe; does not own the FILE.
class Output {
 public:
  Output(std::FILE* file, OutputStyle style) : file_(file), style_(style) {}

  void Write(absl::string_view text);
  void Flush();

  // OK; ABORTED when the reader is gone (a closed pipe); DATA_LOSS for other errors, such as a full
  // disk.
  const absl::Status& status() const { return status_; }

  const OutputStyle& style() const { return style_; }
  // Columns now; a terminal may have been resized.
  int Width() const;

  // `text` in a colour, where colours are wanted.
  std::string Paint(Color color, absl::string_view text) const;

 private:
  void NoteError();

  std::FILE* file_;
  OutputStyle style_;
  absl::Status status_;
};

// The style of an open file: colours on a terminal unless `no_color`, NO_COLOR or TERM=dumb forbid
// them; Unicode when the locale's character set is UTF-8 (call setlocale first).
OutputStyle DetectStyle(std::FILE* file, bool no_color);

// `text` of other people without anything that could command a terminal: control characters become
// "?", line breaks an indented new line. Thread-safe.
std::string Printable(absl::string_view text);

// Columns that UTF-8 text takes: its characters. Thread-safe.
int DisplayWidth(absl::string_view text);

// `text` with spaces at its right up to `width` columns. Thread-safe.
std::string PadRight(absl::string_view text, int width);

// At most `width` columns of `text`, ending in "..." where something is left
// out. Thread-safe.
std::string Shorten(absl::string_view text, int width);

}  // namespace normlab::client
