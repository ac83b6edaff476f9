#include "server/domain/names.h"

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "common/ids.h"
#include "server/domain/errors.h"

namespace normlab::server {
namespace {

constexpr absl::string_view kJobPrefix = "jobs/";
constexpr absl::string_view kExperimentPrefix = "experiments/";
constexpr size_t kMaxQuotedBytes = 80;

}  // namespace

std::string JobName(absl::string_view id) {
  return absl::StrCat(kJobPrefix, id);
}

absl::StatusOr<std::string> ParseJobName(absl::string_view name, absl::string_view field) {
  absl::string_view id = name;
  if (!absl::ConsumePrefix(&id, kJobPrefix) || !common::IsId(id)) {
    return InvalidArgument(
        field,
        absl::StrCat("must be jobs/<id> with an id of 20 characters as CreateJob (normlab submit) "
                     "answered it, not ",
                     QuotedForMessage(name),
                     "; ListJobs (normlab list) shows the names of all jobs"));
  }
  return std::string(id);
}

std::string ExperimentName(absl::string_view id) {
  return absl::StrCat(kExperimentPrefix, id);
}

absl::StatusOr<std::string> ParseExperimentName(absl::string_view name, absl::string_view field) {
  absl::string_view id = name;
  if (!absl::ConsumePrefix(&id, kExperimentPrefix) || !common::IsId(id)) {
    return InvalidArgument(
        field, absl::StrCat("must be experiments/<id> with an id of 20 characters as "
                            "CreateExperiment (normlab sweep) answered it, not ",
                            QuotedForMessage(name),
                            "; ListExperiments (normlab experiment list) shows the names of "
                            "all experiments"));
  }
  return std::string(id);
}

absl::StatusOr<ArtifactName> ParseArtifactName(absl::string_view name, absl::string_view field) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '/');
  ArtifactName parsed;
  // One spelling only: no sign, no leading zeros.
  if (parts.size() != 4 || parts[0] != "jobs" || !common::IsId(parts[1]) ||
      parts[2] != "artifacts" || !absl::SimpleAtoi(parts[3], &parsed.number) || parsed.number < 1 ||
      absl::StrCat(parsed.number) != parts[3]) {
    return InvalidArgument(
        field,
        absl::StrCat("must be jobs/<id>/artifacts/<number> as ListArtifacts (normlab artifacts) "
                     "answers it, not ",
                     QuotedForMessage(name)));
  }
  parsed.job_id = std::string(parts[1]);
  return parsed;
}

std::string AttemptFolder(absl::string_view job_id, int32_t number) {
  return absl::StrCat(kJobPrefix, job_id, "/attempt-", number);
}

std::string QuotedForMessage(absl::string_view text) {
  const bool cut = text.size() > kMaxQuotedBytes;
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kMaxQuotedBytes)),
                      cut ? "...\"" : "\"");
}

}  // namespace normlab::server
