#pragma once

#include <string>

#include "CLI/App.hpp"
#include "CLI/Formatter.hpp"

namespace normlab::client {

// CLI11's help with descriptions broken into lines of 100 columns. Immutable, so thread-safe.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter();

  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_footer(const CLI::App* app) const override;
};

}  // namespace normlab::client
