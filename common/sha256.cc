#include "common/sha256.h"

#include "absl/strings/escaping.h"

#include <openssl/evp.h>

namespace normlab::common {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr);
}

Sha256::~Sha256() = default;

void Sha256::Update(const void* data, size_t bytes) {
  EVP_DigestUpdate(state_->context, data, bytes);
}

std::string Sha256::Finish() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int bytes = 0;
  EVP_DigestFinal_ex(state_->context, digest, &bytes);
  return {reinterpret_cast<const char*>(digest), bytes};
}

std::string Sha256::FinishHex() {
  return absl::BytesToHexString(Finish());
}

std::string Sha256Bytes(absl::string_view text) {
  Sha256 hash;
  hash.Update(text);
  return hash.Finish();
}

std::string Sha256Hex(absl::string_view text) {
  return absl::BytesToHexString(Sha256Bytes(text));
}

}  // namespace normlab::common
