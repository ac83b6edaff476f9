#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "engine/spec/run_length.h"

// The bytes of a decoded data set (docs/formats.md), shared by its writer and its reader. Internal
// to engine/data.
namespace normlab::engine::dataset_format {

inline constexpr size_t kHeaderBytes = 4096;
// The last number but one is the version.
inline constexpr std::array<char, 8> kMagic = {'N', 'L', 'D', 'A', 'T', 'A', 2, 0};
inline constexpr uint32_t kByteOrder = 0x01020304;
inline constexpr size_t kDigestBytes = 32;
// Sections begin at multiples of this: whole cache lines, and aligned for every element type.
inline constexpr int64_t kAlignment = 64;

struct Header {
  std::array<char, 8> magic;
  uint32_t byte_order;
  int32_t channels;
  int32_t height;
  int32_t width;
  int32_t classes;
  int32_t targets;
  int32_t train_examples;
  int32_t test_examples;
  uint32_t dense;   // 0 or 1
  uint32_t floats;  // 0 or 1
  std::array<char, kDigestBytes> contents_sha256;
  std::array<char, kDigestBytes> header_sha256;  // of all fields before
};
static_assert(std::is_trivially_copyable_v<Header> && sizeof(Header) <= kHeaderBytes &&
              offsetof(Header, header_sha256) == 48 + kDigestBytes);

// Where the sections lie, in bytes from the start of the file.
struct Layout {
  int64_t means = 0;       // double [channels]
  int64_t deviations = 0;  // double [channels]
  struct Part {
    int64_t values = 0;        // uint8 or float [N, C, H, W]
    int64_t values_bytes = 0;  // without the padding after them
    int64_t answers = 0;       // int32 [N] labels or float [N, T] targets
    int64_t answers_bytes = 0;
  };
  Part train;
  Part test;
  int64_t end = 0;  // the file's size
};

// `shape`: plausible.
Layout LayoutOf(const DatasetShape& shape);

// Within the limits of engine/spec/limits.h, with either classes or targets.
bool IsPlausible(const DatasetShape& shape);

std::string HeaderDigest(const Header& header);

// What identifies the set wherever it lies: SHA-256 over shape and contents_sha256, in hexadecimal.
// Checkpoints have it, so it must not change with the version while the sections do not.
std::string SetSha256(const Header& header);

}  // namespace normlab::engine::dataset_format
