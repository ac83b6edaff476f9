#include "client/cli/command_line.h"

#include <algorithm>
#include <exception>
#include <map>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "client/cli/command_tree.h"
#include "client/cli/completion.h"
#include "client/cli/completion_answer.h"
#include "client/cli/context.h"
#include "client/cli/exit_code.h"
#include "client/cli/manual_page.h"
#include "common/atomic_file.h"
#include "common/name_hint.h"

#include "CLI/App.hpp"
#include "CLI/Config.hpp"

namespace normlab::client {
namespace {

// Not for people, and in no help.
constexpr char kCompleteCommand[] = "__complete";
constexpr char kManualCommand[] = "__manual";

// Whether the arguments ask for JSON, looked up before they are parsed: errors of parsing too shall
// be JSON then.
bool AsksForJson(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--output=json" ||
        (arguments[i] == "--output" && i + 1 < arguments.size() && arguments[i + 1] == "json")) {
      return true;
    }
  }
  return false;
}

// What to say when the arguments of a failed parse name a command that does not exist; else empty.
std::string UnknownCommand(const CLI::App& app) {
  if (!app.get_subcommands().empty()) {
    return "";
  }
  const std::vector<std::string> remaining = app.remaining();
  const auto word = std::find_if(remaining.begin(), remaining.end(), [](const std::string& text) {
    return !absl::StartsWith(text, "-");
  });
  if (word == remaining.end()) {
    return "";
  }
  std::vector<std::string> names;
  for (const CLI::App* command :
       app.get_subcommands([](const CLI::App* /*any*/) { return true; })) {
    names.push_back(command->get_name());
  }
  return absl::StrCat("unknown command \"", Printable(*word), "\"; ",
                      common::NameHint(*word, names));
}

// What the scripts of `normlab completion` call: the shell's name, then the words up to the cursor,
// of which the last may be incomplete. They are no arguments of ours, so they are not parsed.
int AnswerShell(const CLI::App& app,
                std::vector<std::string> words,
                std::istream& in,
                Output& out,
                Output& err) {
  const bool is_bash = !words.empty() && words[0] == "bash";
  if (!words.empty()) {
    words.erase(words.begin());
  }
  size_t strip = 0;
  if (is_bash) {
    words = JoinBashWords(words);
    // It replaces only what stands behind the last "=" or ":".
    const size_t last = words.empty() ? std::string::npos : words.back().find_last_of("=:");
    strip = last == std::string::npos ? 0 : last + 1;
  }
  // Whatever says where the server is counts, and nothing else.
  GlobalOptions options;
  CLI::App connection;
  connection.allow_extras();
  AddGlobalOptions(connection, options);
  try {
    std::vector<std::string> reversed(words.rbegin(), words.rend());
    if (!reversed.empty()) {
      reversed.erase(reversed.begin());  // the word under the cursor
    }
    connection.parse(reversed);
  } catch (const CLI::Error&) {
    options = GlobalOptions();  // --help or half an option among them
  }
  CommandContext context(in, out, err, options);
  CompletionPlan plan = PlanCompletion(app, words);
  const bool asks_server =
      plan.source != CompletionSource::kFiles && plan.source != CompletionSource::kStudies;
  if (asks_server && !context.Prepare().ok()) {
    plan.source = CompletionSource::kNone;  // without a connection there are still words
  }
  out.Write(CompletionAnswer(plan, context, strip));
  return kExitSucceeded;
}

// Writes the manual pages into a folder; the build calls it. Arguments: the folder and, for the
// server's page, a file with what its --help prints.
int WriteManual(const CLI::App& app, const std::vector<std::string>& arguments, Output& err) {
  if (arguments.size() != 2) {
    err.Write("error: wanted: FOLDER FILE-WITH-THE-HELP-OF-NORMLABD\n");
    return kExitUsage;
  }
  std::map<std::string, std::string> pages = ManualPages(app);
  absl::StatusOr<std::string> help = common::ReadFile(arguments[1]);
  absl::Status status = help.status();
  if (status.ok()) {
    pages["normlabd.8"] = ServerManualPage(*help);
  }
  for (const auto& [name, text] : pages) {
    if (status.ok()) {
      status = common::WriteFileAtomically(absl::StrCat(arguments[0], "/", name), text);
    }
  }
  if (!status.ok()) {
    err.Write(absl::StrCat("error: ", std::string(status.message()), "\n"));
  }
  return status.ok() ? kExitSucceeded : kExitRefused;
}

// Ends the output and turns what went wrong with it into the exit code.
int Finish(int exit_code, Output& out, Output& err) {
  out.Flush();
  if (absl::IsAborted(out.status())) {
    return kExitBrokenPipe;
  }
  if (!out.status().ok()) {
    err.Write(absl::StrCat("error: ", std::string(out.status().message()), "\n"));
    exit_code = kExitRefused;
  }
  err.Flush();
  return exit_code;
}

int Run(const std::vector<std::string>& arguments,
        std::istream& in,
        Output& out,
        Output& err,
        GlobalOptions& options) {
  Command selected;
  CLI::App app;
  BuildCommandTree(app, options, selected);
  if (!arguments.empty() && arguments[0] == kCompleteCommand) {
    return AnswerShell(app, {arguments.begin() + 1, arguments.end()}, in, out, err);
  }
  if (!arguments.empty() && arguments[0] == kManualCommand) {
    return WriteManual(app, {arguments.begin() + 1, arguments.end()}, err);
  }
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants it
    app.parse(reversed);
  } catch (const CLI::Success& help) {
    std::ostringstream text;
    app.exit(help, text, text);
    out.Write(text.str());
    return kExitSucceeded;
  } catch (const CLI::ParseError& error) {
    options.output = AsksForJson(arguments) ? "json" : "text";
    CommandContext context(in, out, err, options);
    const std::string unknown = UnknownCommand(app);
    return context.FailUsage(unknown.empty() ? absl::StrCat(error.what(), "; see normlab --help")
                                             : unknown);
  }
  CommandContext context(in, out, err, options);
  if (const absl::Status status = context.Prepare(); !status.ok()) {
    return context.FailUsage(std::string(status.message()));
  }
  return selected(context);
}

}  // namespace

int RunCommandLine(const std::vector<std::string>& arguments,
                   std::istream& in,
                   std::FILE* out,
                   std::FILE* err) {
  const bool no_color =
      std::find(arguments.begin(), arguments.end(), "--no-color") != arguments.end();
  Output out_stream(out, DetectStyle(out, no_color));
  Output err_stream(err, DetectStyle(err, no_color));
  GlobalOptions options;
  int exit_code = kExitRefused;
  try {
    exit_code = Run(arguments, in, out_stream, err_stream, options);
  } catch (const std::exception& error) {  // of a library, at its outermost seam
    err_stream.Write(
        absl::StrCat("error: ", error.what(), "; this is a bug of normlab, please report it\n"));
  }
  return Finish(exit_code, out_stream, err_stream);
}

}  // namespace normlab::client
