#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/lib/number_format.h"
#include "common/ids.h"
#include "common/sha256.h"

#include "CLI/Validators.hpp"

namespace normlab::client {
namespace {

constexpr size_t kRandomBytes = 32;
// Tells what it is when somebody finds it in a log or a repository.
constexpr char kTokenPrefix[] = "nlt_";
constexpr size_t kMaxNameBytes = 64;

struct NewToken {
  std::string name;
  std::string role;
  std::string owner;
};

// What the server takes as names: see docs/security.md.
const CLI::Validator& NameCheck() {
  static const CLI::Validator& check = *new CLI::Validator(
      [](std::string& text) -> std::string {
        bool good = !text.empty() && text.size() <= kMaxNameBytes &&
                    absl::ascii_isalnum(static_cast<unsigned char>(text[0]));
        for (const char c : text) {
          good = good && (absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                          absl::string_view("._-@+").find(c) != absl::string_view::npos);
        }
        return good ? ""
                    : "use 1 to 64 letters, digits and ._-@+, beginning with a letter or digit";
      },
      "NAME");
  return check;
}

int PrintNewToken(const NewToken& wanted, CommandContext& context) {
  const std::string token =
      absl::StrCat(kTokenPrefix, absl::WebSafeBase64Escape(common::RandomBytes(kRandomBytes)));
  const std::string line = absl::StrCat("{\"name\": \"", wanted.name, "\", \"role\": \"",
                                        wanted.role, "\", \"owner\": \"", wanted.owner,
                                        "\", \"sha256\": \"", common::Sha256Hex(token), "\"}");
  if (context.json()) {
    context.out().Write(absl::StrCat("{\"token\": ", FormatJsonString(token),
                                     ", \"line\": ", FormatJsonString(line), "}\n"));
    return kExitSucceeded;
  }
  context.out().Write(absl::StrCat(
      "token, shown this once (for --token-file or NORMLAB_TOKEN):\n", token,
      "\nline for the server's --tokens_file, which does not give the token away:\n", line, "\n"));
  return kExitSucceeded;
}

}  // namespace

void AddTokenCommand(CLI::App& app, Command& selected) {
  CLI::App& command = *app.add_subcommand(
      "token", "Make a token for callers of a server that wants them; asks no server");
  command.require_subcommand(1);
  CLI::App& create =
      *command.add_subcommand("new", "Make a token and its line for the tokens file");
  create.fallthrough();
  auto wanted = std::make_shared<NewToken>();
  create.add_option("--name", wanted->name, "Who or what the token is for; in the audit log")
      ->required()
      ->check(NameCheck())
      ->type_name("NAME");
  create.add_option("--role", wanted->role, "viewer, submitter or admin")
      ->required()
      ->check(CLI::IsMember({"viewer", "submitter", "admin"}))
      ->type_name("ROLE");
  create
      .add_option("--owner", wanted->owner, "Whose jobs it submits and sees; people may share one")
      ->required()
      ->check(NameCheck())
      ->type_name("OWNER");
  create.callback([&selected, wanted] {
    selected = [wanted](CommandContext& context) { return PrintNewToken(*wanted, context); };
  });
}

}  // namespace normlab::client
