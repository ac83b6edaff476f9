#include "server/app/tls.h"

#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <memory>

#include "absl/strings/str_cat.h"

#include "common/atomic_file.h"
#include "common/status_macros.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

namespace normlab::server {
namespace {

constexpr size_t kMaxPemBytes = size_t{1} << 20;

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};

absl::StatusOr<std::string> ReadPem(absl::string_view flag, const std::string& path) {
  absl::StatusOr<std::string> text = common::ReadFile(path, kMaxPemBytes);
  if (!text.ok()) {
    return absl::FailedPreconditionError(absl::StrCat("--", flag, "=", path,
                                                      " cannot be read: ", text.status().message(),
                                                      "; name a PEM file that this user can read"));
  }
  return text;
}

// Reads what is there no more: `text` must outlive it. (At most kMaxPemBytes, which fit an int.)
std::unique_ptr<BIO, Free> Over(const std::string& text) {
  return std::unique_ptr<BIO, Free>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

absl::Status NotPem(absl::string_view flag, const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, "=", path, " has no ", what,
                                                 " in PEM form (-----BEGIN ...); name another "
                                                 "file, or convert it with openssl"));
}

absl::StatusOr<std::unique_ptr<X509, Free>> ParseCertificate(absl::string_view flag,
                                                             const std::string& path,
                                                             const std::string& text) {
  std::unique_ptr<X509, Free> certificate(
      PEM_read_bio_X509(Over(text).get(), nullptr, nullptr, nullptr));
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
  return ReadTlsFiles(files).status();
}

absl::StatusOr<TlsTexts> ReadTlsFiles(const TlsFiles& files) {
  TlsTexts texts;
  NORMLAB_ASSIGN_OR_RETURN(texts.certificate, ReadPem("tls_cert", files.certificate));
  NORMLAB_ASSIGN_OR_RETURN(texts.key, ReadPem("tls_key", files.key));
  NORMLAB_ASSIGN_OR_RETURN(const auto certificate,
                           ParseCertificate("tls_cert", files.certificate, texts.certificate));
  const std::unique_ptr<EVP_PKEY, Free> key(
      PEM_read_bio_PrivateKey(Over(texts.key).get(), nullptr, nullptr, nullptr));
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
  std::tm end = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &end) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the certificate of --tls_cert=", files.certificate,
                     " does not say until when it is valid; make a new one"));
  }
  texts.end = absl::FromTM(end, absl::UTCTimeZone());
  if (!files.client_ca.empty()) {
    NORMLAB_ASSIGN_OR_RETURN(texts.client_ca, ReadPem("tls_client_ca", files.client_ca));
    NORMLAB_RETURN_IF_ERROR(
        ParseCertificate("tls_client_ca", files.client_ca, texts.client_ca).status());
  }
  return texts;
}

}  // namespace normlab::server
