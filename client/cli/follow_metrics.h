#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "client/cli/metric_table.h"
#include "client/cli/output.h"
#include "client/lib/client.h"

namespace normlab::client {

// Which points of a followed job are printed, and how.
struct FollowOptions {
  std::vector<std::string> columns;  // series, in their order
  bool chosen = false;  // `columns` are what the user asked for; JSON lines have all otherwise
  bool json = false;    // JSON lines instead of CSV, whose columns are fixed by its header
  std::optional<int64_t> from_step;
  std::optional<int64_t> to_step;
};

// Prints the points of a watched job as rows while they come. Records of the same step become one
// row, which is complete once a record of another step, or the end, follows. Call Finish at the
// end. Not thread-safe; keeps references to the outputs.
class MetricFollower : public WatchHandler {
 public:
  // Prints the CSV's header.
  MetricFollower(FollowOptions options, Output& out, Output& err);

  absl::Status OnMetrics(const MetricRecord& record) override;
  absl::Status OnState(int64_t sequence, const normlab::v1::StateChange& change) override;
  absl::Status OnLog(int64_t sequence, const normlab::v1::LogLine& line) override;
  absl::Status OnBatchEnd() override;

  // Prints the last row.
  void Finish();

 private:
  // The column of a series; nothing when it is not printed.
  std::optional<size_t> ColumnOf(const std::string& series);
  void PrintRow();

  FollowOptions options_;
  Output& out_;
  Output& err_;
  bool all_series_;
  std::set<std::string> ignored_;  // series that came too late for the CSV's header
  MetricRow row_;
  bool has_row_ = false;
};

}  // namespace normlab::client
