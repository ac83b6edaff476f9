#pragma once

#include <functional>
#include <istream>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "google/protobuf/message.h"

#include "client/cli/output.h"
#include "client/lib/client.h"
#include "client/lib/connection.h"
#include "client/lib/spec_violation.h"

namespace normlab::client {

// Options that every command has.
struct GlobalOptions {
  std::string server = kDefaultServer;
  std::string output = "text";  // or json
  bool no_color = false;
  std::string timeout = "60s";
  std::string retry_for;  // empty: the client's own defaults
  TlsOptions tls;
  std::string token;
  std::string token_file;
};

// What a command works with: the streams, the options, and one way to end with an error. Not
// thread-safe; keeps references to the streams.
class CommandContext {
 public:
  CommandContext(std::istream& in, Output& out, Output& err, GlobalOptions options)
      : in_(in), out_(out), err_(err), options_(std::move(options)) {}

  std::istream& in() { return in_; }
  Output& out() { return out_; }
  Output& err() { return err_; }
  bool json() const { return options_.output == "json"; }
  const GlobalOptions& options() const { return options_; }

  // Reads the files that the connection's options name, once; before any other member.
  // INVALID_ARGUMENT: an option of the connection is wrong.
  absl::Status Prepare();

  // Options of a connection as the command line has them.
  ClientOptions MakeClientOptions(std::stop_token stop) const;
  Client MakeClient() const { return Client(MakeClientOptions({})); }

  // A protobuf message as one JSON document (in several lines) on standard output.
  void PrintJson(const google::protobuf::Message& message);

  // Each prints the error to standard error, as text or as one JSON line, and returns the exit
  // code.
  int Fail(const absl::Status& status);
  int FailUsage(const std::string& message);
  // Prints violations as compilers do: file:line:column first.
  int FailSpec(const std::vector<SpecViolation>& violations, const std::string& summary);

 private:
  void PrintJsonError(const absl::Status& status);

  std::istream& in_;
  Output& out_;
  Output& err_;
  GlobalOptions options_;
  std::shared_ptr<grpc::ChannelCredentials> credentials_;
  std::string token_;
};

// What the command line asks for, once it is parsed.
using Command = std::function<int(CommandContext&)>;

// `message` by protobuf's JSON mapping; `pretty` in several lines, with a line break at the end.
std::string ToJson(const google::protobuf::Message& message, bool pretty);

}  // namespace normlab::client
