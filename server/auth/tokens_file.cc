#include "server/auth/tokens_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/status_macros.h"
#include "common/unique_fd.h"
#include "server/auth/method_rules.h"

#include <nlohmann/json.hpp>

namespace normlab::server {
namespace {

constexpr size_t kMaxLineBytes = 4096;
constexpr size_t kMaxNameBytes = 64;
constexpr size_t kHashDigits = 64;
constexpr std::array<const char*, 4> kMembers = {"name", "role", "owner", "sha256"};

absl::Status BadLine(size_t line, absl::string_view problem) {
  return absl::InvalidArgumentError(
      absl::StrCat("line ", line, " of the tokens file ", problem,
                   "; `normlab token new` prints a line that is right"));
}

bool IsName(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxNameBytes &&
         absl::ascii_isalnum(static_cast<unsigned char>(text[0])) &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  absl::string_view("._-@+").find(c) != absl::string_view::npos;
         });
}

bool IsHash(absl::string_view text) {
  return text.size() == kHashDigits && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isxdigit(static_cast<unsigned char>(c));
         });
}

// The object of one line; no member twice, which the library would let pass.
absl::StatusOr<nlohmann::json> ParseObject(absl::string_view text, size_t line) {
  std::set<std::string> seen;
  bool twice = false;
  const nlohmann::json object = nlohmann::json::parse(
      text.begin(), text.end(),
      [&](int /*depth*/, nlohmann::json::parse_event_t event, nlohmann::json& value) {
        if (event == nlohmann::json::parse_event_t::key) {
          twice |= !seen.insert(value.get<std::string>()).second;
        }
        return true;
      },
      /*allow_exceptions=*/false);
  if (object.is_discarded() || !object.is_object()) {
    return BadLine(line, "is not a JSON object");
  }
  if (twice) {
    return BadLine(line, "has a member twice");
  }
  for (const char* member : kMembers) {
    if (!object.contains(member) || !object[member].is_string()) {
      return BadLine(line, absl::StrCat("has no text \"", member, "\""));
    }
  }
  if (object.size() != kMembers.size()) {
    return BadLine(line, "has members other than name, role, owner and sha256");
  }
  return object;
}

absl::StatusOr<TokenEntry> ParseLine(absl::string_view text, size_t line) {
  if (text.size() > kMaxLineBytes) {
    return BadLine(line, absl::StrCat("has more than ", kMaxLineBytes, " bytes"));
  }
  NORMLAB_ASSIGN_OR_RETURN(const nlohmann::json object, ParseObject(text, line));
  TokenEntry entry;
  entry.caller.name = object["name"].get<std::string>();
  entry.caller.owner = object["owner"].get<std::string>();
  entry.caller.role = ParseRole(object["role"].get<std::string>());
  const auto hash = object["sha256"].get<std::string>();
  for (const auto& [member, value] :
       {std::pair<const char*, const std::string&>{"name", entry.caller.name},
        {"owner", entry.caller.owner}}) {
    if (!IsName(value)) {
      return BadLine(line, absl::StrCat("has a ", member, " that is not 1 to ", kMaxNameBytes,
                                        " letters, digits and ._-@+ beginning with a letter or "
                                        "digit"));
    }
  }
  if (entry.caller.role == v1::Caller::ROLE_UNSPECIFIED) {
    return BadLine(line, "has a role that is none of viewer, submitter and admin");
  }
  if (!IsHash(hash)) {
    return BadLine(line, "has a sha256 that is not 64 hexadecimal digits");
  }
  entry.sha256 = absl::HexStringToBytes(hash);
  return entry;
}

}  // namespace

absl::StatusOr<std::vector<TokenEntry>> ParseTokens(absl::string_view text) {
  if (text.size() > kMaxTokensFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the tokens file has more than ",
                                                   kMaxTokensFileBytes,
                                                   " bytes; remove tokens that nobody uses"));
  }
  std::vector<TokenEntry> entries;
  std::set<std::string> names;
  std::set<std::string> hashes;
  size_t line = 0;
  for (absl::string_view content : absl::StrSplit(text, '\n')) {
    ++line;
    content = absl::StripAsciiWhitespace(content);
    if (content.empty() || content[0] == '#') {
      continue;
    }
    NORMLAB_ASSIGN_OR_RETURN(TokenEntry entry, ParseLine(content, line));
    if (!names.insert(entry.caller.name).second) {
      return BadLine(line, "repeats the name of an earlier one");
    }
    if (!hashes.insert(entry.sha256).second) {
      return BadLine(line, "repeats the sha256 of an earlier one");
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

absl::StatusOr<std::vector<TokenEntry>> ReadTokensFile(const std::string& path) {
  const auto fail = [&path](absl::string_view problem) {
    return absl::FailedPreconditionError(absl::StrCat("the tokens file ", path, " ", problem));
  };
  // O_NONBLOCK: a pipe in its place must not hold up the server.
  const common::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info {};
  if (!fd.valid() || fstat(fd.get(), &info) != 0) {
    return fail(absl::StrCat("cannot be read: ", std::strerror(errno),
                             "; make it, or name another with --tokens_file"));
  }
  if (!S_ISREG(info.st_mode)) {
    return fail("is not a regular file; name another with --tokens_file");
  }
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0 || (info.st_uid != geteuid() && info.st_uid != 0)) {
    return fail(
        "can be changed by others than this user and root, who could make themselves admins; "
        "chown it to this user and chmod it to 600");
  }
  std::string text;
  std::array<char, 16 << 10> buffer;
  while (text.size() <= kMaxTokensFileBytes) {
    const ssize_t count = read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return fail(absl::StrCat("cannot be read: ", std::strerror(errno), "; check the disk"));
    }
    if (count == 0) {
      break;
    }
    text.append(buffer.data(), static_cast<size_t>(count));
  }
  absl::StatusOr<std::vector<TokenEntry>> entries = ParseTokens(text);
  if (!entries.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", entries.status().message()));
  }
  return entries;
}

}  // namespace normlab::server
