// The file of tokens. What it takes has names and hashes of the promised form only.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/string_view.h"

#include "server/auth/tokens_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto entries =
      normlab::server::ParseTokens(absl::string_view(reinterpret_cast<const char*>(data), size));
  if (!entries.ok()) {
    return 0;
  }
  for (const normlab::server::TokenEntry& entry : *entries) {
    if (entry.sha256.size() != 32 || entry.caller.name.empty() || entry.caller.owner.empty() ||
        entry.caller.name.find_first_of(" \"\n\\") != std::string::npos) {
      std::abort();
    }
  }
  return 0;
}
