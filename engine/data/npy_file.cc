#include "engine/data/npy_file.h"

#include <array>
#include <optional>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/status_macros.h"
#include "engine/spec/limits.h"
#include "engine/spec/violation.h"

namespace normlab::engine {
namespace {

constexpr absl::string_view kMagic = "\x93NUMPY";
constexpr size_t kMagicAndVersion = 8;
// NumPy's own headers have 118 bytes; ours ends the search for a closing brace in garbage.
constexpr uint32_t kMaxHeaderBytes = 1U << 16;
constexpr size_t kMaxDims = 8;

absl::Status Wrong(const std::string& name, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(name, " ", problem));
}

struct NpyHeader {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> dims;
};

// Reads the Python literal of a header: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
// Every method returns false when the text is something else.
class HeaderParser {
 public:
  explicit HeaderParser(absl::string_view text) : rest_(text) {}

  bool Parse(NpyHeader& header) {
    std::set<std::string> keys;
    if (!Take("{")) {
      return false;
    }
    while (!Take("}")) {
      std::string key;
      if (!TakeString(key) || !keys.insert(key).second || !Take(":") || !TakeValue(key, header)) {
        return false;
      }
      if (!Take(",")) {
        if (!Take("}")) {
          return false;
        }
        break;
      }
    }
    Skip();
    return rest_.empty() && keys.size() == 3;
  }

 private:
  void Skip() { rest_ = absl::StripLeadingAsciiWhitespace(rest_); }

  bool Take(absl::string_view token) {
    Skip();
    return absl::ConsumePrefix(&rest_, token);
  }

  bool TakeString(std::string& value) {
    Skip();
    if (rest_.empty() || (rest_[0] != '\'' && rest_[0] != '"')) {
      return false;
    }
    const size_t end = rest_.find(rest_[0], 1);
    if (end == absl::string_view::npos) {
      return false;
    }
    value = std::string(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return true;
  }

  bool TakeValue(absl::string_view key, NpyHeader& header) {
    if (key == "descr") {
      return TakeString(header.descr);
    }
    if (key == "fortran_order") {
      header.fortran_order = Take("True");
      return header.fortran_order || Take("False");
    }
    return key == "shape" && TakeShape(header.dims);
  }

  bool TakeShape(std::vector<int64_t>& dims) {
    if (!Take("(")) {
      return false;
    }
    while (!Take(")")) {
      Skip();
      size_t digits = 0;
      while (digits < rest_.size() &&
             absl::ascii_isdigit(static_cast<unsigned char>(rest_[digits]))) {
        ++digits;
      }
      int64_t dim = 0;
      if (!absl::SimpleAtoi(rest_.substr(0, digits), &dim) || dims.size() == kMaxDims) {
        return false;  // also beyond 64 bits
      }
      rest_.remove_prefix(digits);
      dims.push_back(dim);
      if (!Take(",")) {
        return Take(")");
      }
    }
    return true;
  }

  absl::string_view rest_;
};

absl::StatusOr<ElementType> ParseDescr(const std::string& name, absl::string_view descr) {
  static constexpr std::pair<absl::string_view, ElementType> kTypes[] = {
      {"u1", ElementType::kU8},  {"i1", ElementType::kI8},  {"u2", ElementType::kU16},
      {"i2", ElementType::kI16}, {"u4", ElementType::kU32}, {"i4", ElementType::kI32},
      {"u8", ElementType::kU64}, {"i8", ElementType::kI64}, {"f2", ElementType::kF16},
      {"f4", ElementType::kF32}, {"f8", ElementType::kF64}};
  absl::string_view kind = descr;
  const bool big_endian = absl::ConsumePrefix(&kind, ">");
  if (!big_endian && !absl::ConsumePrefix(&kind, "<")) {
    absl::ConsumePrefix(&kind, "|");
  }
  for (const auto& [text, type] : kTypes) {
    if (kind == text) {
      if (big_endian && ElementBytes(type) > 1) {
        return Wrong(name, absl::StrCat("has big-endian values (dtype ", Quoted(descr),
                                        "); save array.astype(array.dtype.newbyteorder('<'))"));
      }
      return type;
    }
  }
  return Wrong(name, absl::StrCat("has dtype ", Quoted(descr),
                                  ", but uint8, float16, float32 or float64 inputs and integer or "
                                  "float targets can be read; convert it with array.astype"));
}

absl::StatusOr<std::string> ReadText(ReadFunction read,
                                     const std::string& name,
                                     size_t bytes,
                                     absl::string_view what) {
  std::string text(bytes, '\0');
  NORMLAB_ASSIGN_OR_RETURN(const int64_t got, read(reinterpret_cast<uint8_t*>(text.data()),
                                                   static_cast<int64_t>(bytes)));
  if (got < static_cast<int64_t>(bytes)) {
    return Wrong(name, absl::StrCat("ends inside ", what,
                                    " of a .npy file; copy it again, or save it with numpy.save"));
  }
  return text;
}

absl::StatusOr<NpyHeader> ReadHeader(ReadFunction read, const std::string& name) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string magic,
                           ReadText(read, name, kMagicAndVersion, "the magic number"));
  if (absl::string_view(magic).substr(0, kMagic.size()) != kMagic) {
    return Wrong(name,
                 "is not a .npy file (it does not begin with \\x93NUMPY); save it with "
                 "numpy.save");
  }
  const int version = static_cast<unsigned char>(magic[kMagic.size()]);
  if (version < 1 || version > 3) {
    return Wrong(name, absl::StrCat("is a .npy file of version ", version,
                                    ", but 1 to 3 can be read; save it with numpy.save"));
  }
  NORMLAB_ASSIGN_OR_RETURN(const std::string length_bytes,
                           ReadText(read, name, version == 1 ? 2 : 4, "the header"));
  uint32_t length = 0;
  for (size_t i = 0; i < length_bytes.size(); ++i) {
    length |= uint32_t{static_cast<unsigned char>(length_bytes[i])} << (8 * i);
  }
  if (length > kMaxHeaderBytes) {
    return Wrong(name,
                 absl::StrCat("has a header of ", length, " bytes, but at most ", kMaxHeaderBytes,
                              " are plausible; save a plain array with numpy.save"));
  }
  NORMLAB_ASSIGN_OR_RETURN(const std::string text, ReadText(read, name, length, "the header"));
  NpyHeader header;
  if (!HeaderParser(text).Parse(header)) {
    return Wrong(name, absl::StrCat("has the header ", Quoted(text),
                                    ", which is not that of a plain array (structured dtypes "
                                    "cannot be read); save a plain array with numpy.save"));
  }
  return header;
}

}  // namespace

absl::StatusOr<Array> ReadNpy(ReadFunction read, const std::string& name, int64_t limit) {
  NORMLAB_ASSIGN_OR_RETURN(NpyHeader header, ReadHeader(read, name));
  Array array;
  array.name = name;
  NORMLAB_ASSIGN_OR_RETURN(array.type, ParseDescr(name, header.descr));
  if (header.fortran_order && header.dims.size() > 1) {
    return Wrong(name, "is in Fortran order; save numpy.ascontiguousarray(array)");
  }
  const std::optional<int64_t> bytes = ArrayBytes(header.dims, array.type, limit);
  if (!bytes.has_value()) {
    return TooLargeArray(name, header.dims, array.type, limit);
  }
  array.dims = std::move(header.dims);
  NORMLAB_ASSIGN_OR_RETURN(array.bytes, ReadExactly(read, name, *bytes));
  // Reading past the end also makes checksums of compressed data be verified.
  uint8_t extra = 0;
  NORMLAB_ASSIGN_OR_RETURN(const int64_t beyond, read(&extra, 1));
  if (beyond > 0) {
    return Wrong(name, absl::StrCat("has trailing bytes after the ", *bytes, " of its shape ",
                                    DimsText(array.dims), "; copy or save it again"));
  }
  return array;
}

}  // namespace normlab::engine
