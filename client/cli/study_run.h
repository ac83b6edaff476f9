#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "client/cli/context.h"
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
  std::string format = "html";
};

// `normlab study run`: returns the exit code.
int RunStudies(const StudyRunOptions& options, CommandContext& context);

// `normlab study report`: returns the exit code.
int ReportStudy(const StudyReportOptions& options, CommandContext& context);

// What a study's newest finished run, or that of an experiment, measured. For `normlab report` too.
absl::StatusOr<studies::Run> LoadStudyRun(Client& client,
                                          const std::string& what,
                                          const std::string& preset);

}  // namespace normlab::client
