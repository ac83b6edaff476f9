#include "engine/data/byte_source.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace normlab::engine {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 18;
constexpr int kGzipOnly = 15 + 16;  // largest window, gzip wrapper with its checksum verified
constexpr uint8_t kGzipMagic[] = {0x1F, 0x8B};

bool StartsWithGzipMagic(const z_stream& stream) {
  return stream.avail_in >= 2 && std::equal(kGzipMagic, kGzipMagic + 2, stream.next_in);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ByteSource>> ByteSource::Open(int fd, std::string name) {
  std::unique_ptr<ByteSource> source(new ByteSource(fd, std::move(name)));
  source->buffer_.resize(kBufferBytes);
  NORMLAB_RETURN_IF_ERROR(source->Fill().status());
  source->compressed_ = StartsWithGzipMagic(source->stream_);
  if (source->compressed_) {
    if (inflateInit2(&source->stream_, kGzipOnly) != Z_OK) {
      return absl::ResourceExhaustedError("no memory to decompress " + source->name_);
    }
    source->inflating_ = true;
  }
  return source;
}

ByteSource::~ByteSource() {
  if (inflating_) {
    inflateEnd(&stream_);
  }
}

absl::StatusOr<bool> ByteSource::Fill() {
  if (stream_.avail_in > 0) {
    return true;
  }
  ssize_t got = -1;
  do {
    got = read(fd_, buffer_.data(), buffer_.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    const absl::Status status = absl::ErrnoToStatus(errno, "cannot read " + name_);
    return absl::InternalError(status.message());
  }
  stream_.next_in = buffer_.data();
  stream_.avail_in = static_cast<uInt>(got);
  return got > 0;
}

absl::StatusOr<int64_t> ByteSource::Read(uint8_t* to, int64_t size) {
  int64_t done = 0;
  while (done < size) {
    int64_t got = 0;
    if (compressed_) {
      NORMLAB_ASSIGN_OR_RETURN(got, Inflate(to + done, size - done));
    } else {
      NORMLAB_RETURN_IF_ERROR(Fill().status());
      got = std::min<int64_t>(stream_.avail_in, size - done);
      std::copy_n(stream_.next_in, got, to + done);
      stream_.next_in += got;
      stream_.avail_in -= static_cast<uInt>(got);
    }
    if (got == 0) {
      break;
    }
    done += got;
  }
  return done;
}

absl::StatusOr<int64_t> ByteSource::Inflate(uint8_t* to, int64_t size) {
  const uInt wanted = static_cast<uInt>(std::min<int64_t>(size, int64_t{1} << 30));
  stream_.next_out = to;
  stream_.avail_out = wanted;
  while (!ended_ && stream_.avail_out == wanted) {
    NORMLAB_ASSIGN_OR_RETURN(const bool more, Fill());
    if (!more) {
      return absl::InvalidArgumentError(
          absl::StrCat(name_, " is a gzip file that ends early; copy or download it again"));
    }
    const int result = inflate(&stream_, Z_NO_FLUSH);
    if (result == Z_STREAM_END) {
      // A gzip file may have several members one after the other.
      NORMLAB_ASSIGN_OR_RETURN(const bool follows, Fill());
      ended_ = !follows;
      if (follows) {
        if (stream_.next_in[0] != kGzipMagic[0] || inflateReset(&stream_) != Z_OK) {
          return absl::InvalidArgumentError(absl::StrCat(
              name_, " has other bytes after its gzip data; copy or download it again"));
        }
      }
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      return absl::InvalidArgumentError(absl::StrCat(
          name_, " is a corrupt gzip file (", stream_.msg != nullptr ? stream_.msg : "damaged data",
          "); copy or download it again"));
    }
  }
  return int64_t{wanted} - stream_.avail_out;
}

}  // namespace normlab::engine
