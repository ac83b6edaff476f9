#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

// Of names of partitions, accounts and qualities of service; several with commas between them.
constexpr absl::string_view kNamePunctuation = "_-.,:/@+";
// Of expressions over features, too: [(a|b)*2&c].
constexpr absl::string_view kExpressionPunctuation = "_-.,:/@+&|[]()*!=";
constexpr int64_t kLeastLimitSeconds = 60;  // Slurm's resolution

// These words go to programs as parts of their arguments. Nothing there reads them as anything else, and
// nothing shall.
void ValidateWord(absl::string_view field,
                  absl::string_view word,
                  absl::string_view punctuation,
                  Checker& checker) {
  const bool known = std::all_of(word.begin(), word.end(), [punctuation](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           punctuation.find(c) != absl::string_view::npos;
  });
  if (!known || static_cast<int64_t>(word.size()) > kMaxTextCharacters) {
    checker.Fail(field, absl::StrCat("must be at most ", kMaxTextCharacters,
                                     " letters, digits and characters of ", punctuation,
                                     "; give it as sbatch would take it"));
  }
}

}  // namespace

void ValidateSlurm(const v1::Slurm& slurm, Checker& checker) {
  ValidateWord("slurm.partition", slurm.partition(), kNamePunctuation, checker);
  ValidateWord("slurm.account", slurm.account(), kNamePunctuation, checker);
  ValidateWord("slurm.constraint", slurm.constraint(), kExpressionPunctuation, checker);
  ValidateWord("slurm.qos", slurm.qos(), kNamePunctuation, checker);
  if (slurm.has_time_limit()) {
    const google::protobuf::Duration& limit = slurm.time_limit();
    if (limit.seconds() < kLeastLimitSeconds || limit.seconds() > kMaxTimeLimitSeconds ||
        limit.nanos() < 0 || limit.nanos() >= 1000000000) {
      checker.Fail("slurm.time_limit",
                   absl::StrCat("is ", limit.seconds(), " s, but must be at least ",
                                kLeastLimitSeconds, " and at most ", kMaxTimeLimitSeconds,
                                " s; give for example \"3600s\", or leave it out for the "
                                "partition's"));
    }
  }
}

}  // namespace normlab::engine
