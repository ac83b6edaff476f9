#pragma once

#include <string>

namespace normlab::server {

// Whether `secret` is the one with this SHA-256 (32 bytes). Takes as long whichever it is, so that an
// answer's delay tells nothing of the hash.
bool SecretMatches(const std::string& secret, const std::string& expected_sha256);

}  // namespace normlab::server
