#include "engine/data/idx_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/status_macros.h"
#include "engine/data/byte_source.h"

namespace normlab::engine {
namespace {

constexpr uint8_t kUnsignedByte = 0x08;
// Far above every published set of this format; bounds memory against absurd headers.
constexpr int64_t kMaxCount = 2000000;
constexpr int64_t kMaxValues = int64_t{1} << 31;
// Decoded in pieces, so that a header alone cannot make us allocate much.
constexpr int64_t kPieceBytes = int64_t{8} << 20;

absl::Status Wrong(const std::string& name, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(name, " ", problem));
}

std::string DimsText(const std::vector<int64_t>& dims) {
  return absl::StrJoin(dims, "x");
}

absl::Status CheckMagic(const std::string& name,
                        const std::array<uint8_t, 4>& magic,
                        const IdxExpectation& expected) {
  const std::string want =
      absl::StrFormat("0x0000%02x%02x (IDX of unsigned bytes with %d dimension%s)", kUnsignedByte,
                      expected.rank, expected.rank, expected.rank == 1 ? "" : "s");
  const std::string found =
      absl::StrFormat("0x%02x%02x%02x%02x", magic[0], magic[1], magic[2], magic[3]);
  if (magic[0] != 0 || magic[1] != 0) {
    return Wrong(name, absl::StrCat("is not an IDX file: it begins with ", found, " where ", want,
                                    " was expected; check that the right file was copied whole"));
  }
  if (magic[2] != kUnsignedByte) {
    return Wrong(name,
                 absl::StrFormat("has IDX elements of type 0x%02x (magic %s), but %s was expected; "
                                 "convert it to unsigned bytes",
                                 magic[2], found, want));
  }
  if (magic[3] != expected.rank) {
    return Wrong(name,
                 absl::StrFormat("has %d dimensions (magic %s), but %s was expected; were images "
                                 "and labels exchanged?",
                                 magic[3], found, want));
  }
  return absl::OkStatus();
}

// Sizes as the header has them, checked against what is expected and possible.
absl::StatusOr<int64_t> ReadSizes(ByteSource& source,
                                  const std::string& name,
                                  const IdxExpectation& expected) {
  std::vector<uint8_t> bytes(static_cast<size_t>(4 * expected.rank));
  NORMLAB_ASSIGN_OR_RETURN(const int64_t got,
                           source.Read(bytes.data(), static_cast<int64_t>(bytes.size())));
  if (got < static_cast<int64_t>(bytes.size())) {
    return Wrong(name, "is truncated inside its IDX header; copy or download it again");
  }
  std::vector<int64_t> dims;
  for (size_t i = 0; i < bytes.size(); i += 4) {
    dims.push_back(int64_t{bytes[i]} << 24 | int64_t{bytes[i + 1]} << 16 |
                   int64_t{bytes[i + 2]} << 8 | int64_t{bytes[i + 3]});
  }
  const std::vector<int64_t> item(dims.begin() + 1, dims.end());
  if (item != expected.item_dims) {
    return Wrong(
        name, absl::StrCat("has items of ", DimsText(item), ", but ", DimsText(expected.item_dims),
                           " was expected; use a data set of that size"));
  }
  if (dims[0] < 1 || dims[0] > kMaxCount) {
    return Wrong(name, absl::StrCat("claims ", dims[0], " items in its header, but from 1 to ",
                                    kMaxCount, " are possible; copy or download it again"));
  }
  return dims[0];
}

int64_t ItemSize(const IdxExpectation& expected) {
  int64_t size = 1;
  for (const int64_t dim : expected.item_dims) {
    size *= dim;
  }
  return size;
}

absl::Status WrongLength(const std::string& name, int64_t count, int64_t want, int64_t found) {
  const bool truncated = found < want;
  return Wrong(name, absl::StrCat(truncated ? "is truncated: " : "has trailing bytes: ",
                                  "its header says ", count, " items (", want,
                                  " bytes after the header), but ", truncated ? "" : "at least ",
                                  found, " bytes follow; copy or download it again"));
}

}  // namespace

absl::StatusOr<IdxArray> ReadIdxFile(int fd,
                                     const std::string& name,
                                     const IdxExpectation& expected) {
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> source, ByteSource::Open(fd, name));
  std::array<uint8_t, 4> magic{};
  NORMLAB_ASSIGN_OR_RETURN(const int64_t got, source->Read(magic.data(), 4));
  if (got < 4) {
    return Wrong(name, absl::StrCat("has only ", got, got == 1 ? " byte" : " bytes",
                                    ", no IDX header; copy or download it again"));
  }
  NORMLAB_RETURN_IF_ERROR(CheckMagic(name, magic, expected));
  IdxArray array;
  NORMLAB_ASSIGN_OR_RETURN(array.count, ReadSizes(*source, name, expected));
  const int64_t want = array.count * ItemSize(expected);
  if (want > kMaxValues) {
    return Wrong(name, absl::StrCat("claims ", want, " bytes of items, but at most ", kMaxValues,
                                    " are allowed; use a smaller data set"));
  }

  int64_t done = 0;
  while (done < want) {
    const int64_t piece = std::min(want - done, kPieceBytes);
    array.values.resize(static_cast<size_t>(done + piece));
    NORMLAB_ASSIGN_OR_RETURN(const int64_t read, source->Read(array.values.data() + done, piece));
    done += read;
    if (read < piece) {
      return WrongLength(name, array.count, want, done);
    }
  }
  // Reading past the end also makes the gzip checksum be verified.
  uint8_t extra = 0;
  NORMLAB_ASSIGN_OR_RETURN(const int64_t beyond, source->Read(&extra, 1));
  if (beyond > 0) {
    return WrongLength(name, array.count, want, want + 1);
  }
  return array;
}

}  // namespace normlab::engine
