#include "client/cli/context.h"

#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/util/json_util.h"

#include "client/cli/exit_code.h"
#include "client/lib/number_format.h"
#include "client/lib/rpc_error.h"
#include "common/status_macros.h"

namespace normlab::client {

namespace {

// The server speaks to programs and people and names both ways, as in "ListJobs (normlab list)": who types commands gets
// the command alone. What stands otherwise, a job's name for instance, stays as it is.
std::string InCommands(absl::string_view text) {
  constexpr absl::string_view kOpen = " (normlab ";
  std::string result;
  for (;;) {
    const size_t open = text.find(kOpen);
    const size_t close = open == absl::string_view::npos ? open : text.find(')', open);
    if (close == absl::string_view::npos) {
      return absl::StrCat(result, text);
    }
    size_t method = open;
    while (method > 0 && absl::ascii_isalpha(static_cast<unsigned char>(text[method - 1]))) {
      --method;
    }
    if (method < open && absl::ascii_isupper(static_cast<unsigned char>(text[method]))) {
      absl::StrAppend(&result, text.substr(0, method), text.substr(open + 2, close - open - 2));
    } else {
      absl::StrAppend(&result, text.substr(0, close + 1));
    }
    text.remove_prefix(close + 1);
  }
}

}  // namespace

std::string ToJson(const google::protobuf::Message& message, bool pretty) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = pretty;
  std::string json;
  // It fails only for an Any of an unknown type; what was printed up to there would not be JSON.
  if (!google::protobuf::util::MessageToJsonString(message, &json, options).ok()) {
    return pretty ? "{}\n" : "{}";
  }
  return json;
}

absl::Status CommandContext::Prepare() {
  NORMLAB_RETURN_IF_ERROR(CheckServerAddress(options_.server));
  NORMLAB_ASSIGN_OR_RETURN(credentials_, MakeCredentials(options_.tls));
  if (!options_.token.empty()) {
    token_ = options_.token;
  } else if (!options_.token_file.empty()) {
    NORMLAB_ASSIGN_OR_RETURN(token_, ReadTokenFile(options_.token_file));
  } else if (const char* variable = std::getenv("NORMLAB_TOKEN")) {
    token_ = variable;
  }
  return CheckToken(token_, options_.server, credentials_ != nullptr);
}

ClientOptions CommandContext::MakeClientOptions(std::stop_token stop) const {
  ClientOptions options;
  options.server = options_.server;
  options.credentials = credentials_;
  options.token = token_;
  options.stop = std::move(stop);
  absl::Duration duration;
  if (absl::ParseDuration(options_.timeout, &duration)) {
    options.timeout = duration;
  }
  if (absl::ParseDuration(options_.retry_for, &duration)) {
    options.retry.give_up_after = duration;
    options.reconnect_for = duration;
  }
  return options;
}

void CommandContext::PrintJson(const google::protobuf::Message& message) {
  out_.Write(ToJson(message, true));
}

void CommandContext::PrintJsonError(const absl::Status& status) {
  google::rpc::Status rpc_status = ToRpcStatus(status);
  std::string body = ToJson(rpc_status, false);
  if (body == "{}") {
    rpc_status.clear_details();
    body = ToJson(rpc_status, false);
  }
  // {"code":5,...} gets the name of its code in front, as Google's HTTP errors have it.
  err_.Write(absl::StrCat("{\"error\":{\"status\":", FormatJsonString(CodeName(status.code())), ",",
                          absl::string_view(body).substr(1), "}\n"));
}

int CommandContext::Fail(const absl::Status& status) {
  if (!out_.status().ok()) {
    return kExitBrokenPipe;  // the main program reports what stopped the output
  }
  out_.Flush();
  if (json()) {
    PrintJsonError(status);
  } else {
    err_.Write(absl::StrCat(err_.Paint(Color::kRed, "error: "),
                            Printable(InCommands(DescribeError(status))), "\n"));
  }
  return ExitCodeForStatus(status);
}

int CommandContext::FailUsage(const std::string& message) {
  if (json()) {
    PrintJsonError(absl::InvalidArgumentError(message));
  } else {
    err_.Write(absl::StrCat(err_.Paint(Color::kRed, "error: "), message, "\n"));
  }
  return kExitUsage;
}

int CommandContext::FailSpec(const std::vector<SpecViolation>& violations,
                             const std::string& summary) {
  if (json()) {
    PrintJsonError(ViolationsToStatus(violations));
    return kExitRefused;
  }
  for (const SpecViolation& violation : violations) {
    err_.Write(absl::StrCat(Printable(violation.ToString()), "\n"));
  }
  err_.Write(absl::StrCat(err_.Paint(Color::kRed, "error: "), Printable(summary), "\n"));
  return kExitRefused;
}

}  // namespace normlab::client
