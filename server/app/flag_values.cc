#include "server/app/flag_values.h"

#include <algorithm>
#include <numeric>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "common/atomic_file.h"
#include "common/status_macros.h"

namespace normlab::server {
namespace {

constexpr int kMaxFlagFileDepth = 5;
constexpr size_t kMaxFlagFileBytes = size_t{1} << 20;

// Levenshtein's distance.
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row[b.size()];
}

class FlagSetter {
 public:
  explicit FlagSetter(const std::vector<std::string>& known) : known_(known) {}

  absl::Status Set(const std::vector<std::string>& arguments, int depth) {
    for (size_t i = 0; i < arguments.size(); ++i) {
      absl::string_view text = arguments[i];
      if (!absl::ConsumePrefix(&text, "--") && !absl::ConsumePrefix(&text, "-")) {
        return absl::InvalidArgumentError(
            absl::StrCat("\"", arguments[i],
                         "\" is not a flag; flags are written --name=value (see normlabd --help)"));
      }
      const size_t equals = text.find('=');
      const std::string name(text.substr(0, equals));
      const bool has_value = equals != absl::string_view::npos;
      std::string value(has_value ? text.substr(equals + 1) : "");
      const bool is_file = name == "flagfile";
      absl::CommandLineFlag* flag = is_file ? nullptr : Find(name);
      if (flag == nullptr && !is_file) {
        if (!has_value && absl::StartsWith(name, "no") && IsSwitch(Find(name.substr(2)))) {
          NORMLAB_RETURN_IF_ERROR(Assign(*Find(name.substr(2)), name, "false"));
          continue;
        }
        return Unknown(name);
      }
      if (!has_value) {
        if (IsSwitch(flag)) {
          value = "true";
        } else if (i + 1 < arguments.size()) {
          value = arguments[++i];
        } else {
          return absl::InvalidArgumentError(
              absl::StrCat("--", name, " has no value; write --", name, "=VALUE"));
        }
      }
      NORMLAB_RETURN_IF_ERROR(is_file ? SetFromFile(value, depth) : Assign(*flag, name, value));
    }
    return absl::OkStatus();
  }

 private:
  absl::CommandLineFlag* Find(const std::string& name) const {
    return std::find(known_.begin(), known_.end(), name) == known_.end()
               ? nullptr
               : absl::FindCommandLineFlag(name);
  }

  static bool IsSwitch(const absl::CommandLineFlag* flag) {
    return flag != nullptr && flag->IsOfType<bool>();
  }

  static absl::Status Assign(absl::CommandLineFlag& flag,
                             const std::string& name,
                             const std::string& value) {
    std::string error;
    if (flag.ParseFrom(value, &error)) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat("--", name, "=", value, ": the value cannot be read",
                     error.empty() ? "" : absl::StrCat(" (", error, ")"), "; the default is \"",
                     flag.DefaultValue(), "\" (see normlabd --help)"));
  }

  absl::Status Unknown(const std::string& name) const {
    const std::string* nearest = nullptr;
    size_t least = std::max<size_t>(name.size() / 3, 1) + 1;
    for (const std::string& candidate : known_) {
      if (const size_t distance = Distance(name, candidate); distance < least) {
        least = distance;
        nearest = &candidate;
      }
    }
    return absl::InvalidArgumentError(
        absl::StrCat("there is no flag --", name, "; ",
                     nearest == nullptr ? "normlabd --help shows them all"
                                        : absl::StrCat("did you mean --", *nearest, "?")));
  }

  absl::Status SetFromFile(const std::string& path, int depth) {
    if (depth >= kMaxFlagFileDepth) {
      return absl::InvalidArgumentError(
          absl::StrCat("--flagfile=", path, " is the ", depth,
                       "th file that names another; put the flags into one file"));
    }
    const absl::StatusOr<std::string> text = common::ReadFile(path, kMaxFlagFileBytes);
    if (!text.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--flagfile=", path,
                                                     " cannot be read: ", text.status().message(),
                                                     "; check its name and permissions"));
    }
    std::vector<std::string> lines;
    for (absl::string_view line : absl::StrSplit(*text, '\n')) {
      line = absl::StripAsciiWhitespace(line);
      if (!line.empty() && line[0] != '#') {
        lines.emplace_back(line);
      }
    }
    return Set(lines, depth + 1);
  }

  const std::vector<std::string>& known_;
};

}  // namespace

absl::Status SetFlags(const std::vector<std::string>& arguments,
                      const std::vector<std::string>& known) {
  return FlagSetter(known).Set(arguments, 0);
}

}  // namespace normlab::server
