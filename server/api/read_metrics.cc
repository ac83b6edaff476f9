#include "server/api/read_metrics.h"

#include <algorithm>
#include <cstddef>
#include <deque>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/api/metrics_position.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

// About 200 KB of steps and values.
constexpr size_t kPointsPerMessage = 16384;
// Of records that are read at once.
constexpr int64_t kSliceBytes = int64_t{1} << 20;
// Of thinned series that are made at once.
constexpr size_t kMaxPointsAtOnce = size_t{1} << 16;
// A downsampled series is made in one piece; more points than this are not downsampled for
// anybody's eyes.
constexpr int32_t kMaxPoints = 100000;
constexpr int kMaxSeries = 10000;

// What both kinds of answers have in common: the series, and runs of points cut into messages.
class MetricsSource : public StreamSource<v1::ReadMetricsResponse> {
 public:
  MetricsSource(Store& store, std::string job_id, v1::ReadMetricsRequest request)
      : store_(store), job_id_(std::move(job_id)), request_(std::move(request)) {}

  absl::StatusOr<StreamStep> Next(bool /*idle*/, v1::ReadMetricsResponse& response) final {
    if (!listed_) {
      NORMLAB_RETURN_IF_ERROR(ListSeries());
      listed_ = true;
    }
    if (runs_.empty()) {
      NORMLAB_ASSIGN_OR_RETURN(const bool more, ReadMore());
      if (runs_.empty()) {
        return more ? StreamStep::kAgain : StreamStep::kEnd;
      }
    }
    PointSlice::Run& run = runs_.front();
    const auto count = std::min<size_t>(kPointsPerMessage, run.steps.size() - sent_of_run_);
    const auto begin = static_cast<std::ptrdiff_t>(sent_of_run_);
    const auto end = begin + static_cast<std::ptrdiff_t>(count);
    response.set_series(names_.at(run.series));
    response.mutable_steps()->Add(run.steps.begin() + begin, run.steps.begin() + end);
    response.mutable_values()->Add(run.values.begin() + begin, run.values.begin() + end);
    sent_of_run_ += count;
    const bool whole = sent_of_run_ == run.steps.size();
    position_ = EncodePosition(PositionAfter(run.series, response.steps(response.steps_size() - 1),
                                             whole, whole && runs_.size() == 1),
                               request_);
    response.set_position(position_);
    if (whole) {
      runs_.pop_front();
      sent_of_run_ = 0;
    }
    return StreamStep::kMessage;
  }

  StreamPosition position() const final {
    return position_.empty() ? StreamPosition{} : StreamPosition{"position", position_};
  }

 protected:
  // Fills runs_ with what comes next; false: nothing will.
  virtual absl::StatusOr<bool> ReadMore() = 0;
  // Where to go on after points of a series up to `step`; `whole`: to the end of its run; `last`:
  // and of all runs.
  virtual MetricsPosition PositionAfter(uint32_t series,
                                        int64_t step,
                                        bool whole,
                                        bool last) const = 0;

  int64_t from_step() const { return request_.has_from_step() ? request_.from_step() : kFirstStep; }
  int64_t to_step() const { return request_.has_to_step() ? request_.to_step() : kLastStep; }

  static constexpr int64_t kFirstStep = std::numeric_limits<int64_t>::min();
  static constexpr int64_t kLastStep = std::numeric_limits<int64_t>::max();

  Store& store_;
  const std::string job_id_;
  const v1::ReadMetricsRequest request_;
  std::vector<uint32_t> series_;  // ids of those to send, ascending
  absl::flat_hash_map<uint32_t, std::string> names_;
  int64_t last_sequence_ = 0;  // of the job when the stream began
  std::deque<PointSlice::Run> runs_;

 private:
  // All series are known before the first point is sent.
  absl::Status ListSeries() {
    NORMLAB_ASSIGN_OR_RETURN(const v1::Job job, store_.GetJob(job_id_));
    last_sequence_ = job.last_sequence();
    NORMLAB_ASSIGN_OR_RETURN(const std::vector<v1::Series> stored, store_.ReadSeries(job_id_));
    absl::flat_hash_map<std::string, uint32_t> ids;
    std::vector<std::string> names;
    for (const v1::Series& series : stored) {
      ids[series.name()] = series.id();
      names.push_back(series.name());
      names_[series.id()] = series.name();
      if (request_.series().empty()) {
        series_.push_back(series.id());
      }
    }
    for (const std::string& asked : request_.series()) {
      const auto it = ids.find(asked);
      if (it == ids.end()) {
        return SeriesNotFound(JobName(job_id_), asked, names);
      }
      series_.push_back(it->second);
    }
    std::sort(series_.begin(), series_.end());
    series_.erase(std::unique(series_.begin(), series_.end()), series_.end());
    return absl::OkStatus();
  }

  bool listed_ = false;
  size_t sent_of_run_ = 0;  // of the first one
  std::string position_;
};

class EveryPointSource final : public MetricsSource {
 public:
  EveryPointSource(Store& store,
                   std::string job_id,
                   v1::ReadMetricsRequest request,
                   const MetricsPosition& start)
      : MetricsSource(store, std::move(job_id), std::move(request)),
        begin_(start.begin),
        end_(start.begin),
        resumed_end_(start.end),
        resumed_series_(start.series),
        resumed_step_(start.step) {}

 private:
  absl::StatusOr<bool> ReadMore() override {
    begin_ = end_;
    // A slice that was sent in part is read again as it was, whatever the chunks are by now.
    const bool rest = resumed_end_ > begin_;
    const int64_t until = rest ? resumed_end_ : last_sequence_;
    if (begin_ >= until || series_.empty()) {
      return false;
    }
    NORMLAB_ASSIGN_OR_RETURN(
        PointSlice slice,
        store_.ReadPoints(job_id_, begin_, until,
                          request_.series().empty() ? std::vector<uint32_t>() : series_,
                          from_step(), to_step(), rest ? kLastStep : kSliceBytes));
    end_ = slice.end;
    for (PointSlice::Run& run : slice.runs) {
      // One that came up after the stream began lies beyond its end.
      if (!names_.contains(run.series) || (rest && run.series < resumed_series_)) {
        continue;
      }
      if (rest && run.series == resumed_series_) {
        const auto sent =
            std::upper_bound(run.steps.begin(), run.steps.end(), resumed_step_) - run.steps.begin();
        run.steps.erase(run.steps.begin(), run.steps.begin() + sent);
        run.values.erase(run.values.begin(), run.values.begin() + sent);
      }
      if (!run.steps.empty()) {
        runs_.push_back(std::move(run));
      }
    }
    return true;
  }

  MetricsPosition PositionAfter(uint32_t series,
                                int64_t step,
                                bool /*whole*/,
                                bool last) const override {
    return last ? MetricsPosition{.begin = end_, .end = end_}
                : MetricsPosition{.begin = begin_, .end = end_, .series = series, .step = step};
  }

  // The slice that runs_ is of.
  int64_t begin_;
  int64_t end_;
  // Of the position that this stream started from.
  const int64_t resumed_end_;
  const int64_t resumed_series_;
  const int64_t resumed_step_;
};

class ThinnedSource final : public MetricsSource {
 public:
  ThinnedSource(Store& store,
                std::string job_id,
                v1::ReadMetricsRequest request,
                const MetricsPosition& start,
                bool resumed)
      : MetricsSource(store, std::move(job_id), std::move(request)),
        resumed_(resumed),
        resumed_series_(start.series),
        resumed_step_(start.step) {}

 private:
  absl::StatusOr<bool> ReadMore() override {
    MetricQuery query;
    query.job_id = job_id_;
    query.max_points = request_.max_points();
    if (request_.has_from_step()) {
      query.from_step = request_.from_step();
    }
    if (request_.has_to_step()) {
      query.to_step = request_.to_step();
    }
    absl::flat_hash_map<std::string, uint32_t> ids;
    const size_t at_once =
        std::max<size_t>(1, kMaxPointsAtOnce / static_cast<size_t>(request_.max_points()));
    while (next_ < series_.size() && ids.size() < at_once) {
      const uint32_t id = series_[next_++];
      if (!resumed_ || id >= resumed_series_) {
        ids[names_.at(id)] = id;
        query.series.push_back(names_.at(id));
      }
    }
    if (ids.empty()) {
      return next_ < series_.size();
    }
    NORMLAB_RETURN_IF_ERROR(
        store_.ReadMetrics(query, [&](const std::string& name, absl::Span<const int64_t> steps,
                                      absl::Span<const double> values) {
          const uint32_t id = ids.at(name);
          if (runs_.empty() || runs_.back().series != id) {
            runs_.emplace_back().series = id;
          }
          PointSlice::Run& run = runs_.back();
          for (size_t i = 0; i < steps.size(); ++i) {
            if (!resumed_ || id > resumed_series_ || steps[i] > resumed_step_) {
              run.steps.push_back(steps[i]);
              run.values.push_back(values[i]);
            }
          }
          if (run.steps.empty()) {
            runs_.pop_back();
          }
          return true;
        }));
    return true;
  }

  MetricsPosition PositionAfter(uint32_t series,
                                int64_t step,
                                bool whole,
                                bool /*last*/) const override {
    return {.series = series, .step = whole ? kLastStep : step};
  }

  const bool resumed_;
  const int64_t resumed_series_;
  const int64_t resumed_step_;
  size_t next_ = 0;  // in series_
};

}  // namespace

absl::StatusOr<std::unique_ptr<StreamSource<v1::ReadMetricsResponse>>> NewMetricsSource(
    Backend& backend, const v1::ReadMetricsRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(std::string id, ParseJobName(request.name()));
  if (request.series_size() > kMaxSeries) {
    return InvalidArgument("series",
                           absl::StrCat("names ", request.series_size(), " series; name at most ",
                                        kMaxSeries, ", or none for all"));
  }
  if (request.max_points() != 0 &&
      (request.max_points() < kMinMaxPoints || request.max_points() > kMaxPoints)) {
    return InvalidArgument(
        "max_points", absl::StrCat("is ", request.max_points(), "; use ", kMinMaxPoints, " to ",
                                   kMaxPoints, ", or 0 for every point"));
  }
  if (request.has_from_step() && request.has_to_step() && request.from_step() > request.to_step()) {
    return InvalidArgument(
        "to_step", absl::StrCat("is ", request.to_step(), ", below from_step, ",
                                request.from_step(), "; both are inclusive: exchange them"));
  }
  const bool resumed = !request.position().empty();
  MetricsPosition start;
  if (resumed) {
    NORMLAB_ASSIGN_OR_RETURN(start, DecodePosition(request));
  }
  std::unique_ptr<StreamSource<v1::ReadMetricsResponse>> source;
  if (request.max_points() > 0) {
    source = std::make_unique<ThinnedSource>(backend.store, std::move(id), request, start, resumed);
  } else {
    source = std::make_unique<EveryPointSource>(backend.store, std::move(id), request, start);
  }
  return source;
}

}  // namespace normlab::server
