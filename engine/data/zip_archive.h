#pragma once

#include <zlib.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace normlab::engine {

// The directory of a zip file (PKWARE's APPNOTE, with the 64-bit extensions), as NumPy writes .npz
// files. Believes nothing in it. Not thread-safe; does not own the descriptor.
class ZipArchive {
 public:
  struct Entry {
    std::string name;
    uint16_t method = 0;  // 0 stored, 8 deflated
    bool encrypted = false;
    uint32_t crc32 = 0;
    int64_t compressed_bytes = 0;
    int64_t bytes = 0;
    int64_t header_offset = 0;
  };

  // Reads the members' contents one after the other, decompressing, and verifies length and
  // checksum at the end: the read that reaches the end fails when they are wrong. Never gives more
  // bytes than the directory says.
  class Reader {
   public:
    ~Reader();
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    // As ByteSource::Read. INVALID_ARGUMENT: corrupt; INTERNAL: read error.
    absl::StatusOr<int64_t> Read(uint8_t* to, int64_t size);

   private:
    friend class ZipArchive;
    Reader(int fd, std::string name, const Entry& entry, int64_t offset);

    absl::StatusOr<int64_t> ReadStored(uint8_t* to, int64_t size);
    absl::StatusOr<int64_t> Inflate(uint8_t* to, int64_t size);
    absl::Status CheckEnd();
    absl::Status Corrupt(absl::string_view problem) const;

    const int fd_;
    const std::string name_;
    const Entry entry_;
    int64_t offset_;  // of the next compressed byte in the file
    int64_t compressed_left_;
    int64_t done_ = 0;  // decompressed bytes given out
    uint32_t crc32_ = 0;
    std::vector<uint8_t> buffer_;
    z_stream stream_{};
    bool inflating_ = false;
    bool ended_ = false;  // of the deflated data
  };

  // `fd`: a regular file. `name` stands in messages. INVALID_ARGUMENT: not a zip file, damaged,
  // truncated, split or with an absurd directory; INTERNAL: it cannot be read.
  static absl::StatusOr<ZipArchive> Open(int fd, std::string name);

  const std::vector<Entry>& entries() const { return entries_; }
  // nullptr: no such member. The last of equal names, as every unzip has it.
  const Entry* Find(absl::string_view member) const;

  // INVALID_ARGUMENT: encrypted, compressed by another method than deflate, or outside of the file.
  absl::StatusOr<std::unique_ptr<Reader>> OpenMember(const Entry& entry) const;

 private:
  ZipArchive(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}

  int fd_;
  std::string name_;
  int64_t directory_offset_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace normlab::engine
