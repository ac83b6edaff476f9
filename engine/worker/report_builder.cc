#include "engine/worker/report_builder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/series_name.h"

namespace normlab::engine {
namespace {

// Far below gRPC's 4 MiB limit, and large enough that the cost of a message does not matter.
constexpr int64_t kFullBytes = 256 << 10;
constexpr int64_t kBytesPerRecord = 24;  // step, elapsed time, duration
constexpr int64_t kRateWindowUs = 1'000'000;
constexpr int64_t kRateSampleUs = 20'000;

// Length of the well-formed UTF-8 character at the start of `text`; 0: there is none.
size_t Utf8Length(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) {
    return 1;
  }
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) {
    return 0;
  }
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) {
      return 0;
    }
  }
  // Overlong forms, surrogates, and beyond U+10FFFF.
  if ((first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) > 0x9F) ||
      (first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) > 0x8F)) {
    return 0;
  }
  return length;
}

}  // namespace

std::string ToUtf8(absl::string_view text, size_t max_bytes) {
  std::string result;
  result.reserve(std::min(text.size(), max_bytes));
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    if (result.size() + std::max<size_t>(length, 1) > max_bytes) {
      break;
    }
    if (length == 0) {
      result.push_back('?');
    } else {
      result.append(text.data(), length);
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return result;
}

ReportBuilder::ReportBuilder(std::vector<std::string> series,
                             const RunSizes& sizes,
                             int32_t attempt)
    : series_(std::move(series)), sizes_(sizes), attempt_(attempt), step_(sizes.start_step) {
  rate_samples_.push_back({});
  for (size_t i = 0; i < series_.size(); ++i) {
    const auto known = sizes_.latest_metrics.find(series_[i]);
    if (known != sizes_.latest_metrics.end()) {
      latest_[static_cast<uint32_t>(i)] = known->second;
    }
  }
}

void ReportBuilder::AddStep(const StepEntry& entry) {
  empty_ = false;
  if (!entry.series.empty()) {
    v1::MetricBlock* block = nullptr;
    if (report_.segments_size() > 0) {
      v1::Segment& last = *report_.mutable_segments(report_.segments_size() - 1);
      if (last.has_metrics() &&
          std::equal(entry.series.begin(), entry.series.end(), last.metrics().series().begin(),
                     last.metrics().series().end(),
                     [](uint32_t index, uint32_t id) { return index + 1 == id; })) {
        block = last.mutable_metrics();
      }
    }
    if (block == nullptr) {
      block = report_.add_segments()->mutable_metrics();
      for (const uint32_t series : entry.series) {
        block->add_series(series + 1);
      }
      bytes_ += static_cast<int64_t>(entry.series.size()) * 4;
    }
    block->add_steps(entry.info.step);
    block->mutable_values()->Add(entry.values.begin(), entry.values.end());
    block->add_elapsed_us(entry.info.elapsed_us);
    for (size_t i = 0; i < entry.series.size(); ++i) {
      if (!common::IsDetailSeries(series_[entry.series[i]])) {
        latest_[entry.series[i]] = entry.values[i];
      }
    }
  }
  if (entry.info.step_seconds > 0) {
    report_.add_step_seconds(entry.info.step_seconds);
  }
  report_.set_examples(report_.examples() + entry.info.examples);
  bytes_ += kBytesPerRecord + static_cast<int64_t>(entry.values.size() * sizeof(double));

  step_ = std::min(entry.info.step + 1, sizes_.total_steps);
  now_.elapsed_us = entry.info.elapsed_us;
  now_.examples += entry.info.examples;
  if (now_.elapsed_us - rate_samples_.back().elapsed_us >= kRateSampleUs) {
    rate_samples_.push_back(now_);
    while (rate_samples_.size() > 2 &&
           now_.elapsed_us - rate_samples_[1].elapsed_us >= kRateWindowUs) {
      rate_samples_.pop_front();
    }
  }
}

void ReportBuilder::AddLog(v1::LogLine::Severity severity,
                           absl::Time time,
                           absl::string_view text) {
  empty_ = false;
  v1::LogLine& line = *report_.add_segments()->mutable_log();
  line.mutable_time()->set_seconds(absl::ToUnixSeconds(time));
  line.mutable_time()->set_nanos(static_cast<int32_t>(
      (time - absl::FromUnixSeconds(line.time().seconds())) / absl::Nanoseconds(1)));
  line.set_severity(severity);
  line.set_text(ToUtf8(text));
  line.set_attempt(attempt_);
  bytes_ += static_cast<int64_t>(line.text().size()) + kBytesPerRecord;
}

void ReportBuilder::AddCheckpoint(v1::CheckpointAnnouncement checkpoint) {
  empty_ = false;
  *report_.mutable_checkpoint() = std::move(checkpoint);
}

void ReportBuilder::SetOutcome(v1::Outcome outcome) {
  empty_ = false;
  if (outcome.has_failure()) {
    outcome.mutable_failure()->set_message(ToUtf8(outcome.failure().message()));
  }
  if (outcome.has_result()) {
    step_ = outcome.result().steps();
  }
  *report_.mutable_outcome() = std::move(outcome);
}

bool ReportBuilder::full() const {
  return bytes_ >= kFullBytes || report_.has_checkpoint() || report_.has_outcome();
}

v1::WorkerReport ReportBuilder::Take() {
  if (!series_sent_) {
    for (size_t i = 0; i < series_.size(); ++i) {
      v1::Series& series = *report_.add_new_series();
      series.set_id(static_cast<uint32_t>(i + 1));
      series.set_name(series_[i]);
    }
    series_sent_ = true;
  }
  v1::Progress& progress = *report_.mutable_progress();
  progress.set_step(step_);
  progress.set_total_steps(sizes_.total_steps);
  // After the last update there is no next step: the last epoch is meant.
  progress.set_epoch(static_cast<int32_t>(std::clamp<int64_t>(
      step_ / sizes_.steps_per_epoch, 0, std::max(sizes_.total_epochs - 1, 0))));
  progress.set_total_epochs(sizes_.total_epochs);
  progress.set_examples_per_second(ExamplesPerSecond());
  for (const auto& [series, value] : latest_) {
    if (series < series_.size()) {
      (*progress.mutable_latest_metrics())[series_[series]] = value;
    }
  }
  bytes_ = 0;
  empty_ = true;
  return std::exchange(report_, {});
}

double ReportBuilder::ExamplesPerSecond() const {
  const RateSample& oldest = rate_samples_.front();
  const int64_t us = now_.elapsed_us - oldest.elapsed_us;
  return us <= 0
             ? 0
             : static_cast<double>(now_.examples - oldest.examples) * 1e6 / static_cast<double>(us);
}

}  // namespace normlab::engine
