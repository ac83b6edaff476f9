#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "server/auth/caller.h"

namespace normlab::server {

// A line of the tokens file: whom a token stands for. The token itself is nowhere, only its hash.
struct TokenEntry {
  Caller caller;
  std::string sha256;  // of the whole token; 32 bytes
};

inline constexpr size_t kMaxTokensFileBytes = size_t{1} << 20;

// Reads the text of a tokens file: one JSON object a line,
//
//   {"name": "ci", "role": "submitter", "owner": "vision", "sha256": "<64 hexadecimal digits>"}
//
// with exactly these members, all strings; empty lines and lines that begin with # do not count.
// Names and owners have 1 to 64 letters, digits and . _ - @ + and begin with a letter or digit;
// names and hashes are each there once. INVALID_ARGUMENT, with the number of the line and what to
// do; a message never repeats what a line holds. Pure; thread-safe.
absl::StatusOr<std::vector<TokenEntry>> ParseTokens(absl::string_view text);

// Reads the file at `path`, a regular one that nobody but its owner and root can change. As
// ParseTokens; FAILED_PRECONDITION: it cannot be read, is too long, or others may write to it.
absl::StatusOr<std::vector<TokenEntry>> ReadTokensFile(const std::string& path);

}  // namespace normlab::server
