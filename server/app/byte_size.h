#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace normlab::server {

// A number of bytes as a flag: 1073741824, 512M, 1GiB, 1.5G. K, M, G and T (each also as KB and KiB
// ...) are powers of 1024, as memory is sold.
struct ByteSize {
  int64_t bytes = 0;
};

// The two functions that make it an absl flag.
bool AbslParseFlag(absl::string_view text, ByteSize* size, std::string* error);
std::string AbslUnparseFlag(ByteSize size);

}  // namespace normlab::server
