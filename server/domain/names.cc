#include "server/domain/names.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/ids.h"
#include "server/domain/errors.h"

namespace normlab::server {
namespace {

constexpr absl::string_view kJobPrefix = "jobs/";
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
        absl::StrCat("must be jobs/<id> with an id of 20 characters as CreateJob answered it, not ",
                     QuotedForMessage(name), "; ListJobs shows the names of all jobs"));
  }
  return std::string(id);
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
