#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "client/cli/context.h"
#include "client/report/report.h"
#include "client/studies/run.h"
#include "client/studies/study.h"

namespace normlab::client {

struct StudyRunOptions {
  std::vector<std::string> studies;
  bool all = false;
  studies::PlanOptions plan;
  bool no_wait = false;
  bool again = false;
  bool validate_only = false;
  std::string file;
};

struct StudyReportOptions {
  std::string what;
  std::string preset;
  std::string file;
  std::string format;  // empty: as the file ends
};

// `normlab study run`: returns the exit code.
int RunStudies(const StudyRunOptions& options, CommandContext& context);

// `normlab study report`: returns the exit code.
int ReportStudy(const StudyReportOptions& options, CommandContext& context);

// A study's run with what follows from it.
struct JudgedStudy {
  studies::Run run;
  report::Report report;
};

// What a study's newest finished run (empty `preset`: of any), or that of an experiment, measured. A newer run that is under
// way is named in the warnings. For `normlab report` too.
absl::StatusOr<JudgedStudy> LoadStudy(Client& client,
                                      const std::string& what,
                                      const std::string& preset);

}  // namespace normlab::client
