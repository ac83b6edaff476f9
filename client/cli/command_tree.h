#pragma once

#include "client/cli/context.h"

#include "CLI/App.hpp"

namespace normlab::client {

// The options that every command has, bound to `options`, which must outlive the parsing.
void AddGlobalOptions(CLI::App& app, GlobalOptions& options);

// Makes `app` the whole command line: every command with its options, help and footers. Parsing it
// sets `options`, and `selected` to what runs the command that was named; both must outlive it.
void BuildCommandTree(CLI::App& app, GlobalOptions& options, Command& selected);

}  // namespace normlab::client
