#pragma once

#include <map>
#include <string>

#include "absl/strings/string_view.h"

#include "CLI/App.hpp"

namespace normlab::client {

// Manual pages in roff (man(7)), made from what --help is made from. All functions are pure and
// thread-safe.

// The program's page and one for each command, by file name: normlab.1, normlab-submit.1, ...
std::map<std::string, std::string> ManualPages(const CLI::App& app);

// The server's page, normlabd.8, from what `normlabd --help` prints: an introduction, groups of
// flags under a title each, and a closing.
std::string ServerManualPage(absl::string_view help);

}  // namespace normlab::client
