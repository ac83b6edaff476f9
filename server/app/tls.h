#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace normlab::server {

// Files in PEM form, named by --tls_cert, --tls_key and --tls_client_ca. Without a certificate:
// plaintext.
struct TlsFiles {
  std::string certificate;  // the server's, with the chain up to the authority behind it
  std::string key;
  std::string client_ca;  // empty: clients need no certificate

  bool enabled() const { return !certificate.empty(); }
};

// What is in them.
struct TlsTexts {
  std::string certificate;
  std::string key;
  std::string client_ca;
  absl::Time end;  // of the certificate

  friend bool operator==(const TlsTexts&, const TlsTexts&) = default;
};

// The files' contents, when a server can serve them: certificate and key can be read and belong
// together, the certificate is valid now, nobody but the owner and root can read the key, the
// authorities can be read. INVALID_ARGUMENT or FAILED_PRECONDITION, naming the flag and what to do.
// Thread-safe.
absl::StatusOr<TlsTexts> ReadTlsFiles(const TlsFiles& files);

// The same of files that may be none: OK without TLS.
absl::Status CheckTlsFiles(const TlsFiles& files);

}  // namespace normlab::server
