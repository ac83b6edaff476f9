#include "server/app/tls.h"

#include <sys/stat.h>
#include <unistd.h>

#include <ctime>

#include "absl/strings/str_cat.h"
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include "common/atomic_file.h"
#include "common/status_macros.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

namespace normlab::server {
namespace {

constexpr unsigned kReloadSeconds = 1;
constexpr size_t kMaxPemBytes = size_t{1} << 20;

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};

absl::StatusOr<std::unique_ptr<BIO, Free>> OpenPem(absl::string_view flag,
                                                   const std::string& path) {
  const absl::StatusOr<std::string> text = common::ReadFile(path, kMaxPemBytes);
  if (!text.ok()) {
    return absl::FailedPreconditionError(absl::StrCat("--", flag, "=", path,
                                                      " cannot be read: ", text.status().message(),
                                                      "; name a PEM file that this user can read"));
  }
  // Copies nothing but what fits an int, which the limit above makes sure of.
  std::unique_ptr<BIO, Free> bio(BIO_new(BIO_s_mem()));
  BIO_write(bio.get(), text->data(), static_cast<int>(text->size()));
  return bio;
}

absl::Status NotPem(absl::string_view flag, const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, "=", path, " has no ", what,
                                                 " in PEM form (-----BEGIN ...); name another "
                                                 "file, or convert it with openssl"));
}

absl::StatusOr<std::unique_ptr<X509, Free>> ReadCertificate(absl::string_view flag,
                                                            const std::string& path) {
  NORMLAB_ASSIGN_OR_RETURN(const auto bio, OpenPem(flag, path));
  std::unique_ptr<X509, Free> certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) {
    return NotPem(flag, path, "certificate");
  }
  return certificate;
}

absl::Status CheckPrivate(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && (info.st_mode & (S_IROTH | S_IWOTH | S_IWGRP)) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("--tls_key=", path,
                     " can be read or changed by every user of this machine; chmod it to 600"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTlsFiles(const TlsFiles& files) {
  if (files.certificate.empty() != files.key.empty()) {
    return absl::InvalidArgumentError(
        "--tls_cert and --tls_key belong together, and one is missing; give both");
  }
  if (!files.enabled()) {
    return files.client_ca.empty()
               ? absl::OkStatus()
               : absl::InvalidArgumentError(
                     "--tls_client_ca needs TLS; give --tls_cert and --tls_key as well");
  }
  NORMLAB_ASSIGN_OR_RETURN(const auto certificate, ReadCertificate("tls_cert", files.certificate));
  NORMLAB_ASSIGN_OR_RETURN(const auto key_bio, OpenPem("tls_key", files.key));
  const std::unique_ptr<EVP_PKEY, Free> key(
      PEM_read_bio_PrivateKey(key_bio.get(), nullptr, nullptr, nullptr));
  if (key == nullptr) {
    return NotPem("tls_key", files.key, "private key without a passphrase");
  }
  NORMLAB_RETURN_IF_ERROR(CheckPrivate(files.key));
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the key of --tls_key=", files.key, " is not that of the certificate of --tls_cert=",
        files.certificate, "; name the two that were made together"));
  }
  if (X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0 ||
      X509_cmp_current_time(X509_get0_notBefore(certificate.get())) > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the certificate of --tls_cert=", files.certificate,
                     " is expired or not valid yet; renew it, and check the machine's clock"));
  }
  if (!files.client_ca.empty()) {
    NORMLAB_RETURN_IF_ERROR(ReadCertificate("tls_client_ca", files.client_ca).status());
  }
  return absl::OkStatus();
}

absl::StatusOr<absl::Time> CertificateEnd(const TlsFiles& files) {
  NORMLAB_ASSIGN_OR_RETURN(const auto certificate, ReadCertificate("tls_cert", files.certificate));
  std::tm end = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &end) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the certificate of --tls_cert=", files.certificate,
                     " does not say until when it is valid; make a new one"));
  }
  return absl::FromTM(end, absl::UTCTimeZone());
}

std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(const TlsFiles& files) {
  if (!files.enabled()) {
    return grpc::InsecureServerCredentials();
  }
  grpc::experimental::TlsServerCredentialsOptions options(
      std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
          files.key, files.certificate, files.client_ca, kReloadSeconds));
  options.watch_identity_key_cert_pairs();
  if (!files.client_ca.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

}  // namespace normlab::server
