#include "server/store/chunk_summary.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "absl/container/flat_hash_map.h"

namespace normlab::server {
namespace {

static_assert(std::endian::native == std::endian::little, "the encoding copies integers");

constexpr char kVersion = 1;
// An entry has 84 bytes, a point in a chunk about 9 to 16: summaries stay below a fifth of the
// points.
constexpr int64_t kMinPointsPerSeries = 32;
constexpr size_t kEntryBytes = 3 * sizeof(uint32_t) + 4 * 2 * sizeof(int64_t) + sizeof(int64_t);

template <typename T>
void Put(T value, std::string& bytes) {
  char raw[sizeof value];
  std::memcpy(raw, &value, sizeof value);
  bytes.append(raw, sizeof value);
}

void Put(const MetricPoint& point, std::string& bytes) {
  Put(point.step, bytes);
  Put(point.value, bytes);
}

template <typename T>
T Take(const char*& position) {
  T value;
  std::memcpy(&value, position, sizeof value);
  position += sizeof value;
  return value;
}

MetricPoint TakePoint(const char*& position) {
  const auto step = Take<int64_t>(position);
  return {step, Take<double>(position)};
}

void AddPoint(const MetricPoint& point, SeriesSummary& summary) {
  if (summary.count++ == 0) {
    summary.first = point;
  }
  summary.last = point;
  if (std::isnan(point.value)) {
    if (summary.nans++ == 0) {
      summary.first_nan_step = point.step;
    }
    return;
  }
  const bool is_first_number = summary.count - summary.nans == 1;
  if (is_first_number || point.value < summary.minimum.value) {
    summary.minimum = point;
  }
  if (is_first_number || point.value > summary.maximum.value) {
    summary.maximum = point;
  }
}

}  // namespace

std::vector<SeriesSummary> Summarize(const v1::RecordBatch& batch) {
  std::vector<SeriesSummary> summaries;
  absl::flat_hash_map<uint32_t, size_t> by_series;
  int64_t points = 0;
  for (const v1::Segment& segment : batch.segments()) {
    const v1::MetricBlock& block = segment.metrics();
    const int columns = block.series_size();
    points += int64_t{columns} * block.steps_size();
    for (int column = 0; column < columns; ++column) {
      const auto [it, is_new] = by_series.try_emplace(block.series(column), summaries.size());
      if (is_new) {
        summaries.emplace_back().series = block.series(column);
      }
      SeriesSummary& summary = summaries[it->second];
      for (int row = 0; row < block.steps_size(); ++row) {
        AddPoint({block.steps(row), block.values(row * columns + column)}, summary);
      }
    }
  }
  if (points < kMinPointsPerSeries * static_cast<int64_t>(summaries.size())) {
    summaries.clear();
  }
  std::sort(summaries.begin(), summaries.end(),
            [](const SeriesSummary& a, const SeriesSummary& b) { return a.series < b.series; });
  return summaries;
}

std::string EncodeSummaries(const std::vector<SeriesSummary>& summaries) {
  std::string bytes;
  bytes.reserve(1 + summaries.size() * kEntryBytes);
  bytes.push_back(kVersion);
  for (const SeriesSummary& summary : summaries) {
    Put(summary.series, bytes);
    Put(static_cast<uint32_t>(summary.count), bytes);
    Put(static_cast<uint32_t>(summary.nans), bytes);
    Put(summary.first, bytes);
    Put(summary.last, bytes);
    Put(summary.minimum, bytes);
    Put(summary.maximum, bytes);
    Put(summary.first_nan_step, bytes);
  }
  return bytes;
}

bool DecodeSummaries(absl::string_view bytes, std::vector<SeriesSummary>& summaries) {
  summaries.clear();
  if (bytes.empty() || bytes[0] != kVersion || (bytes.size() - 1) % kEntryBytes != 0) {
    return false;
  }
  const char* position = bytes.data() + 1;
  const char* const end = bytes.data() + bytes.size();
  while (position != end) {
    SeriesSummary& summary = summaries.emplace_back();
    summary.series = Take<uint32_t>(position);
    summary.count = Take<uint32_t>(position);
    summary.nans = Take<uint32_t>(position);
    summary.first = TakePoint(position);
    summary.last = TakePoint(position);
    summary.minimum = TakePoint(position);
    summary.maximum = TakePoint(position);
    summary.first_nan_step = Take<int64_t>(position);
  }
  return true;
}

}  // namespace normlab::server
