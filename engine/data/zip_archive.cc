#include "engine/data/zip_archive.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/read_at.h"
#include "common/status_macros.h"
#include "engine/spec/violation.h"

namespace normlab::engine {
namespace {

constexpr uint32_t kEntryMagic = 0x02014b50;  // of the directory
constexpr uint32_t kLocalMagic = 0x04034b50;  // before every member
constexpr uint32_t kEndMagic = 0x06054b50;    // after the directory
constexpr uint32_t kEnd64Magic = 0x06064b50;
constexpr uint32_t kLocator64Magic = 0x07064b50;  // tells where kEnd64Magic is
constexpr int64_t kEntryBytes = 46;
constexpr int64_t kLocalBytes = 30;
constexpr int64_t kEndBytes = 22;
constexpr int64_t kEnd64Bytes = 56;
constexpr int64_t kLocator64Bytes = 20;
constexpr int64_t kMaxCommentBytes = 65535;
// A file with four arrays needs some hundred bytes of directory.
constexpr int64_t kMaxDirectoryBytes = int64_t{4} << 20;
constexpr uint16_t kZip64Extra = 1;
constexpr uint16_t kStored = 0;
constexpr uint16_t kDeflated = 8;
constexpr uint32_t kIn64 = 0xFFFFFFFF;  // stands for "see the 64-bit field"
constexpr size_t kBufferBytes = size_t{1} << 18;
constexpr int kRawDeflate = -15;

absl::Status Wrong(const std::string& name, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(name, " ", problem, "; copy or save it again"));
}

uint64_t Get(absl::string_view bytes, size_t offset, size_t width) {
  uint64_t value = 0;
  for (size_t i = 0; i < width; ++i) {
    value |= uint64_t{static_cast<unsigned char>(bytes[offset + i])} << (8 * i);
  }
  return value;
}

uint16_t Get16(absl::string_view bytes, size_t offset) {
  return static_cast<uint16_t>(Get(bytes, offset, 2));
}

uint32_t Get32(absl::string_view bytes, size_t offset) {
  return static_cast<uint32_t>(Get(bytes, offset, 4));
}

// -1: larger than any file.
int64_t Get64(absl::string_view bytes, size_t offset) {
  const uint64_t value = Get(bytes, offset, 8);
  return value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())
             ? -1
             : static_cast<int64_t>(value);
}

// Up to `size` bytes at `offset`; fewer only at the end of the file.
absl::StatusOr<int64_t> ReadAt(
    int fd, const std::string& name, int64_t offset, void* to, int64_t size) {
  absl::StatusOr<int64_t> got = common::ReadAt(fd, to, size, offset);
  if (!got.ok()) {
    return absl::InternalError(absl::StrCat("cannot read ", name, ": ", got.status().message()));
  }
  return got;
}

absl::string_view View(const std::vector<char>& text) {
  return {text.data(), text.size()};
}

// Exactly `size` bytes.
absl::StatusOr<std::vector<char>> TextAt(int fd,
                                         const std::string& name,
                                         int64_t offset,
                                         int64_t size) {
  std::vector<char> text(static_cast<size_t>(size));
  NORMLAB_ASSIGN_OR_RETURN(const int64_t got, ReadAt(fd, name, offset, text.data(), size));
  if (got < size) {
    return Wrong(name, "became shorter while it was read");
  }
  return text;
}

struct Directory {
  int64_t offset = 0;
  int64_t bytes = 0;
  int64_t entries = 0;
};

// Replaces what does not fit 32 bits by the 64-bit record that a locator before the end points at.
absl::Status ReadEnd64(int fd, const std::string& name, int64_t end_offset, Directory& directory) {
  if (end_offset < kLocator64Bytes) {
    return Wrong(name, "is a damaged zip file (no 64-bit locator)");
  }
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<char> locator_bytes,
                           TextAt(fd, name, end_offset - kLocator64Bytes, kLocator64Bytes));
  const absl::string_view locator = View(locator_bytes);
  const int64_t offset = Get64(locator, 8);
  if (Get32(locator, 0) != kLocator64Magic || offset < 0 ||
      offset > end_offset - kLocator64Bytes - kEnd64Bytes) {
    return Wrong(name, "is a damaged zip file (bad 64-bit locator)");
  }
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<char> end_bytes,
                           TextAt(fd, name, offset, kEnd64Bytes));
  const absl::string_view end = View(end_bytes);
  if (Get32(end, 0) != kEnd64Magic) {
    return Wrong(name, "is a damaged zip file (no 64-bit end record)");
  }
  directory = {.offset = Get64(end, 48), .bytes = Get64(end, 40), .entries = Get64(end, 32)};
  return absl::OkStatus();
}

absl::StatusOr<Directory> FindDirectory(int fd, const std::string& name, int64_t file_bytes) {
  const int64_t tail_bytes = std::min(file_bytes, kEndBytes + kMaxCommentBytes);
  const int64_t tail_offset = file_bytes - tail_bytes;
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<char> tail, TextAt(fd, name, tail_offset, tail_bytes));
  for (int64_t at = tail_bytes - kEndBytes; at >= 0; --at) {
    const auto end = View(tail).substr(static_cast<size_t>(at));
    // The comment must reach exactly to the end, or the magic was within a comment.
    if (Get32(end, 0) != kEndMagic ||
        Get16(end, 20) != static_cast<int64_t>(end.size()) - kEndBytes) {
      continue;
    }
    Directory directory = {
        .offset = Get32(end, 16), .bytes = Get32(end, 12), .entries = Get16(end, 10)};
    if (Get32(end, 16) == kIn64 || Get32(end, 12) == kIn64 || Get16(end, 10) == 0xFFFF) {
      NORMLAB_RETURN_IF_ERROR(ReadEnd64(fd, name, tail_offset + at, directory));
    } else if (Get16(end, 4) != 0 || Get16(end, 6) != 0) {
      return Wrong(name, "is a part of a split zip file, which cannot be read");
    }
    if (directory.offset < 0 || directory.bytes < 0 || directory.entries < 0 ||
        directory.offset > tail_offset + at ||
        directory.bytes > tail_offset + at - directory.offset ||
        directory.bytes > kMaxDirectoryBytes || directory.entries > directory.bytes / kEntryBytes) {
      return Wrong(name, "is a zip file with an impossible directory");
    }
    return directory;
  }
  return Wrong(name, "is not a zip file, or is truncated: it has no directory at its end");
}

// Sizes and offset that are marked so are in the 64-bit extra field, in this order.
bool Resolve64(absl::string_view extra, ZipArchive::Entry& entry) {
  int64_t* const wide[] = {&entry.bytes, &entry.compressed_bytes, &entry.header_offset};
  if (std::none_of(std::begin(wide), std::end(wide),
                   [](const int64_t* value) { return *value == int64_t{kIn64}; })) {
    return true;
  }
  while (extra.size() >= 4) {
    const uint16_t id = Get16(extra, 0);
    const uint16_t size = Get16(extra, 2);
    extra.remove_prefix(4);
    if (size > extra.size()) {
      return false;
    }
    if (id == kZip64Extra) {
      size_t at = 0;
      for (int64_t* value : wide) {
        if (*value == int64_t{kIn64}) {
          if (at + 8 > size) {
            return false;
          }
          *value = Get64(extra, at);
          at += 8;
        }
      }
      return entry.bytes >= 0 && entry.compressed_bytes >= 0 && entry.header_offset >= 0;
    }
    extra.remove_prefix(size);
  }
  return false;
}

// Takes the first entry off the directory; nullopt: damaged.
std::optional<ZipArchive::Entry> TakeEntry(absl::string_view& directory) {
  if (directory.size() < static_cast<size_t>(kEntryBytes) || Get32(directory, 0) != kEntryMagic) {
    return std::nullopt;
  }
  constexpr uint16_t kEncryptedFlag = 1;
  ZipArchive::Entry entry;
  entry.encrypted = (Get16(directory, 8) & kEncryptedFlag) != 0;
  entry.method = Get16(directory, 10);
  entry.crc32 = Get32(directory, 16);
  entry.compressed_bytes = Get32(directory, 20);
  entry.bytes = Get32(directory, 24);
  const size_t name_bytes = Get16(directory, 28);
  const size_t extra_bytes = Get16(directory, 30);
  const size_t comment_bytes = Get16(directory, 32);
  entry.header_offset = Get32(directory, 42);
  directory.remove_prefix(static_cast<size_t>(kEntryBytes));
  if (directory.size() < name_bytes + extra_bytes + comment_bytes) {
    return std::nullopt;
  }
  entry.name = std::string(directory.substr(0, name_bytes));
  if (!Resolve64(directory.substr(name_bytes, extra_bytes), entry)) {
    return std::nullopt;
  }
  directory.remove_prefix(name_bytes + extra_bytes + comment_bytes);
  return entry;
}

}  // namespace

absl::StatusOr<ZipArchive> ZipArchive::Open(int fd, std::string name) {
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    return absl::InternalError(absl::ErrnoToStatus(errno, "cannot look at " + name).message());
  }
  ZipArchive archive(fd, std::move(name));
  NORMLAB_ASSIGN_OR_RETURN(const Directory directory,
                           FindDirectory(fd, archive.name_, info.st_size));
  archive.directory_offset_ = directory.offset;
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<char> text,
                           TextAt(fd, archive.name_, directory.offset, directory.bytes));
  absl::string_view rest = View(text);
  for (int64_t i = 0; i < directory.entries; ++i) {
    std::optional<Entry> entry = TakeEntry(rest);
    if (!entry.has_value()) {
      return Wrong(archive.name_,
                   absl::StrCat("is a zip file whose directory is damaged at member ", i + 1,
                                " of ", directory.entries));
    }
    archive.entries_.push_back(*std::move(entry));
  }
  return archive;
}

const ZipArchive::Entry* ZipArchive::Find(absl::string_view member) const {
  const auto found = std::find_if(entries_.rbegin(), entries_.rend(),
                                  [&](const Entry& entry) { return entry.name == member; });
  return found == entries_.rend() ? nullptr : &*found;
}

absl::StatusOr<std::unique_ptr<ZipArchive::Reader>> ZipArchive::OpenMember(
    const Entry& entry) const {
  const std::string shown = absl::StrCat(name_, " (member ", Quoted(entry.name), ")");
  if (entry.encrypted || (entry.method != kStored && entry.method != kDeflated)) {
    return absl::InvalidArgumentError(absl::StrCat(
        shown,
        entry.encrypted ? " is encrypted" : absl::StrCat(" is compressed by method ", entry.method),
        ", which cannot be read; save it with numpy.savez or savez_compressed"));
  }
  const absl::Status outside = Wrong(shown, "does not lie where the zip directory says");
  if (entry.header_offset > directory_offset_ - kLocalBytes) {
    return outside;
  }
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<char> local_bytes,
                           TextAt(fd_, name_, entry.header_offset, kLocalBytes));
  const absl::string_view local = View(local_bytes);
  const int64_t offset = entry.header_offset + kLocalBytes + Get16(local, 26) + Get16(local, 28);
  if (Get32(local, 0) != kLocalMagic || offset > directory_offset_ ||
      entry.compressed_bytes > directory_offset_ - offset ||
      (entry.method == kStored && entry.bytes != entry.compressed_bytes)) {
    return outside;
  }
  std::unique_ptr<Reader> reader(new Reader(fd_, shown, entry, offset));
  if (entry.method == kDeflated) {
    if (inflateInit2(&reader->stream_, kRawDeflate) != Z_OK) {
      return absl::ResourceExhaustedError("no memory to decompress " + shown);
    }
    reader->inflating_ = true;
    reader->buffer_.resize(kBufferBytes);
  }
  return reader;
}

ZipArchive::Reader::Reader(int fd, std::string name, const Entry& entry, int64_t offset)
    : fd_(fd),
      name_(std::move(name)),
      entry_(entry),
      offset_(offset),
      compressed_left_(entry.compressed_bytes) {}

ZipArchive::Reader::~Reader() {
  if (inflating_) {
    inflateEnd(&stream_);
  }
}

absl::Status ZipArchive::Reader::Corrupt(absl::string_view problem) const {
  return Wrong(name_, absl::StrCat("is corrupt: ", problem));
}

absl::StatusOr<int64_t> ZipArchive::Reader::Read(uint8_t* to, int64_t size) {
  int64_t got_now = 0;
  while (got_now < size && done_ < entry_.bytes) {
    const int64_t wanted = std::min(size - got_now, entry_.bytes - done_);
    NORMLAB_ASSIGN_OR_RETURN(const int64_t got, inflating_ ? Inflate(to + got_now, wanted)
                                                           : ReadStored(to + got_now, wanted));
    if (got == 0) {
      return Corrupt(absl::StrCat("it ends after ", done_, " of ", entry_.bytes, " bytes"));
    }
    for (int64_t at = 0; at < got;) {
      const auto piece = static_cast<uInt>(std::min<int64_t>(got - at, int64_t{1} << 30));
      crc32_ = static_cast<uint32_t>(::crc32(crc32_, to + got_now + at, piece));
      at += piece;
    }
    got_now += got;
    done_ += got;
  }
  if (done_ == entry_.bytes) {
    NORMLAB_RETURN_IF_ERROR(CheckEnd());
  }
  return got_now;
}

absl::Status ZipArchive::Reader::CheckEnd() {
  if (inflating_ && !ended_) {
    uint8_t extra = 0;
    NORMLAB_ASSIGN_OR_RETURN(const int64_t beyond, Inflate(&extra, 1));
    if (beyond > 0) {
      return Corrupt(absl::StrCat("it has more than the ", entry_.bytes,
                                  " bytes that the zip directory says"));
    }
  }
  if (crc32_ != entry_.crc32) {
    return Corrupt("its checksum is wrong");
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> ZipArchive::Reader::ReadStored(uint8_t* to, int64_t size) {
  NORMLAB_ASSIGN_OR_RETURN(const int64_t got, ReadAt(fd_, name_, offset_, to, size));
  offset_ += got;
  return got;
}

absl::StatusOr<int64_t> ZipArchive::Reader::Inflate(uint8_t* to, int64_t size) {
  const auto wanted = static_cast<uInt>(std::min<int64_t>(size, int64_t{1} << 30));
  stream_.next_out = to;
  stream_.avail_out = wanted;
  while (!ended_ && stream_.avail_out == wanted) {
    if (stream_.avail_in == 0) {
      const int64_t piece =
          std::min<int64_t>(compressed_left_, static_cast<int64_t>(buffer_.size()));
      NORMLAB_ASSIGN_OR_RETURN(const int64_t got,
                               ReadAt(fd_, name_, offset_, buffer_.data(), piece));
      if (got == 0) {
        return Corrupt("its compressed data end early");
      }
      offset_ += got;
      compressed_left_ -= got;
      stream_.next_in = buffer_.data();
      stream_.avail_in = static_cast<uInt>(got);
    }
    const int result = inflate(&stream_, Z_NO_FLUSH);
    if (result == Z_STREAM_END) {
      ended_ = true;
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      return Corrupt(stream_.msg != nullptr ? stream_.msg : "damaged data");
    }
  }
  return int64_t{wanted} - stream_.avail_out;
}

}  // namespace normlab::engine
