#include "client/cli/output.h"

#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace normlab::client {
namespace {

constexpr int kNarrowestTerminal = 20;

bool IsContinuation(char byte) {
  return (static_cast<uint8_t>(byte) & 0xC0U) == 0x80U;
}

absl::string_view Code(Color color) {
  switch (color) {
    case Color::kRed:
      return "\x1b[31m";
    case Color::kGreen:
      return "\x1b[32m";
    case Color::kYellow:
      return "\x1b[33m";
    case Color::kCyan:
      return "\x1b[36m";
    case Color::kDim:
      return "\x1b[2m";
    case Color::kBold:
      return "\x1b[1m";
    case Color::kPlain:
      break;
  }
  return "";
}

}  // namespace

void Output::NoteError() {
  if (!status_.ok()) {
    return;
  }
  status_ =
      errno == EPIPE
          ? absl::AbortedError("nobody reads the output any more")
          : absl::DataLossError(absl::StrCat("cannot write the output: ", std::strerror(errno),
                                             "; make room or write it elsewhere"));
}

void Output::Write(absl::string_view text) {
  if (status_.ok() && std::fwrite(text.data(), 1, text.size(), file_) != text.size()) {
    NoteError();
  }
}

void Output::Flush() {
  if (status_.ok() && std::fflush(file_) != 0) {
    NoteError();
  }
}

int Output::Width() const {
  winsize size{};
  if (style_.terminal && ioctl(fileno(file_), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    return std::max<int>(size.ws_col, kNarrowestTerminal);
  }
  return style_.width;
}

std::string Output::Paint(Color color, absl::string_view text) const {
  return style_.color && color != Color::kPlain ? absl::StrCat(Code(color), text, "\x1b[0m")
                                                : std::string(text);
}

OutputStyle DetectStyle(std::FILE* file, bool no_color) {
  const char* forbidden = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  const bool is_dumb = term == nullptr || std::strcmp(term, "dumb") == 0;
  OutputStyle style;
  style.terminal = isatty(fileno(file)) == 1 && !is_dumb;
  style.color = style.terminal && !no_color && (forbidden == nullptr || *forbidden == '\0');
  style.unicode = std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
  return style;
}

std::string Printable(absl::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    const bool is_c1 = byte == 0xC2 && i + 1 < text.size() &&
                       static_cast<uint8_t>(text[i + 1]) < 0xA0;  // U+0080 to U+009F
    if (byte == '\n') {
      absl::StrAppend(&result, "\n    ");
    } else if (is_c1) {
      result.push_back('?');
      ++i;
    } else if ((byte < 0x20 && byte != '\t') || byte == 0x7F) {
      result.push_back('?');
    } else {
      result.push_back(text[i]);
    }
  }
  return result;
}

int DisplayWidth(absl::string_view text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char byte) { return !IsContinuation(byte); }));
}

std::string PadRight(absl::string_view text, int width) {
  return absl::StrCat(text, std::string(std::max(0, width - DisplayWidth(text)), ' '));
}

std::string Shorten(absl::string_view text, int width) {
  if (DisplayWidth(text) <= width) {
    return std::string(text);
  }
  constexpr int kDots = 3;
  size_t end = 0;
  for (int columns = 0; end < text.size(); ++end) {
    if (!IsContinuation(text[end]) && ++columns > std::max(0, width - kDots)) {
      break;
    }
  }
  return absl::StrCat(text.substr(0, end), width >= kDots ? "..." : "");
}

}  // namespace normlab::client
