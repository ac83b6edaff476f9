#include "client/cli/spec_options.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "client/lib/spec_file.h"
#include "client/lib/spec_override.h"

namespace normlab::client {
namespace {

std::string Summary(size_t violations, absl::string_view what) {
  return absl::StrCat(what, ": ", violations, violations == 1 ? " problem" : " problems",
                      "; correct what is listed and try again");
}

}  // namespace

void SpecOptions::AddTo(CLI::App& command) {
  command
      .add_option("SPEC", file,
                  "Spec file: JSON or YAML, text proto when it ends in .textproto, .txtpb or "
                  ".pbtxt; - reads JSON or YAML from standard input")
      ->type_name("");
  command
      .add_option("--model", model, "Model with its defaults: mlp, cnn, deep_linear, vgg, resnet")
      ->type_name("KIND");
  command
      .add_option("--data", data,
                  "Data set with its defaults: fashion_mnist, mnist, cifar10, cifar100, "
                  "gaussian_classes or linear_regression")
      ->type_name("KIND");
  command
      .add_option(
          "--normalization", normalization,
          "Normalization with its defaults: none, batch, layer, group, instance, weight, ...")
      ->type_name("KIND");
  command.add_option("--name", display_name, "Display name, for people");
  command.add_option("--label", labels, "A label; may be given several times")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command
      .add_option("--set", assignments,
                  "Change one field of the spec, for example optimizer.sgd.learning_rate=0.5, "
                  "model.mlp.hidden=[100,100] or normalization=batch (a kind's name selects it "
                  "with defaults); null clears; may be given several times")
      ->type_name("PATH=VALUE")
      ->allow_extra_args(false);
}

std::optional<SpecDocument> LoadSpec(const SpecOptions& options,
                                     CommandContext& context,
                                     int* exit_code) {
  if (options.file.empty() && options.model.empty() && options.assignments.empty()) {
    *exit_code = context.FailUsage(
        "what to run is missing: give a spec file, or --model and --data "
        "(for example --model mlp --data fashion_mnist)");
    return std::nullopt;
  }
  SpecResult result;
  if (!options.file.empty()) {
    result = ReadSpecFile(options.file, context.in());
  }
  const auto apply = [&](const std::string& option, const std::string& path,
                         const std::string& value) {
    ApplyOverride(path, value, absl::StrCat(option, " ", value), result.document,
                  result.violations);
  };
  if (!options.model.empty()) {
    apply("--model", "model", options.model);
  }
  if (!options.data.empty()) {
    apply("--data", "data", options.data);
  }
  if (!options.normalization.empty()) {
    apply("--normalization", "normalization", options.normalization);
  }
  if (!options.display_name.empty()) {
    apply("--name", "display_name", options.display_name);
  }
  for (const std::string& label : options.labels) {
    const size_t equals = label.find('=');
    if (equals == std::string::npos || equals == 0) {
      *exit_code = context.FailUsage(absl::StrCat("--label ", label, " is not KEY=VALUE"));
      return std::nullopt;
    }
    ApplyOverride(absl::StrCat("labels.", label.substr(0, equals)), label.substr(equals + 1),
                  absl::StrCat("--label ", label), result.document, result.violations);
  }
  for (const std::string& assignment : options.assignments) {
    ApplyAssignment(assignment, result.document, result.violations);
  }
  if (!result.violations.empty()) {
    *exit_code = context.FailSpec(result.violations,
                                  Summary(result.violations.size(), "the spec is invalid"));
    return std::nullopt;
  }
  return std::move(result.document);
}

int FailFromServer(const absl::Status& status,
                   const SpecDocument& document,
                   CommandContext& context) {
  const std::vector<SpecViolation> violations = LocateViolations(status, document);
  if (violations.empty() || context.json()) {
    return context.Fail(status);
  }
  // The server's message repeats the violations, without their places.
  return context.FailSpec(violations, Summary(violations.size(), "the server refused the spec"));
}

}  // namespace normlab::client
