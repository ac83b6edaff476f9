#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace normlab::client {

// What a person wants to know of an X.509 certificate.
struct CertificateFacts {
  std::string subject;  // for example CN = gpu
  absl::Time not_before;
  absl::Time not_after;
};

// Of the first certificate in PEM text. INVALID_ARGUMENT: there is none that can be read.
// Thread-safe.
absl::StatusOr<CertificateFacts> ReadCertificate(absl::string_view pem);

}  // namespace normlab::client
