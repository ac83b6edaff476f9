#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/completion.h"
#include "client/cli/exit_code.h"

#include "CLI/Validators.hpp"

namespace normlab::client {

void AddCompletionCommand(CLI::App& app, Command& selected) {
  const auto shell = std::make_shared<std::string>();
  CLI::App& command =
      *app.add_subcommand("completion", "Print what makes a shell complete normlab's words on Tab");
  command.add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->type_name("")
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command.footer(R"(
Commands and options, values, files, and what the server has: jobs, experiments, series. The Debian
package installs it; without the package:

  source <(normlab completion bash)                                      in ~/.bashrc
  source <(normlab completion zsh)                                       in ~/.zshrc, after compinit
  normlab completion fish > ~/.config/fish/completions/normlab.fish)");
  command.callback([shell, &selected] {
    selected = [shell](CommandContext& context) {
      context.out().Write(CompletionScript(*shell));
      return kExitSucceeded;
    };
  });
}

}  // namespace normlab::client
