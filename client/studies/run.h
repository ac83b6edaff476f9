#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "client/studies/study.h"

#include "normlab/v1/job.pb.h"

namespace normlab::client::studies {

// Points of one series, in the order of steps.
struct Points {
  std::vector<int64_t> steps;
  std::vector<double> values;
};

// What one job of a study gave.
struct SeedRun {
  uint32_t seed = 0;
  v1::Job job;                           // without resolved spec
  std::map<std::string, Points> series;  // of a job that is not over: what there is

  bool diverged() const { return job.state() == v1::Job::DIVERGED; }
  // Succeeded or diverged: it has a result.
  bool has_result() const { return diverged() || job.state() == v1::Job::SUCCEEDED; }
  // Nothing when the job has no such series.
  const Points* Find(absl::string_view name) const;
};

struct CellRun {
  std::vector<std::string> levels;  // names, in the order of the part's axes
  std::vector<SeedRun> seeds;
  v1::JobSpec resolved;  // of the first seed's job

  // "batch norm, ReLU".
  std::string Name() const;
};

struct PartRun {
  std::string name;
  std::string experiment;                        // its name on the server
  std::vector<std::string> axes;                 // names
  std::vector<std::vector<std::string>> levels;  // of each axis, in order
  std::vector<CellRun> cells;                    // all combinations, the last axis changing fastest

  // The cell with these levels, in the order of the axes. Must exist.
  const CellRun& Cell(absl::Span<const absl::string_view> names) const;
  const std::vector<std::string>& LevelsOf(absl::string_view axis) const;
};

// All that a study measured, whether from a server or made up by a test.
struct Run {
  Plan plan;
  std::vector<PartRun> parts;
  std::string server;  // version, cores and instruction set of the machine
  absl::Time create_time;
  absl::Time end_time;  // infinite future: not over

  // The part of that name. Must exist.
  const PartRun& Get(absl::string_view part) const;
  // Null where the preset does not have it.
  const PartRun* Find(absl::string_view part) const;
  // The numbers of seeds of its parts: "5", "3 to 10".
  std::string SeedsText() const;
};

// A run with all cells of a plan and no results: jobs are queued.
Run EmptyRun(const Plan& plan);

}  // namespace normlab::client::studies
