#include "server/api/read_metrics.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

// About 200 KB of steps and values.
constexpr int kPointsPerMessage = 16384;
// A downsampled series is made in one piece; more points than this are not downsampled for
// anybody's eyes.
constexpr int32_t kMaxPoints = 100000;
constexpr int kMaxSeries = 10000;

class MetricsSource final : public StreamSource<v1::ReadMetricsResponse> {
 public:
  MetricsSource(Store& store, std::string job_id, v1::ReadMetricsRequest request)
      : store_(store), job_id_(std::move(job_id)), request_(std::move(request)) {
    StartSeries();
  }

  absl::StatusOr<StreamStep> Next(bool /*idle*/, v1::ReadMetricsResponse& response) override {
    if (!listed_) {
      NORMLAB_RETURN_IF_ERROR(ListSeries());
      listed_ = true;
    }
    if (sent_of_page_ == page_.steps_size()) {
      if (current_ == series_.size()) {
        return StreamStep::kEnd;
      }
      NORMLAB_RETURN_IF_ERROR(ReadPage());
      if (page_.steps_size() == 0) {
        return StreamStep::kAgain;
      }
    }
    const int count = std::min(kPointsPerMessage, page_.steps_size() - sent_of_page_);
    response.set_series(page_.series());
    response.mutable_steps()->Add(page_.steps().begin() + sent_of_page_,
                                  page_.steps().begin() + sent_of_page_ + count);
    response.mutable_values()->Add(page_.values().begin() + sent_of_page_,
                                   page_.values().begin() + sent_of_page_ + count);
    sent_of_page_ += count;
    return StreamStep::kMessage;
  }

  // There is no one position in several series.
  StreamPosition position() const override { return {}; }

 private:
  // The series to send, without duplicates; all are known before the first point is sent.
  absl::Status ListSeries() {
    NORMLAB_RETURN_IF_ERROR(store_.GetJob(job_id_).status());
    NORMLAB_ASSIGN_OR_RETURN(const std::vector<v1::Series> stored, store_.ReadSeries(job_id_));
    std::vector<std::string> names;
    names.reserve(stored.size());
    for (const v1::Series& series : stored) {
      names.push_back(series.name());
    }
    if (request_.series().empty()) {
      series_ = std::move(names);
      return absl::OkStatus();
    }
    for (const std::string& asked : request_.series()) {
      if (std::find(names.begin(), names.end(), asked) == names.end()) {
        return SeriesNotFound(JobName(job_id_), asked, names);
      }
      if (std::find(series_.begin(), series_.end(), asked) == series_.end()) {
        series_.push_back(asked);
      }
    }
    return absl::OkStatus();
  }

  void StartSeries() {
    next_step_ =
        request_.has_from_step() ? request_.from_step() : std::numeric_limits<int64_t>::min();
  }

  // The next points of the current series into page_; goes on to the next series when that was all.
  absl::Status ReadPage() {
    page_.Clear();
    sent_of_page_ = 0;
    page_.set_series(series_[current_]);
    MetricQuery query;
    query.job_id = job_id_;
    query.series = {series_[current_]};
    if (next_step_ != std::numeric_limits<int64_t>::min()) {
      query.from_step = next_step_;
    }
    if (request_.has_to_step()) {
      query.to_step = request_.to_step();
    }
    query.max_points = request_.max_points();
    const bool in_pages = request_.max_points() == 0;
    bool complete = true;
    NORMLAB_RETURN_IF_ERROR(store_.ReadMetrics(
        query,
        [&](const std::string&, absl::Span<const int64_t> steps, absl::Span<const double> values) {
          page_.mutable_steps()->Add(steps.begin(), steps.end());
          page_.mutable_values()->Add(values.begin(), values.end());
          complete = !in_pages || page_.steps_size() < kPointsPerMessage;
          return complete;
        }));
    if (!complete && page_.steps(page_.steps_size() - 1) < std::numeric_limits<int64_t>::max()) {
      next_step_ = page_.steps(page_.steps_size() - 1) + 1;
      if (!request_.has_to_step() || next_step_ <= request_.to_step()) {
        return absl::OkStatus();
      }
    }
    ++current_;
    StartSeries();
    return absl::OkStatus();
  }

  Store& store_;
  const std::string job_id_;
  const v1::ReadMetricsRequest request_;
  bool listed_ = false;
  std::vector<std::string> series_;
  size_t current_ = 0;     // in series_
  int64_t next_step_ = 0;  // of the current series; the smallest number: from the start
  v1::ReadMetricsResponse page_;
  int sent_of_page_ = 0;
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
  return std::make_unique<MetricsSource>(backend.store, std::move(id), request);
}

}  // namespace normlab::server
