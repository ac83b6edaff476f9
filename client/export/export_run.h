#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "client/lib/client.h"

namespace normlab::client {

// A job that is exported, and where it stands in its experiment.
struct ExportRun {
  std::string job;                          // jobs/ID
  std::string experiment;                   // experiments/ID; empty: none
  int cell = -1;                            // of the experiment; -1: none
  std::map<std::string, std::string> axes;  // field path to value
  int seed_index = 0;                       // place among the cell's jobs
};

// All that was asked for, in the order of names, cells and seeds.
struct ExportPlan {
  std::vector<ExportRun> runs;
  std::vector<std::string> axes;  // field paths, in the order in which they are first met
};

// Looks names up: jobs (jobs/ID or ID) and experiments (experiments/ID), whose jobs all count. A job
// that belongs to an experiment is placed in it. NOT_FOUND and what the calls return.
absl::StatusOr<ExportPlan> PlanExport(Client& client, const std::vector<std::string>& names);

// Where a run's files lie below the folder of an export: "ID" of a job, and of an experiment's job
// "EXPERIMENT-ID/3,normalization=batch,learning_rate=0.1/seed=7". Only letters, digits and
// -_.,=+. Thread-safe.
std::string RunFolder(const ExportRun& run, uint32_t seed);

// The points of one step, and when they were measured.
using PointConsumer = std::function<absl::Status(absl::Time wall_time, const MetricRecord& record)>;

// Hands every point of `job` that the server had when it was asked, in the order of records, to
// `consume`: full resolution, each exactly once. Memory does not grow with their number. Only series
// that match one of `series` ('*' stands for anything; empty: all). A job that runs is read up to the
// present: a later export begins with the same points.
//
// Wall times: the start of the attempt that measured the point plus its training time until then.
absl::Status ReadPoints(Client& client,
                        const normlab::v1::Job& job,
                        const std::vector<std::string>& series,
                        const PointConsumer& consume);

}  // namespace normlab::client
