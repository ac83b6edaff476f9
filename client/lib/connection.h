#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "grpcpp/client_context.h"
#include "grpcpp/security/credentials.h"

namespace normlab::client {

// Where a server is and how to prove who one is. All functions are thread-safe.

// Whether a gRPC target is on this machine for certain: a loopback address, localhost, a Unix
// socket.
bool IsLocalServer(absl::string_view server);

// OK for HOST:PORT and gRPC's own targets. INVALID_ARGUMENT, with what to write, for a URL or a
// host without a port.
absl::Status CheckServerAddress(absl::string_view server);

// PEM files for TLS.
struct TlsOptions {
  bool enabled = false;     // the authorities that the system trusts
  std::string ca;           // instead: those of this file; means TLS
  std::string certificate;  // of this client, for servers that ask for one; with its key
  std::string key;
};

// Null for plaintext. INVALID_ARGUMENT: a file cannot be read, or one of certificate and key is
// missing; names the option.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(
    const TlsOptions& options);

// A token from the first line of a file. INVALID_ARGUMENT: it cannot be read or has none.
absl::StatusOr<std::string> ReadTokenFile(const std::string& path);

// OK when the token may be sent: it is text that fits into a header, and the connection is
// encrypted or stays on this machine. INVALID_ARGUMENT, FAILED_PRECONDITION.
absl::Status CheckToken(absl::string_view token, absl::string_view server, bool encrypted);

// Puts the token, when there is one, into the call's metadata.
void AddToken(absl::string_view token, grpc::ClientContext& context);

}  // namespace normlab::client
