#include "server/scheduler/attempt_secret.h"

#include "common/sha256.h"

#include <openssl/crypto.h>

namespace normlab::server {

bool SecretMatches(const std::string& secret, const std::string& expected_sha256) {
  const std::string actual = common::Sha256Bytes(secret);
  return actual.size() == expected_sha256.size() &&
         CRYPTO_memcmp(actual.data(), expected_sha256.data(), actual.size()) == 0;
}

}  // namespace normlab::server
