#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include <grpcpp/security/server_credentials.h>

namespace normlab::server {

// Files in PEM form, named by --tls_cert, --tls_key and --tls_client_ca. Without a certificate:
// plaintext.
struct TlsFiles {
  std::string certificate;  // the server's, with the chain up to the authority behind it
  std::string key;
  std::string client_ca;  // empty: clients need no certificate

  bool enabled() const { return !certificate.empty(); }
};

// OK when a server can begin with these files: certificate and key can be read and belong together,
// the certificate is valid now, nobody but the owner and root can read the key, the authorities can
// be read. INVALID_ARGUMENT or FAILED_PRECONDITION, naming the flag and what to do. Thread-safe.
absl::Status CheckTlsFiles(const TlsFiles& files);

// When the server's certificate ends, of the file as it is now. Errors as above. Thread-safe.
absl::StatusOr<absl::Time> CertificateEnd(const TlsFiles& files);

// Credentials for a listener: TLS 1.2 or later from these files, which are looked at every second,
// so that a new certificate serves the next connection without a restart; with a client authority,
// only clients that show a certificate of it get through. Plaintext when TLS is not enabled.
std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(const TlsFiles& files);

}  // namespace normlab::server
