#include "client/lib/testing/fake_records.h"

#include <algorithm>
#include <map>
#include <set>

namespace normlab::client {

using normlab::v1::Job;
using normlab::v1::ReadMetricsResponse;

FakeRecord FakeState(Job::State state, const std::string& message) {
  normlab::v1::StateChange change;
  change.set_state(state);
  change.set_message(message);
  return change;
}

FakeRecord FakeLog(const std::string& text) {
  normlab::v1::LogLine line;
  line.set_severity(normlab::v1::LogLine::INFO);
  line.set_text(text);
  return line;
}

void FillBatch(const std::vector<FakeRecord>& records,
               int64_t position,
               int64_t limit,
               normlab::v1::RecordBatch* batch) {
  const int64_t end = std::min<int64_t>(position + limit, static_cast<int64_t>(records.size()));
  batch->set_first_sequence(position + 1);
  // Ids are those of a job-wide table: the place of the name in the order of first use.
  std::map<std::string, uint32_t> ids;
  for (const FakeRecord& record : records) {
    if (const auto* points = std::get_if<FakePoints>(&record)) {
      for (const auto& [name, value] : points->values) {
        ids.emplace(name, static_cast<uint32_t>(ids.size() + 1));
      }
    }
  }
  std::set<std::string> defined;
  for (int64_t i = position; i < end; ++i) {
    const FakeRecord& record = records[static_cast<size_t>(i)];
    if (const auto* change = std::get_if<normlab::v1::StateChange>(&record)) {
      *batch->add_segments()->mutable_state() = *change;
      continue;
    }
    if (const auto* line = std::get_if<normlab::v1::LogLine>(&record)) {
      *batch->add_segments()->mutable_log() = *line;
      continue;
    }
    const auto& points = std::get<FakePoints>(record);
    std::vector<uint32_t> columns;
    for (const auto& [name, value] : points.values) {
      columns.push_back(ids[name]);
      if (defined.insert(name).second) {
        normlab::v1::Series& series = *batch->add_new_series();
        series.set_id(ids[name]);
        series.set_name(name);
      }
    }
    const bool joins = batch->segments_size() > 0 && batch->segments().rbegin()->has_metrics() &&
                       std::equal(columns.begin(), columns.end(),
                                  batch->segments().rbegin()->metrics().series().begin(),
                                  batch->segments().rbegin()->metrics().series().end());
    normlab::v1::MetricBlock& block =
        joins ? *batch->mutable_segments(batch->segments_size() - 1)->mutable_metrics()
              : *batch->add_segments()->mutable_metrics();
    if (!joins) {
      block.mutable_series()->Add(columns.begin(), columns.end());
    }
    block.add_steps(points.step);
    block.add_elapsed_us(points.elapsed_us);
    for (const auto& [name, value] : points.values) {
      block.add_values(value);
    }
  }
}

std::vector<ReadMetricsResponse> SelectPoints(const std::vector<FakeRecord>& records,
                                              const normlab::v1::ReadMetricsRequest& request) {
  std::vector<std::string> order;
  std::map<std::string, ReadMetricsResponse> series;
  for (const FakeRecord& record : records) {
    const auto* points = std::get_if<FakePoints>(&record);
    if (points == nullptr || (request.has_from_step() && points->step < request.from_step()) ||
        (request.has_to_step() && points->step > request.to_step())) {
      continue;
    }
    for (const auto& [name, value] : points->values) {
      if (!request.series().empty() && std::find(request.series().begin(), request.series().end(),
                                                 name) == request.series().end()) {
        continue;
      }
      ReadMetricsResponse& response = series[name];
      if (response.series().empty()) {
        response.set_series(name);
        order.push_back(name);
      }
      response.add_steps(points->step);
      response.add_values(value);
    }
  }
  std::vector<ReadMetricsResponse> result;
  for (const std::string& name : order) {
    result.push_back(series[name]);
  }
  return result;
}

}  // namespace normlab::client
