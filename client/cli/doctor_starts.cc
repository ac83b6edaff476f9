// Whether the server starts jobs, as seen by those that wait.
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "client/cli/doctor_checks.h"
#include "client/cli/output.h"

namespace normlab::client {

using normlab::v1::Job;
using normlab::v1::ListJobsResponse;

Finding CheckStarts(const absl::StatusOr<ListJobsResponse>& waiting) {
  // As the server's scheduler begins a reason that is none of the job's.
  constexpr absl::string_view kHeldUp = "waits for the machine: ";
  Finding finding{.check = "starts", .message = "jobs that wait are started in their turn"};
  if (!waiting.ok()) {
    finding.level = Level::kWarning;
    finding.message = absl::StrCat("the jobs that wait cannot be listed: ",
                                   Printable(waiting.status().message()));
    finding.advice = "ask again; `normlab list --filter state=QUEUED` says what each waits for";
    return finding;
  }
  for (const Job& job : waiting->jobs()) {
    absl::string_view reason = job.queue_reason();
    if (absl::ConsumePrefix(&reason, kHeldUp)) {
      finding.level = Level::kProblem;
      finding.message = absl::StrCat("no job is started: ", Printable(reason));
      finding.advice = "mend that on the server's machine; what waits then starts by itself";
      break;
    }
  }
  return finding;
}

}  // namespace normlab::client
