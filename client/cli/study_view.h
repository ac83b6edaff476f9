#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"

#include "client/cli/output.h"
#include "client/report/report.h"
#include "client/studies/study.h"

#include "normlab/v1/experiments.pb.h"

namespace normlab::client {

// What `normlab study` prints. All functions are pure; texts end with a line break unless said otherwise.

// A table: name, title, jobs and predicted time of the quick preset.
std::string StudyTable(const Output& out);

// A study in words, with the parts of `preset` and the predicted time of every preset.
std::string DescribeStudyText(const Output& out,
                              const studies::StudyText& text,
                              const std::vector<studies::Plan>& presets,
                              const std::string& preset);
// The same as one JSON document.
std::string DescribeStudyJson(const studies::StudyText& text,
                              const std::vector<studies::Plan>& presets);

// "60 jobs in 2 experiments, predicted 4 min on 2 cores"; without a line break.
std::string Prediction(const studies::Plan& plan, int cores);

// "landscape  [#####.....]  31/60 jobs done, 2 running, 1 diverged  1:20, about 1:15 left"; without a line break.
std::string RunLine(const Output& out,
                    const std::string& study,
                    const v1::JobCounts& counts,
                    absl::Duration elapsed,
                    double predicted_seconds);

// Claims with their verdicts, values and reasons.
std::string ClaimsText(const Output& out, const std::vector<report::Claim>& claims);
// The same as an array of JSON, without a line break.
std::string ClaimsJson(const std::vector<report::Claim>& claims);

// "3 supported, 1 not supported, 4 inconclusive".
std::string VerdictCounts(const std::vector<report::Claim>& claims);

// "45 s", "4 min", "1.5 h", "3 days".
std::string RoughTime(double seconds);

}  // namespace normlab::client
