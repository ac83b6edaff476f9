#include "client/export/crc32c.h"

#include <array>
#include <cstddef>

namespace normlab::client {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78U;
constexpr uint32_t kMaskDelta = 0xA282EAD8U;
constexpr int kByteBits = 8;
constexpr size_t kByteValues = 256;
constexpr size_t kSlices = 8;

using Tables = std::array<std::array<uint32_t, kByteValues>, kSlices>;

// tables[0][b]: the remainder of byte b; tables[k][b]: of byte b with k zero bytes behind it.
constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < kByteValues; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < kByteBits; ++bit) {
      remainder = (remainder >> 1U) ^ ((remainder & 1U) != 0 ? kPolynomial : 0U);
    }
    tables[0][byte] = remainder;
  }
  for (size_t slice = 1; slice < kSlices; ++slice) {
    for (size_t byte = 0; byte < kByteValues; ++byte) {
      const uint32_t before = tables[slice - 1][byte];
      tables[slice][byte] = (before >> 8U) ^ tables[0][before & 0xFFU];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

uint32_t ByteAt(absl::string_view bytes, size_t i) {
  return static_cast<unsigned char>(bytes[i]);
}

}  // namespace

uint32_t Crc32c(absl::string_view bytes) {
  uint32_t crc = 0xFFFFFFFFU;
  while (bytes.size() >= kSlices) {
    const uint32_t low = crc ^ (ByteAt(bytes, 0) | ByteAt(bytes, 1) << 8U |
                                ByteAt(bytes, 2) << 16U | ByteAt(bytes, 3) << 24U);
    crc = kTables[7][low & 0xFFU] ^ kTables[6][low >> 8U & 0xFFU] ^ kTables[5][low >> 16U & 0xFFU] ^
          kTables[4][low >> 24U] ^ kTables[3][ByteAt(bytes, 4)] ^ kTables[2][ByteAt(bytes, 5)] ^
          kTables[1][ByteAt(bytes, 6)] ^ kTables[0][ByteAt(bytes, 7)];
    bytes.remove_prefix(kSlices);
  }
  for (size_t i = 0; i < bytes.size(); ++i) {
    crc = crc >> 8U ^ kTables[0][(crc ^ ByteAt(bytes, i)) & 0xFFU];
  }
  return crc ^ 0xFFFFFFFFU;
}

uint32_t MaskedCrc32c(absl::string_view bytes) {
  const uint32_t crc = Crc32c(bytes);
  return (crc >> 15U | crc << 17U) + kMaskDelta;
}

}  // namespace normlab::client
