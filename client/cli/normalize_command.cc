#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/lib/array_input.h"
#include "client/lib/array_json.h"
#include "client/lib/npy.h"
#include "client/lib/number_format.h"
#include "client/lib/spec_file.h"
#include "client/lib/spec_violation.h"

#include "normlab/v1/normalization.pb.h"

namespace normlab::client {
namespace {

using normlab::v1::NormalizeRequest;
using normlab::v1::NormalizeResponse;
using normlab::v1::Tensor;

struct NormalizeOptions {
  std::string spec;
  std::string input;
  std::string output_gradient;
  std::vector<std::string> parameters;
  bool inference = false;
  uint32_t seed = 0;
  int64_t step = 0;
  std::string into;
};

// Reads what the arguments name. False: it was printed what is wrong, and `exit_code` is set.
bool ReadRequest(const NormalizeOptions& options,
                 CommandContext& context,
                 SpecDocument& document,
                 NormalizeRequest& request,
                 int& exit_code) {
  int from_standard_input = (options.input == "-") + (options.output_gradient == "-");
  from_standard_input += options.spec == "-";
  const auto read = [&](const std::string& option, const std::string& argument, Tensor& tensor) {
    absl::StatusOr<Tensor> array = ReadArray(option, argument, context.in());
    if (!array.ok()) {
      exit_code = context.Fail(array.status());
      return false;
    }
    tensor = *std::move(array);
    return true;
  };
  for (const std::string& parameter : options.parameters) {
    const size_t equals = parameter.find('=');
    if (equals == std::string::npos || equals == 0) {
      exit_code = context.FailUsage(absl::StrCat("--parameter ", Printable(parameter),
                                                 " is not NAME=ARRAY; write for example "
                                                 "--parameter 'weight=[2, 2]'"));
      return false;
    }
    from_standard_input += parameter.substr(equals + 1) == "-";
  }
  if (from_standard_input > 1) {
    exit_code =
        context.FailUsage("- (standard input) stands more than once; give files for the rest");
    return false;
  }
  SpecResult spec = ReadNormalizer("--spec", options.spec, context.in());
  if (!spec.violations.empty()) {
    exit_code =
        context.FailSpec(spec.violations, "the normalizer cannot be read; correct what is listed");
    return false;
  }
  document = std::move(spec.document);
  *request.mutable_normalizer() = document.spec.normalization();
  if (!read("--input", options.input, *request.mutable_input()) ||
      (!options.output_gradient.empty() &&
       !read("--output-gradient", options.output_gradient, *request.mutable_output_gradient()))) {
    return false;
  }
  for (const std::string& parameter : options.parameters) {
    const size_t equals = parameter.find('=');
    const std::string name = parameter.substr(0, equals);
    if (!read(absl::StrCat("--parameter ", name), parameter.substr(equals + 1),
              (*request.mutable_parameters())[name])) {
      return false;
    }
  }
  request.set_statistics(options.inference ? normlab::v1::Statistics::INFERENCE
                                           : normlab::v1::Statistics::TRAINING);
  request.set_seed(options.seed);
  request.set_step(options.step);
  return true;
}

// {"mean": [...], "var": [...]}, in the order of names.
std::string FormatNamed(const google::protobuf::Map<std::string, Tensor>& tensors) {
  const std::map<std::string, Tensor> sorted(tensors.begin(), tensors.end());
  std::string text = "{";
  for (const auto& [name, tensor] : sorted) {
    absl::StrAppend(&text, text.size() > 1 ? ", " : "", FormatJsonString(name), ": ",
                    FormatJsonArray(tensor));
  }
  return absl::StrCat(text, "}");
}

std::string FormatResponse(const NormalizeResponse& response) {
  std::string text = absl::StrCat("{\n  \"output\": ", FormatJsonArray(response.output()), ",\n");
  if (response.has_input_gradient()) {
    absl::StrAppend(&text, "  \"input_gradient\": ", FormatJsonArray(response.input_gradient()),
                    ",\n  \"parameter_gradients\": ", FormatNamed(response.parameter_gradients()),
                    ",\n");
  }
  absl::StrAppend(&text, "  \"statistics\": ", FormatNamed(response.statistics()),
                  ",\n  \"implementation\": ", FormatJsonString(response.implementation()),
                  "\n}\n");
  return text;
}

absl::Status WriteFile(const std::string& path, absl::string_view bytes) {
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  return file ? absl::OkStatus()
              : absl::InvalidArgumentError(absl::StrCat(
                    "-o ", path, " cannot be written: ",
                    errno != 0 ? std::strerror(errno) : "an output error", "; give another place"));
}

// Every array as a .npy file of its own in `folder`.
absl::Status WriteFolder(const std::string& folder, const NormalizeResponse& response) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("-o ", folder, " cannot be made: ", error.message(), "; give another place"));
  }
  std::map<std::string, const Tensor*> files = {{"output", &response.output()}};
  if (response.has_input_gradient()) {
    files["input_gradient"] = &response.input_gradient();
  }
  for (const auto& [name, tensor] : response.parameter_gradients()) {
    files[absl::StrCat("parameter_gradients.", name)] = &tensor;
  }
  for (const auto& [name, tensor] : response.statistics()) {
    files[absl::StrCat("statistics.", name)] = &tensor;
  }
  for (const auto& [name, tensor] : files) {
    // Names come from the server: they are no paths.
    if (absl::StrContains(name, '/')) {
      return absl::InternalError("the server named a tensor with a slash; use another server");
    }
    const absl::Status written =
        WriteFile(absl::StrCat(folder, "/", name, ".npy"), FormatNpy(*tensor));
    if (!written.ok()) {
      return written;
    }
  }
  return absl::OkStatus();
}

int Normalize(const NormalizeOptions& options, CommandContext& context) {
  int exit_code = kExitSucceeded;
  NormalizeRequest request;
  SpecDocument document;
  if (!ReadRequest(options, context, document, request, exit_code)) {
    return exit_code;
  }
  Client client = context.MakeClient();
  const absl::StatusOr<NormalizeResponse> response = client.Normalize(request);
  if (!response.ok()) {
    const std::vector<SpecViolation> violations = LocateViolations(response.status(), document);
    // The server's message repeats the violations, without their places.
    return violations.empty() || context.json()
               ? context.Fail(response.status())
               : context.FailSpec(violations,
                                  "the server refused the request; correct what is listed");
  }
  if (options.into.empty()) {
    context.out().Write(FormatResponse(*response));
    return kExitSucceeded;
  }
  const absl::Status written = absl::EndsWith(options.into, ".json")
                                   ? WriteFile(options.into, FormatResponse(*response))
                                   : WriteFolder(options.into, *response);
  return written.ok() ? kExitSucceeded : context.Fail(written);
}

}  // namespace

void AddNormalizeCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<NormalizeOptions>();
  CLI::App& command = *app.add_subcommand(
      "normalize", "Apply a normalizer to an array, forward and backward, without a job");
  command
      .add_option("--spec", options->spec,
                  "The normalizer: a kind (batch), JSON or YAML ({group: {groups: 4}}), or a file")
      ->required()
      ->type_name("SPEC");
  command
      .add_option("--input", options->input,
                  "The array [N, D] or [N, C, H, W] (for weight kinds the weights): a .npy or JSON "
                  "file, - for standard input, or nested lists")
      ->required()
      ->type_name("ARRAY");
  command
      .add_option("--output-gradient", options->output_gradient,
                  "Gradient of a loss with respect to the output: gradients are computed")
      ->type_name("ARRAY");
  command
      .add_option("--parameter", options->parameters,
                  "What the normalizer has (weight, bias, running_mean, running_var, alpha, tau, "
                  "weight_g); else its initial value; may be given several times")
      ->type_name("NAME=ARRAY")
      ->allow_extra_args(false);
  command.add_flag("--inference", options->inference,
                   "As in evaluation: running statistics, where there are any");
  command.add_option("--seed", options->seed, "Seed of the noise (noisy_batch)")->type_name("N");
  command.add_option("--step", options->step, "Step of the noise")->type_name("N");
  command
      .add_option("-o", options->into,
                  "Write a .json file, or .npy files into a folder, instead of standard output")
      ->type_name("PLACE");
  command.footer(R"(
Prints JSON: output, input_gradient, parameter_gradients, statistics, implementation.

Examples:
  normlab normalize --spec batch --input '[[-1.5], [-0.5], [0.5], [1.5]]'
  normlab normalize --spec '{group: {groups: 4}}' --input x.npy --output-gradient dy.npy -o out
  normlab normalize --spec batch --input x.npy --inference --parameter running_mean=m.npy)");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Normalize(*options, context); };
  });
}

}  // namespace normlab::client
