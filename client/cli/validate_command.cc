#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/json_util.h"

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/job_view.h"
#include "client/cli/spec_options.h"
#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;

// A spec as a JSON file with the names that people write.
std::string ToSpecFile(const normlab::v1::JobSpec& spec) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string json;
  // It fails only for an Any of an unknown type, and a spec has none.
  return google::protobuf::util::MessageToJsonString(spec, &json, options).ok() ? json : "";
}

struct ValidateOptions {
  SpecOptions spec;
  bool local = false;
};

int Validate(const ValidateOptions& options, CommandContext& context) {
  int exit_code = kExitSucceeded;
  const std::optional<SpecDocument> document = LoadSpec(options.spec, context, &exit_code);
  if (!document.has_value()) {
    return exit_code;
  }
  if (options.local) {
    if (context.json()) {
      context.PrintJson(document->spec);
    } else {
      context.err().Write("The spec can be read. The server checks the rest: leave --local out.\n");
      context.out().Write(ToSpecFile(document->spec));
    }
    return kExitSucceeded;
  }
  Client client = context.MakeClient();
  const absl::StatusOr<Job> job = client.CreateJob(document->spec, {.validate_only = true});
  if (!job.ok()) {
    return FailFromServer(job.status(), *document, context);
  }
  if (context.json()) {
    context.PrintJson(*job);
    return kExitSucceeded;
  }
  // The spec alone goes to standard output, so that it can be kept as a file.
  const normlab::v1::Estimate& estimate = job->estimate();
  context.err().Write(absl::StrCat(
      "The spec is valid: ", estimate.cores(), estimate.cores() == 1 ? " core, " : " cores, ",
      FormatBytes(static_cast<double>(estimate.memory_bytes())), ", ",
      FormatCount(static_cast<double>(estimate.parameters())), " parameters.\n"));
  if (job->has_data()) {
    context.err().Write(absl::StrCat("The data are read as ", DescribeData(job->data()), ".\n"));
  }
  for (const std::string& warning : job->warnings()) {
    context.err().Write(
        absl::StrCat(context.err().Paint(Color::kYellow, "warning: "), Printable(warning), "\n"));
  }
  context.out().Write(ToSpecFile(job->has_resolved_spec() ? job->resolved_spec() : document->spec));
  return kExitSucceeded;
}

}  // namespace

void AddValidateCommand(CLI::App& app, Command& selected) {
  const auto options = std::make_shared<ValidateOptions>();
  CLI::App& command =
      *app.add_subcommand("validate", "Check a spec, data files included, without running it");
  options->spec.AddTo(command);
  command.add_flag("--local", options->local, "Only read the file; ask no server");
  command.footer(R"(
Prints the spec with every default written out (with --local, as it was read), a spec file itself.
With --output json it prints the Job as it would be.

Examples:
  normlab validate spec.yaml
  normlab validate --model cnn --data mnist > spec.json
  normlab validate spec.yaml --set model.mlp.hidden=[100,100] --output json)");
  command.callback([options, &selected] {
    selected = [options](CommandContext& context) { return Validate(*options, context); };
  });
}

}  // namespace normlab::client
