#include "client/lib/array_input.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "client/lib/array_json.h"
#include "client/lib/npy.h"

namespace normlab::client {
namespace {

// Of text, which takes more than a value's four bytes.
constexpr size_t kMaxBytes = size_t{128} << 20;

// Everything that a stream has, up to one byte more than allowed.
std::string ReadUpToLimit(std::istream& input) {
  constexpr size_t kPiece = size_t{1} << 20;
  std::string bytes;
  while (input && bytes.size() <= kMaxBytes) {
    const size_t had = bytes.size();
    bytes.resize(had + kPiece);
    input.read(bytes.data() + had, kPiece);
    bytes.resize(had + static_cast<size_t>(input.gcount()));
  }
  return bytes;
}

}  // namespace

absl::StatusOr<normlab::v1::Tensor> ReadArray(const std::string& option,
                                              const std::string& argument,
                                              std::istream& standard_input) {
  const auto fail = [&](absl::string_view where, absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(option, " ", where, what));
  };
  const absl::string_view trimmed = absl::StripLeadingAsciiWhitespace(argument);
  if (!trimmed.empty() && trimmed[0] == '[') {
    absl::StatusOr<normlab::v1::Tensor> tensor = ParseJsonArray(argument);
    return tensor.ok() ? tensor : fail("", tensor.status().message());
  }
  std::ifstream file;
  if (argument != "-") {
    std::error_code error;
    if (std::filesystem::is_directory(argument, error)) {
      return fail(argument,
                  " is a folder; give a .npy or JSON file, or an array as [[1, 2], [3, 4]]");
    }
    errno = 0;
    file.open(argument, std::ios::binary);
    if (!file) {
      return fail(argument, absl::StrCat(" cannot be read: ", std::strerror(errno),
                                         "; give a .npy or JSON file, - for standard input, or an "
                                         "array as [[1, 2], [3, 4]]"));
    }
  }
  const std::string bytes = ReadUpToLimit(argument == "-" ? standard_input : file);
  const std::string where = absl::StrCat(argument == "-" ? "standard input" : argument, ": ");
  if (bytes.size() > kMaxBytes) {
    return fail(where, absl::StrCat("has more than ", kMaxBytes, " bytes; give a smaller array"));
  }
  if (absl::StartsWith(bytes, "PK\x03\x04")) {
    return fail(where,
                "is a .npz archive of several arrays; give one of them as .npy, written with "
                "numpy.save('x.npy', numpy.load('x.npz')['x'])");
  }
  absl::StatusOr<normlab::v1::Tensor> tensor =
      IsNpy(bytes) ? ParseNpy(bytes) : ParseJsonArray(bytes);
  return tensor.ok() ? tensor : fail(where, tensor.status().message());
}

}  // namespace normlab::client
