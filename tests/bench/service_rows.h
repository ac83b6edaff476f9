#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace normlab::bench {

struct RowOptions {
  std::string folder;  // on the disk to be measured
  bool quick = false;  // a tenth or a hundredth of the size, to see that it works
};

// One line of the table.
struct Measured {
  std::string what;
  std::string measured;
  std::string at_least;  // or at most
  bool kept = true;
  bool commit_bound = false;  // the disk's fsync is shown beside it
};

struct Row {
  std::string name;  // for --rows
  std::function<absl::Status(const RowOptions&, std::vector<Measured>&)> run;
};

// In the order of the table. Each uses folders and servers of its own.
const std::vector<Row>& AllRows();

// service_calls.cc
absl::Status RunCreate(const RowOptions& options, std::vector<Measured>& table);
// service_streams.cc
absl::Status RunIngestAndReplay(const RowOptions& options, std::vector<Measured>& table);
absl::Status RunReportingCost(const RowOptions& options, std::vector<Measured>& table);
absl::Status RunLive(const RowOptions& options, std::vector<Measured>& table);
absl::Status RunStalled(const RowOptions& options, std::vector<Measured>& table);
// service_workers.cc
absl::Status RunWorkers(const RowOptions& options, std::vector<Measured>& table);
// service_exact.cc
absl::Status RunExact(const RowOptions& options, std::vector<Measured>& table);
// service_history.cc
absl::Status RunRestart(const RowOptions& options, std::vector<Measured>& table);
absl::Status RunList(const RowOptions& options, std::vector<Measured>& table);
absl::Status RunCurve(const RowOptions& options, std::vector<Measured>& table);

// The value at `share` of all values (0.5: the median); sorts them.
double Quantile(std::vector<double>& values, double share);

}  // namespace normlab::bench
