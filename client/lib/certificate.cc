#include "client/lib/certificate.h"

#include <ctime>
#include <memory>

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

namespace normlab::client {
namespace {

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
struct FreeCertificate {
  void operator()(X509* certificate) const { X509_free(certificate); }
};

absl::Time ToTime(const ASN1_TIME* time) {
  std::tm parts{};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? absl::FromTimeT(timegm(&parts))
                                            : absl::InfinitePast();
}

}  // namespace

absl::StatusOr<CertificateFacts> ReadCertificate(absl::string_view pem) {
  const std::unique_ptr<BIO, FreeBio> source(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  const std::unique_ptr<X509, FreeCertificate> certificate(
      source == nullptr ? nullptr : PEM_read_bio_X509(source.get(), nullptr, nullptr, nullptr));
  const std::unique_ptr<BIO, FreeBio> text(BIO_new(BIO_s_mem()));
  if (certificate == nullptr || text == nullptr) {
    return absl::InvalidArgumentError(
        "no certificate in PEM form (-----BEGIN CERTIFICATE-----) can be read");
  }
  X509_NAME_print_ex(text.get(), X509_get_subject_name(certificate.get()), 0,
                     XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB);
  const char* bytes = nullptr;
  const long count = BIO_get_mem_data(text.get(), &bytes);
  return CertificateFacts{.subject = std::string(bytes, static_cast<size_t>(count)),
                          .not_before = ToTime(X509_get0_notBefore(certificate.get())),
                          .not_after = ToTime(X509_get0_notAfter(certificate.get()))};
}

}  // namespace normlab::client
