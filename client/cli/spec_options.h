#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client/cli/context.h"
#include "client/lib/spec_violation.h"

#include "CLI/App.hpp"

namespace normlab::client {

// The ways to say what to run that `submit` and `validate` share: a file and flags that change it,
// or flags alone.
struct SpecOptions {
  std::string file;
  std::string model;
  std::string data;
  std::string normalization;
  std::string display_name;
  std::vector<std::string> labels;
  std::vector<std::string> assignments;

  void AddTo(CLI::App& command);
};

// Reads the file and applies the flags in the order: file, --model, --data, --normalization,
// --name,
// --label, --set. On an error prints it, puts the exit code into `exit_code` and returns nothing.
std::optional<SpecDocument> LoadSpec(const SpecOptions& options,
                                     CommandContext& context,
                                     int* exit_code);

// Prints what the server answered to a spec that it refused, violations at their lines; for other
// errors the same as Fail.
int FailFromServer(const absl::Status& status,
                   const SpecDocument& document,
                   CommandContext& context);

}  // namespace normlab::client
