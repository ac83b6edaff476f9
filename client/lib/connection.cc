#include "client/lib/connection.h"

#include <netinet/in.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/atomic_file.h"
#include "common/status_macros.h"

#include <arpa/inet.h>

namespace normlab::client {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;
constexpr size_t kMaxTokenBytes = 512;

// HOST of HOST:PORT, without brackets.
std::string HostOf(absl::string_view server) {
  absl::string_view host = server.substr(0, server.rfind(':'));
  if (absl::ConsumePrefix(&host, "[")) {
    absl::ConsumeSuffix(&host, "]");
  }
  return std::string(host);
}

absl::StatusOr<std::string> ReadOptionFile(absl::string_view option, const std::string& path) {
  absl::StatusOr<std::string> text = common::ReadFile(path, kMaxFileBytes);
  if (!text.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(option, " ", path, " cannot be read (",
                                                   text.status().message(),
                                                   "); name a file that you can read"));
  }
  return text;
}

}  // namespace

bool IsLocalServer(absl::string_view server) {
  if (absl::StartsWith(server, "unix:")) {
    return true;
  }
  for (const absl::string_view scheme : {"ipv4:", "ipv6:", "dns:///", "dns:"}) {
    if (absl::ConsumePrefix(&server, scheme)) {
      break;
    }
  }
  const std::string host = HostOf(server);
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    return (ntohl(v4.s_addr) >> 24) == 127;
  }
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    return IN6_IS_ADDR_LOOPBACK(&v6) != 0;
  }
  return absl::EqualsIgnoreCase(host, "localhost");
}

absl::Status CheckServerAddress(absl::string_view server) {
  for (const absl::string_view scheme : {"http://", "https://", "grpc://", "grpcs://"}) {
    absl::string_view rest = server;
    if (absl::ConsumePrefix(&rest, scheme)) {
      rest = rest.substr(0, rest.find('/'));
      return absl::InvalidArgumentError(
          absl::StrCat("--server ", server, " is a URL; write HOST:PORT, here --server ", rest,
                       absl::EndsWith(scheme, "s://") ? " --tls" : ""));
    }
  }
  if (server.empty() || (server.find(':') == absl::string_view::npos)) {
    return absl::InvalidArgumentError(absl::StrCat("--server ", server.empty() ? "\"\"" : server,
                                                   " has no port; write HOST:PORT, for example ",
                                                   server.empty() ? "127.0.0.1" : server, ":7600"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(
    const TlsOptions& options) {
  if (options.certificate.empty() != options.key.empty()) {
    return absl::InvalidArgumentError(
        "--tls-cert and --tls-key belong together, and one is missing; give both");
  }
  if (!options.enabled && options.ca.empty() && options.certificate.empty()) {
    return std::shared_ptr<grpc::ChannelCredentials>();
  }
  grpc::SslCredentialsOptions ssl;
  if (!options.ca.empty()) {
    NORMLAB_ASSIGN_OR_RETURN(ssl.pem_root_certs, ReadOptionFile("--tls-ca", options.ca));
    if (!absl::StrContains(ssl.pem_root_certs, "-----BEGIN CERTIFICATE-----")) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--tls-ca ", options.ca,
          " has no certificate in PEM form (-----BEGIN CERTIFICATE-----); name another file"));
    }
  }
  if (!options.certificate.empty()) {
    NORMLAB_ASSIGN_OR_RETURN(ssl.pem_cert_chain, ReadOptionFile("--tls-cert", options.certificate));
    NORMLAB_ASSIGN_OR_RETURN(ssl.pem_private_key, ReadOptionFile("--tls-key", options.key));
  }
  return grpc::SslCredentials(ssl);
}

absl::StatusOr<std::string> ReadTokenFile(const std::string& path) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string text, ReadOptionFile("--token-file", path));
  const absl::string_view line =
      absl::StripAsciiWhitespace(absl::string_view(text).substr(0, text.find('\n')));
  if (line.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--token-file ", path, " has no token in its first line; write it there"));
  }
  return std::string(line);
}

absl::Status CheckToken(absl::string_view token, absl::string_view server, bool encrypted) {
  if (token.empty()) {
    return absl::OkStatus();
  }
  if (token.size() > kMaxTokenBytes || !std::all_of(token.begin(), token.end(), [](char c) {
        return absl::ascii_isgraph(static_cast<unsigned char>(c));
      })) {
    return absl::InvalidArgumentError(
        "the token has blanks or other characters that no token has; give it as the server's "
        "administrator did, or write it into a file for --token-file");
  }
  if (!encrypted && !IsLocalServer(server)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the token was not sent to ", server,
        ", because without TLS everybody on the way could read it; add --tls, or --tls-ca FILE "
        "with the server's authority, or go through a tunnel to this machine (ssh -L)"));
  }
  return absl::OkStatus();
}

void AddToken(absl::string_view token, grpc::ClientContext& context) {
  if (!token.empty()) {
    context.AddMetadata("authorization", absl::StrCat("Bearer ", token));
  }
}

}  // namespace normlab::client
