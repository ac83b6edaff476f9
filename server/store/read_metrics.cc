#include "server/store/read_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/store/chunk_summary.h"
#include "server/store/downsample.h"
#include "server/store/job_rows.h"

namespace normlab::server {
namespace {

constexpr int64_t kSliceBytes = int64_t{1} << 20;
constexpr int kEntriesPerRead = 4096;
// Points of one call of the sink.
constexpr size_t kRunPoints = 4096;

// What is known when the query begins; records up to last_sequence never change.
struct Snapshot {
  std::string job_id;
  JobHead head;
  std::vector<SeriesTail> series;  // those asked for, in the order of the answer
};

struct Range {
  int64_t from_step = 0;
  int64_t to_step = 0;
  bool everything = false;
};

absl::StatusOr<Snapshot> TakeSnapshot(Connection& connection, const MetricQuery& query) {
  ReadTransaction transaction(connection);
  Snapshot snapshot;
  snapshot.job_id = query.job_id;
  NORMLAB_ASSIGN_OR_RETURN(snapshot.head, ReadJobHead(connection, query.job_id));
  std::vector<SeriesTail> all = ReadSeriesTails(connection, snapshot.head.key);
  if (query.series.empty()) {
    snapshot.series = std::move(all);
    return snapshot;
  }
  absl::flat_hash_map<std::string, const SeriesTail*> by_name;
  std::vector<std::string> names;
  for (const SeriesTail& tail : all) {
    by_name[tail.series.name()] = &tail;
    names.push_back(tail.series.name());
  }
  for (const std::string& name : query.series) {
    const auto it = by_name.find(name);
    if (it == by_name.end()) {
      return SeriesNotFound(JobName(query.job_id), name, names);
    }
    if (it->second != nullptr) {
      snapshot.series.push_back(*it->second);
      it->second = nullptr;  // named twice: answered once
    }
  }
  return snapshot;
}

// Whether the job of the snapshot is still there. A deletion takes the job's row away first and its
// records afterwards, so whoever looks here in the transaction of their read knows that nothing of
// it was missing.
absl::Status StillThere(Connection& connection, const Snapshot& snapshot) {
  return Query(connection, "SELECT 1 FROM jobs WHERE key = ?", snapshot.head.key).Step()
             ? absl::OkStatus()
             : JobNotFound(JobName(snapshot.job_id));
}

// Calls visit(series id, point) for the points of the snapshot after the record `position` and in
// the range, in the order of records. visit returns false to stop.
template <typename Visit>
absl::Status Scan(
    ReadPool& pool, const Snapshot& snapshot, const Range& range, int64_t position, Visit&& visit) {
  while (position < snapshot.head.last_sequence) {
    std::vector<v1::RecordBatch> batches;
    const absl::Status read = pool.Read([&](Connection& connection) -> absl::Status {
      ReadTransaction transaction(connection);
      NORMLAB_RETURN_IF_ERROR(StillThere(connection, snapshot));
      Query query(connection,
                  "SELECT payload FROM records INDEXED BY records_by_sequence "
                  "WHERE job_key = ? AND last_sequence > ? AND last_step >= ? AND first_step <= ? "
                  "ORDER BY last_sequence",
                  snapshot.head.key, position, range.from_step, range.to_step);
      int64_t bytes = 0;
      while (bytes < kSliceBytes && query.Step()) {
        bytes += static_cast<int64_t>(query.Bytes(0).size());
        NORMLAB_RETURN_IF_ERROR(ParseRow(connection, query.Bytes(0), batches.emplace_back()));
      }
      return absl::OkStatus();
    });
    NORMLAB_RETURN_IF_ERROR(read);
    if (batches.empty()) {
      break;
    }
    for (const v1::RecordBatch& batch : batches) {
      int64_t sequence = batch.first_sequence();
      for (const v1::Segment& segment : batch.segments()) {
        if (!segment.has_metrics()) {
          ++sequence;
          continue;
        }
        const v1::MetricBlock& block = segment.metrics();
        const int columns = block.series_size();
        for (int row = 0; row < block.steps_size(); ++row, ++sequence) {
          // Chunks may have been merged since the last slice, across its end or the snapshot's.
          if (sequence <= position || sequence > snapshot.head.last_sequence ||
              block.steps(row) < range.from_step || block.steps(row) > range.to_step) {
            continue;
          }
          for (int column = 0; column < columns; ++column) {
            if (!visit(block.series(column),
                       MetricPoint{block.steps(row), block.values(row * columns + column)})) {
              return absl::OkStatus();
            }
          }
        }
      }
      position = sequence - 1;
    }
  }
  return absl::OkStatus();
}

// A sealed chunk as its summary's row has it.
struct ChunkEntry {
  int64_t last_sequence = 0;
  bool whole = false;  // all of its points are in the range and have a summary
  std::vector<SeriesSummary> summaries;
};

// The next entries after `position` that touch the range, in order.
absl::StatusOr<std::vector<ChunkEntry>> ReadEntries(ReadPool& pool,
                                                    const Snapshot& snapshot,
                                                    const Range& range,
                                                    int64_t position) {
  return pool.Read([&](Connection& connection) -> absl::StatusOr<std::vector<ChunkEntry>> {
    std::vector<ChunkEntry> entries;
    ReadTransaction transaction(connection);
    NORMLAB_RETURN_IF_ERROR(StillThere(connection, snapshot));
    Query query(connection,
                "SELECT last_sequence, first_step, last_step, summary FROM chunk_summaries "
                "WHERE job_key = ? AND last_sequence > ? AND last_sequence <= ? "
                "AND last_step >= ? AND first_step <= ? ORDER BY last_sequence LIMIT ?",
                snapshot.head.key, position, snapshot.head.last_sequence, range.from_step,
                range.to_step, kEntriesPerRead);
    while (query.Step()) {
      ChunkEntry& entry = entries.emplace_back();
      entry.last_sequence = query.Int(0);
      const bool inside = query.Int(1) >= range.from_step && query.Int(2) <= range.to_step;
      entry.whole = inside && !query.IsNull(3) && DecodeSummaries(query.Bytes(3), entry.summaries);
    }
    return entries;
  });
}

// Calls visit(series id, point) for the points of one sealed chunk that are in the range.
template <typename Visit>
absl::Status ScanChunk(ReadPool& pool,
                       const Snapshot& snapshot,
                       const Range& range,
                       int64_t last_sequence,
                       Visit&& visit) {
  v1::RecordBatch batch;
  const absl::Status read = pool.Read([&](Connection& connection) -> absl::Status {
    ReadTransaction transaction(connection);
    NORMLAB_RETURN_IF_ERROR(StillThere(connection, snapshot));
    Query query(connection,
                "SELECT payload FROM records INDEXED BY records_by_sequence "
                "WHERE job_key = ? AND last_sequence = ?",
                snapshot.head.key, last_sequence);
    return query.Step() ? ParseRow(connection, query.Bytes(0), batch) : absl::OkStatus();
  });
  NORMLAB_RETURN_IF_ERROR(read);
  for (const v1::Segment& segment : batch.segments()) {
    const v1::MetricBlock& block = segment.metrics();
    const int columns = block.series_size();
    for (int column = 0; column < columns; ++column) {
      for (int row = 0; row < block.steps_size(); ++row) {
        if (block.steps(row) >= range.from_step && block.steps(row) <= range.to_step) {
          visit(block.series(column),
                MetricPoint{block.steps(row), block.values(row * columns + column)});
        }
      }
    }
  }
  return absl::OkStatus();
}

// Like Scan from the start on, but offers the summaries of sealed chunks first: take_run(summary)
// answers whether it takes those points so; of the rest visit(series id, point) gets every point.
template <typename TakeRun, typename Visit>
absl::Status ScanSummaries(ReadPool& pool,
                           const Snapshot& snapshot,
                           const Range& range,
                           TakeRun&& take_run,
                           Visit&& visit) {
  int64_t position = 0;
  while (true) {
    NORMLAB_ASSIGN_OR_RETURN(const std::vector<ChunkEntry> entries,
                             ReadEntries(pool, snapshot, range, position));
    if (entries.empty()) {
      break;
    }
    for (const ChunkEntry& entry : entries) {
      absl::flat_hash_set<uint32_t> taken;
      bool all = entry.whole;
      for (const SeriesSummary& summary : entry.summaries) {
        if (entry.whole && take_run(summary)) {
          taken.insert(summary.series);
        } else {
          all = false;
        }
      }
      if (!all) {
        NORMLAB_RETURN_IF_ERROR(ScanChunk(pool, snapshot, range, entry.last_sequence,
                                          [&](uint32_t id, const MetricPoint& point) {
                                            if (!taken.contains(id)) {
                                              visit(id, point);
                                            }
                                          }));
      }
      position = entry.last_sequence;
    }
  }
  // The small chunks at the end, or those that were merged into sealed ones meanwhile.
  return Scan(pool, snapshot, range, position, [&](uint32_t id, const MetricPoint& point) {
    visit(id, point);
    return true;
  });
}

// Points of one series on their way to the sink.
class Collector {
 public:
  Collector(const SeriesTail& tail, int32_t max_points, bool stream, const MetricSink& sink)
      : name_(tail.series.name()),
        downsampler_(tail.points, max_points, tail.nans > 0),
        stream_(stream),
        sink_(sink) {}

  // False: the sink wants no more.
  bool Add(const MetricPoint& point) {
    downsampler_.Add(point, points_);
    return !stream_ || points_.size() < kRunPoints || Send();
  }
  // Whether the points were taken by their summary.
  bool AddRun(const SeriesSummary& run) { return downsampler_.AddRun(run, points_); }
  bool Finish() {
    downsampler_.Finish(points_);
    return Send();
  }

 private:
  bool Send() {
    std::vector<int64_t> steps;
    std::vector<double> values;
    for (size_t begin = 0; begin < points_.size(); begin += kRunPoints) {
      const size_t end = std::min(points_.size(), begin + kRunPoints);
      steps.clear();
      values.clear();
      for (size_t i = begin; i < end; ++i) {
        steps.push_back(points_[i].step);
        values.push_back(points_[i].value);
      }
      if (!sink_(name_, steps, values)) {
        return false;
      }
    }
    points_.clear();
    return true;
  }

  const std::string name_;
  Downsampler downsampler_;
  const bool stream_;
  const MetricSink& sink_;
  std::vector<MetricPoint> points_;
};

// Makes points and nans of the asked series those inside the range.
absl::Status CountInRange(ReadPool& pool, const Range& range, Snapshot& snapshot) {
  absl::flat_hash_map<uint32_t, SeriesTail*> by_id;
  for (SeriesTail& tail : snapshot.series) {
    tail.points = 0;
    tail.nans = 0;
    by_id[tail.series.id()] = &tail;
  }
  return ScanSummaries(
      pool, snapshot, range,
      [&](const SeriesSummary& summary) {
        if (const auto it = by_id.find(summary.series); it != by_id.end()) {
          it->second->points += summary.count;
          it->second->nans += summary.nans;
        }
        return true;
      },
      [&](uint32_t id, const MetricPoint& point) {
        if (const auto it = by_id.find(id); it != by_id.end()) {
          ++it->second->points;
          it->second->nans += std::isnan(point.value) ? 1 : 0;
        }
      });
}

}  // namespace

absl::Status ReadMetricPoints(ReadPool& pool,
                              const MetricQuery& query,
                              const MetricSink& sink,
                              int64_t buffer_points) {
  if (query.max_points < 0 || (query.max_points > 0 && query.max_points < kMinMaxPoints)) {
    return InvalidArgument(
        "max_points",
        absl::StrCat("is ", query.max_points, "; give 0 for every point, or at least ",
                     kMinMaxPoints, ": the first, the last, and what lies between"));
  }
  Range range;
  range.from_step = query.from_step.value_or(0);
  range.to_step = query.to_step.value_or(std::numeric_limits<int64_t>::max());
  range.everything = range.from_step <= 0 && !query.to_step.has_value();
  NORMLAB_ASSIGN_OR_RETURN(Snapshot snapshot, pool.Read([&](Connection& connection) {
    return TakeSnapshot(connection, query);
  }));
  if (!range.everything && query.max_points > 0) {
    NORMLAB_RETURN_IF_ERROR(CountInRange(pool, range, snapshot));
  }
  const std::vector<SeriesTail>& series = snapshot.series;
  for (size_t begin = 0; begin < series.size();) {
    // As many series as fit into memory are collected in one pass over the records; a larger one is
    // sent while it is read.
    int64_t points = 0;
    size_t end = begin;
    while (end < series.size()) {
      const int64_t more = query.max_points > 0
                               ? std::min<int64_t>(series[end].points, query.max_points)
                               : series[end].points;
      if (end > begin && points + more > buffer_points) {
        break;
      }
      points += more;
      ++end;
    }
    std::vector<Collector> collectors;
    absl::flat_hash_map<uint32_t, size_t> by_id;
    for (size_t i = begin; i < end; ++i) {
      by_id[series[i].series.id()] = collectors.size();
      collectors.emplace_back(series[i], query.max_points,
                              /*stream=*/end - begin == 1 && query.max_points == 0, sink);
    }
    bool stopped = false;
    if (query.max_points > 0) {
      // What is kept of them fits into memory: nothing is sent before the end.
      NORMLAB_RETURN_IF_ERROR(ScanSummaries(
          pool, snapshot, range,
          [&](const SeriesSummary& summary) {
            const auto it = by_id.find(summary.series);
            return it == by_id.end() || collectors[it->second].AddRun(summary);
          },
          [&](uint32_t id, const MetricPoint& point) {
            if (const auto it = by_id.find(id); it != by_id.end()) {
              collectors[it->second].Add(point);
            }
          }));
    } else {
      NORMLAB_RETURN_IF_ERROR(
          Scan(pool, snapshot, range, 0, [&](uint32_t id, const MetricPoint& point) {
            const auto it = by_id.find(id);
            stopped = it != by_id.end() && !collectors[it->second].Add(point);
            return !stopped;
          }));
    }
    for (Collector& collector : collectors) {
      if (stopped || !collector.Finish()) {
        return absl::OkStatus();
      }
    }
    begin = end;
  }
  return absl::OkStatus();
}

}  // namespace normlab::server
