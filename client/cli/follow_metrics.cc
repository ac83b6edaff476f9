#include "client/cli/follow_metrics.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace normlab::client {

MetricFollower::MetricFollower(FollowOptions options, Output& out, Output& err)
    : options_(std::move(options)),
      out_(out),
      err_(err),
      all_series_(options_.json && !options_.chosen) {
  if (!options_.json) {
    out_.Write(CsvHeader(options_.columns));
    out_.Flush();
  }
}

std::optional<size_t> MetricFollower::ColumnOf(const std::string& series) {
  const auto found = std::find(options_.columns.begin(), options_.columns.end(), series);
  if (found != options_.columns.end()) {
    return static_cast<size_t>(found - options_.columns.begin());
  }
  if (all_series_) {
    options_.columns.push_back(series);
    return options_.columns.size() - 1;
  }
  return std::nullopt;
}

void MetricFollower::PrintRow() {
  if (has_row_) {
    has_row_ = false;
    row_.cells.resize(options_.columns.size());
    out_.Write(options_.json ? JsonRow(options_.columns, row_) : CsvRow(row_));
  }
}

absl::Status MetricFollower::OnMetrics(const MetricRecord& record) {
  if ((options_.from_step.has_value() && record.step < *options_.from_step) ||
      (options_.to_step.has_value() && record.step > *options_.to_step)) {
    return absl::OkStatus();
  }
  if (has_row_ && row_.step != record.step) {
    PrintRow();
  }
  for (size_t i = 0; i < record.series.size(); ++i) {
    const std::optional<size_t> column = ColumnOf(*record.series[i]);
    if (!column.has_value()) {
      if (!options_.chosen && ignored_.insert(*record.series[i]).second) {
        err_.Write(absl::StrCat("note: ", Printable(*record.series[i]),
                                " is not among the columns; name it with --series, or use "
                                "--format jsonl\n"));
      }
      continue;
    }
    if (!has_row_) {
      has_row_ = true;
      row_.step = record.step;
      row_.cells.clear();
    }
    row_.cells.resize(options_.columns.size());
    row_.cells[*column] = record.values[i];
  }
  return out_.status();
}

absl::Status MetricFollower::OnState(int64_t /*sequence*/, const normlab::v1::StateChange& change) {
  if (IsTerminal(change.state())) {
    PrintRow();
  }
  return out_.status();
}

absl::Status MetricFollower::OnLog(int64_t /*sequence*/, const normlab::v1::LogLine& /*line*/) {
  return out_.status();
}

absl::Status MetricFollower::OnBatchEnd() {
  out_.Flush();
  return out_.status();
}

void MetricFollower::Finish() {
  PrintRow();
  out_.Flush();
}

}  // namespace normlab::client
