#include "client/cli/help_formatter.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace normlab::client {
namespace {

constexpr size_t kNameWidth = 28;
constexpr size_t kLineWidth = 100;

// `text` in lines of at most `width` characters, broken at spaces.
std::vector<std::string> Wrap(const std::string& text, size_t width) {
  std::vector<std::string> lines(1);
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > width) {
      lines.emplace_back();
    }
    absl::StrAppend(&lines.back(), lines.back().empty() ? "" : " ", word);
  }
  return lines;
}

}  // namespace

HelpFormatter::HelpFormatter() {
  column_width(kNameWidth);
  label("REQUIRED", "(required)");
}

std::string HelpFormatter::make_option(const CLI::Option* option, bool is_positional) const {
  const std::string name =
      absl::StrCat("  ", make_option_name(option, is_positional), make_option_opts(option));
  std::string text = name;
  size_t column = name.size();
  for (const std::string& line : Wrap(make_option_desc(option), kLineWidth - kNameWidth)) {
    if (column >= kNameWidth) {
      absl::StrAppend(&text, "\n");
      column = 0;
    }
    absl::StrAppend(&text, std::string(kNameWidth - column, ' '), line);
    column = kNameWidth;
  }
  return absl::StrCat(text, "\n");
}

std::string HelpFormatter::make_footer(const CLI::App* app) const {
  std::string footer = CLI::Formatter::make_footer(app);
  if (app->get_parent() != nullptr) {
    absl::StrAppend(&footer,
                    "\nOptions of every command (--server, --output json, ...): normlab --help\n");
  }
  return footer;
}

}  // namespace normlab::client
