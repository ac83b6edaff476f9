#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace normlab::client {

// CRC-32C (Castagnoli, RFC 3720 B.4) of `bytes`: reflected polynomial 0x82F63B78, initial value and
// final xor 0xFFFFFFFF. Thread-safe; 8 bytes a table step, about 1 GB/s.
uint32_t Crc32c(absl::string_view bytes);

// The checksum as TFRecord files hold it: rotated right by 15 bits, plus 0xA282EAD8, so that a
// checksum of data that contains checksums is no trivial one.
uint32_t MaskedCrc32c(absl::string_view bytes);

}  // namespace normlab::client
