#include "client/cli/manual_page.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "client/cli/completion.h"

#include "CLI/Option.hpp"

namespace normlab::client {
namespace {

// `text` so that roff prints it as it is, hyphens as the minus signs that one types.
std::string Escape(absl::string_view text) {
  std::string escaped = absl::StrReplaceAll(text, {{"\\", "\\e"},
                                                   {"-", "\\-"},
                                                   {"`", "\\(ga"},
                                                   {"'", "\\(aq"},
                                                   {"^", "\\(ha"},
                                                   {"~", "\\(ti"}});
  if (absl::StartsWith(escaped, ".")) {  // at the start of a line it would be a command
    escaped.insert(0, "\\&");
  }
  return escaped;
}

// Lines as they are, in a fixed font.
std::string Verbatim(absl::string_view text) {
  std::string out = ".nf\n";
  for (const absl::string_view line : absl::StrSplit(absl::StripAsciiWhitespace(text), '\n')) {
    absl::StrAppend(&out, line.empty() ? std::string("\\&") : Escape(line), "\n");
  }
  return absl::StrCat(out, ".fi\n");
}

std::string Title(absl::string_view name, int section) {
  return absl::StrCat(".TH ", Escape(absl::AsciiStrToUpper(name)), " ", section, " \"\" \"Normlab ",
                      NORMLAB_VERSION, "\" \"Normlab\"\n");
}

std::vector<const CLI::App*> Commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); });
}

// FILE of FILE:VALIDATOR.
std::string PlaceOf(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const std::string place = type.substr(0, type.find(':'));
  if (!place.empty() || option.get_items_expected_max() == 0) {
    return place;
  }
  const std::vector<std::string> values = FixedValues(option);
  return values.empty() ? "VALUE" : absl::StrJoin(values, "|");
}

// "-o, --output-file FILE" in bold and italics.
std::string Heading(const CLI::Option& option) {
  if (option.get_positional()) {
    return absl::StrCat("\\fI", Escape(option.get_name(/*positional=*/true)), "\\fR");
  }
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) {
    names.push_back(absl::StrCat("\\fB", Escape(absl::StrCat("-", name)), "\\fR"));
  }
  for (const std::string& name : option.get_lnames()) {
    names.push_back(absl::StrCat("\\fB", Escape(absl::StrCat("--", name)), "\\fR"));
  }
  std::string heading = absl::StrJoin(names, ", ");
  if (option.get_items_expected_max() > 0) {
    absl::StrAppend(&heading, " \\fI", Escape(PlaceOf(option)), "\\fR");
  }
  return heading;
}

std::string OptionText(const CLI::Option& option) {
  std::string text = absl::StrCat(".TP\n", Heading(option), "\n", Escape(option.get_description()));
  const std::vector<std::string> values = FixedValues(option);
  if (!values.empty() && !absl::StrContains(option.get_description(), values.front())) {
    absl::StrAppend(&text, ": ", Escape(absl::StrJoin(values, ", ")));
  }
  absl::StrAppend(&text, "\n");
  if (!option.get_default_str().empty()) {
    absl::StrAppend(&text, "Default: ", Escape(option.get_default_str()), ".\n");
  }
  if (!option.get_envname().empty()) {
    absl::StrAppend(&text, "Also the variable ", Escape(option.get_envname()), ".\n");
  }
  return text;
}

// Arguments, then options.
std::string OptionTexts(const CLI::App& app) {
  std::string text;
  for (const bool positional : {true, false}) {
    for (const CLI::Option* option : app.get_options()) {
      if (option->get_positional() == positional && !option->get_group().empty()) {
        absl::StrAppend(&text, OptionText(*option));
      }
    }
  }
  return text;
}

// "normlab metrics [options] JOB".
std::string Synopsis(const std::string& words, const CLI::App& app) {
  std::string line = absl::StrCat("\\fB", Escape(words), "\\fR [\\fIoptions\\fR]");
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      const std::string name = Escape(option->get_name(/*positional=*/true));
      const char* const more = option->get_items_expected_max() > 1 ? " ..." : "";
      absl::StrAppend(&line, option->get_required() ? " \\fI" : " [\\fI", name, "\\fR", more,
                      option->get_required() ? "" : "]");
    }
  }
  if (!Commands(app).empty()) {
    absl::StrAppend(&line, " \\fIcommand\\fR");
  }
  return line;
}

// The sentence with a small first letter and no full stop, as whatis(1) wants it.
std::string Whatis(const std::string& name, std::string description) {
  if (description.size() > 1 && absl::ascii_islower(static_cast<unsigned char>(description[1]))) {
    description[0] = absl::ascii_tolower(static_cast<unsigned char>(description[0]));
  }
  return absl::StrCat(".SH NAME\n", Escape(name), " \\- ", Escape(description), "\n");
}

// Everything that the footer says beside the option list.
std::string Notes(const CLI::App& app) {
  const std::string footer = app.get_footer();
  return absl::StripAsciiWhitespace(footer).empty() ? ""
                                                    : absl::StrCat(".SH NOTES\n", Verbatim(footer));
}

std::string CommandPage(const CLI::App& command) {
  const std::string words = absl::StrCat("normlab ", command.get_name());
  const std::string name = absl::StrCat("normlab-", command.get_name());
  std::string page = absl::StrCat(Title(name, 1), Whatis(name, command.get_description()),
                                  ".SH SYNOPSIS\n", Synopsis(words, command), "\n");
  const std::vector<const CLI::App*> inner = Commands(command);
  absl::StrAppend(&page, ".SH OPTIONS\n", OptionTexts(command));
  for (const CLI::App* one : inner) {
    const std::string inner_words = absl::StrCat(words, " ", one->get_name());
    absl::StrAppend(&page, ".SH ", absl::AsciiStrToUpper(Escape(one->get_name())), "\n",
                    Synopsis(inner_words, *one), "\n.PP\n", Escape(one->get_description()), ".\n",
                    OptionTexts(*one));
    const std::string footer = one->get_footer();
    if (!absl::StripAsciiWhitespace(footer).empty()) {
      absl::StrAppend(&page, ".PP\n", Verbatim(footer));
    }
  }
  return absl::StrCat(page, Notes(command),
                      ".SH SEE ALSO\n\\fBnormlab\\fR(1), which has the options of every command; "
                      "\\fBnormlabd\\fR(8)\n");
}

}  // namespace

std::map<std::string, std::string> ManualPages(const CLI::App& app) {
  std::map<std::string, std::string> pages;
  // "normlab: run normalization experiments ...": the name stands before it already.
  const std::string description = app.get_description();
  std::string page = absl::StrCat(
      Title("normlab", 1),
      Whatis("normlab", std::string(absl::StripPrefix(description, "normlab: "))),
      ".SH SYNOPSIS\n\\fBnormlab\\fR [\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]\n",
      ".SH COMMANDS\n");
  for (const CLI::App* command : Commands(app)) {
    absl::StrAppend(&page, ".TP\n\\fBnormlab\\-", Escape(command->get_name()), "\\fR(1)\n",
                    Escape(command->get_description()), "\n");
    pages[absl::StrCat("normlab-", command->get_name(), ".1")] = CommandPage(*command);
  }
  absl::StrAppend(&page, ".SH OPTIONS\nThey may stand before and behind the command.\n",
                  OptionTexts(app), Notes(app), ".SH SEE ALSO\n\\fBnormlabd\\fR(8)\n");
  pages["normlab.1"] = std::move(page);
  return pages;
}

std::string ServerManualPage(absl::string_view help) {
  std::string page = absl::StrCat(
      Title("normlabd", 8), Whatis("normlabd", "server for normalization experiments"),
      ".SH SYNOPSIS\n\\fBnormlabd\\fR [\\fI\\-\\-flag=value\\fR ...]\n.SH DESCRIPTION\n");
  constexpr absl::string_view kFlagIndent = "  --";
  constexpr absl::string_view kTextIndent = "      ";
  const std::vector<std::string> lines = absl::StrSplit(help, '\n');
  bool has_options = false;
  for (size_t i = 0; i < lines.size(); ++i) {
    absl::string_view line = lines[i];
    const bool is_title = !line.empty() && line[0] != ' ' && i + 1 < lines.size() &&
                          absl::StartsWith(lines[i + 1], kFlagIndent);
    if (is_title) {
      absl::StrAppend(&page, has_options ? "" : ".SH OPTIONS\n", ".SS ", Escape(line), "\n");
      has_options = true;
    } else if (absl::StartsWith(line, kFlagIndent)) {
      absl::StrAppend(&page, ".TP\n\\fB", Escape(absl::StripAsciiWhitespace(line)), "\\fR\n");
    } else if (absl::StartsWith(line, kTextIndent)) {
      absl::StrAppend(&page, Escape(absl::StripAsciiWhitespace(line)), "\n");
    } else if (!line.empty() && !absl::StartsWith(line, "Usage:")) {
      // The first line of what stands behind the flags.
      absl::StrAppend(&page, has_options && lines[i - 1].empty() ? ".SH NOTES\n" : "", Escape(line),
                      "\n");
    }
  }
  return absl::StrCat(page, ".SH SEE ALSO\n\\fBnormlab\\fR(1)\n");
}

}  // namespace normlab::client
