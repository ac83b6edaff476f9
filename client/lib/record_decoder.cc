#include "client/lib/record_decoder.h"

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;

absl::Status Broken(absl::string_view what) {
  return absl::InternalError(
      absl::StrCat("the record stream is broken: ", what,
                   "; this is a bug of the server, please report it with the job's name"));
}

}  // namespace

bool IsTerminal(Job::State state) {
  return state == Job::SUCCEEDED || state == Job::DIVERGED || state == Job::FAILED ||
         state == Job::CANCELLED;
}

absl::Status RecordDecoder::DefineSeries(const normlab::v1::RecordBatch& batch) {
  for (const normlab::v1::Series& series : batch.new_series()) {
    const auto [known, is_new] = names_.emplace(series.id(), series.name());
    if (!is_new && known->second != series.name()) {
      return Broken(absl::StrCat("series ", series.id(), " was ", known->second, " and is now ",
                                 series.name()));
    }
  }
  return absl::OkStatus();
}

absl::Status RecordDecoder::DecodeMetrics(const normlab::v1::MetricBlock& block,
                                          RecordHandler& handler) {
  const int rows = block.steps_size();
  const int width = block.series_size();
  if (block.values_size() != rows * width ||
      (block.elapsed_us_size() != 0 && block.elapsed_us_size() != rows)) {
    return Broken(absl::StrCat("after record ", last_sequence_, " a block of ", rows, " steps and ",
                               width, " series has ", block.values_size(), " values"));
  }
  columns_.clear();
  for (const uint32_t id : block.series()) {
    const auto name = names_.find(id);
    if (name == names_.end()) {
      return Broken(
          absl::StrCat("after record ", last_sequence_, " series ", id, " is used undefined"));
    }
    columns_.push_back(&name->second);
  }
  for (int row = 0; row < rows; ++row) {
    const MetricRecord record{
        .sequence = last_sequence_ + 1,
        .step = block.steps(row),
        .elapsed_us = block.elapsed_us_size() == 0 ? 0 : block.elapsed_us(row),
        .series = columns_,
        .values = absl::MakeConstSpan(block.values().data() + static_cast<ptrdiff_t>(row) * width,
                                      static_cast<size_t>(width))};
    NORMLAB_RETURN_IF_ERROR(handler.OnMetrics(record));
    last_sequence_ = record.sequence;
  }
  return absl::OkStatus();
}

absl::Status RecordDecoder::Decode(const normlab::v1::RecordBatch& batch, RecordHandler& handler) {
  NORMLAB_RETURN_IF_ERROR(DefineSeries(batch));
  if (batch.segments().empty()) {
    return absl::OkStatus();
  }
  if (batch.first_sequence() != last_sequence_ + 1) {
    return Broken(absl::StrCat("record ", last_sequence_ + 1, " was expected and ",
                               batch.first_sequence(), " came"));
  }
  for (const normlab::v1::Segment& segment : batch.segments()) {
    if (terminal_state_ != Job::STATE_UNSPECIFIED) {
      return Broken(absl::StrCat("records follow the terminal record ", last_sequence_));
    }
    switch (segment.kind_case()) {
      case normlab::v1::Segment::kMetrics:
        NORMLAB_RETURN_IF_ERROR(DecodeMetrics(segment.metrics(), handler));
        break;
      case normlab::v1::Segment::kState:
        NORMLAB_RETURN_IF_ERROR(handler.OnState(last_sequence_ + 1, segment.state()));
        ++last_sequence_;
        if (IsTerminal(segment.state().state())) {
          terminal_state_ = segment.state().state();
        }
        break;
      case normlab::v1::Segment::kLog:
        NORMLAB_RETURN_IF_ERROR(handler.OnLog(last_sequence_ + 1, segment.log()));
        ++last_sequence_;
        break;
      case normlab::v1::Segment::KIND_NOT_SET:
        // A kind that this version does not know may hold any number of records: going on would
        // miscount.
        return absl::UnimplementedError(
            absl::StrCat("record ", last_sequence_ + 1,
                         " is of a kind that this client does not know; install the client of "
                         "the server's version (see normlab version)"));
    }
  }
  return absl::OkStatus();
}

absl::Status RecordDecoder::Check(const normlab::v1::Heartbeat& heartbeat) const {
  if (heartbeat.sequence() > last_sequence_) {
    return Broken(absl::StrCat("the server sent records up to ", heartbeat.sequence(),
                               ", but only those up to ", last_sequence_, " came"));
  }
  return absl::OkStatus();
}

}  // namespace normlab::client
