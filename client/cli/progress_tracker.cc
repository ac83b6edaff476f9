#include "client/cli/progress_tracker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "client/cli/job_view.h"
#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;

constexpr double kMicrosecondsPerSecond = 1e6;
constexpr int64_t kSpeedWindowUs = 2'000'000;
// Eighths of a column, from empty to full.
constexpr const char* kBlocks[] = {" ",      "\u258F", "\u258E", "\u258D", "\u258C",
                                   "\u258B", "\u258A", "\u2589", "\u2588"};

std::string Percent(double share) {
  return absl::StrFormat("%.1f%%", 100 * share);
}

std::string Bar(double share, int width, bool unicode) {
  share = std::clamp(share, 0.0, 1.0);
  constexpr int kParts = 8;
  const int parts = static_cast<int>(share * width * kParts);
  std::string bar;
  for (int i = 0; i < width; ++i) {
    const int filled = std::clamp(parts - i * kParts, 0, kParts);
    absl::StrAppend(&bar, unicode ? kBlocks[filled] : filled == kParts ? "#" : "-");
  }
  return absl::StrCat(unicode ? "\u2595" : "[", bar, unicode ? "\u258F" : "]");
}

}  // namespace

bool IsEvaluation(const MetricRecord& record) {
  return std::any_of(record.series.begin(), record.series.end(),
                     [](const std::string* name) { return absl::StartsWith(*name, "test/"); });
}

bool IsTrainingStep(const MetricRecord& record) {
  return std::any_of(record.series.begin(), record.series.end(),
                     [](const std::string* name) { return *name == "train/loss"; });
}

std::string FormatEvaluation(const MetricRecord& record) {
  std::string text;
  for (size_t i = 0; i < record.series.size(); ++i) {
    const std::string& name = *record.series[i];
    if (name == "train/learning_rate") {
      continue;
    }
    absl::StrAppend(&text, text.empty() ? "" : "  ", Printable(name), " ",
                    absl::EndsWith(name, "/accuracy")
                        ? absl::StrFormat("%.2f%%", 100 * record.values[i])
                        : FormatRounded(record.values[i]));
  }
  return text;
}

ProgressTracker::ProgressTracker(const Job& job) {
  for (const normlab::v1::JobSpec* spec : {&job.spec(), &job.resolved_spec()}) {
    if (spec->batch_size() > 0) {
      batch_size_ = spec->batch_size();
    }
  }
  has_whole_epochs_ = job.spec().budget_case() != normlab::v1::JobSpec::kSteps;
  total_steps_ = job.progress().total_steps();
  total_epochs_ = job.progress().total_epochs();
}

void ProgressTracker::OnProgress(const normlab::v1::Progress& progress) {
  total_steps_ = std::max(total_steps_, progress.total_steps());
  total_epochs_ = std::max(total_epochs_, progress.total_epochs());
}

void ProgressTracker::OnMetrics(const MetricRecord& record) {
  for (size_t i = 0; i < record.series.size(); ++i) {
    const std::string& name = *record.series[i];
    if (name == "train/loss") {
      train_loss_ = record.values[i];
    } else if (name == "train/accuracy") {
      train_accuracy_ = record.values[i];
    } else if (name == "test/accuracy") {
      test_accuracy_ = record.values[i];
    }
  }
  // Step t is the state before update t: its training point means that t + 1 updates are done.
  const bool is_training = IsTrainingStep(record);
  step_ = record.step + (is_training ? 1 : 0);
  if (is_training && record.elapsed_us > 0) {
    Measure(record.step + 1, record.elapsed_us);
  }
}

void ProgressTracker::Measure(int64_t step, int64_t elapsed_us) {
  if (!newer_.has_value() || elapsed_us < now_.elapsed_us) {  // the first, or of another attempt
    older_ = newer_ = Anchor{step, elapsed_us};
  } else if (elapsed_us - newer_->elapsed_us > kSpeedWindowUs) {
    older_ = std::exchange(newer_, Anchor{step, elapsed_us});
  }
  now_ = {step, elapsed_us};
}

std::optional<double> ProgressTracker::StepsPerSecond() const {
  if (!older_.has_value() || now_.elapsed_us <= older_->elapsed_us || now_.step <= older_->step) {
    return std::nullopt;
  }
  return kMicrosecondsPerSecond * static_cast<double>(now_.step - older_->step) /
         static_cast<double>(now_.elapsed_us - older_->elapsed_us);
}

std::string ProgressTracker::EpochText() const {
  if (total_epochs_ <= 0 || total_steps_ <= 0 || (!has_whole_epochs_ && total_epochs_ > 1)) {
    return "";
  }
  const int64_t epoch = std::min<int64_t>(step_ * total_epochs_ / total_steps_, total_epochs_ - 1);
  return absl::StrCat("epoch ", epoch + 1, "/", total_epochs_);
}

std::string ProgressTracker::SpeedText() const {
  const std::optional<double> speed = StepsPerSecond();
  return speed.has_value() ? absl::StrCat(FormatCount(*speed * batch_size_), " examples/s") : "";
}

std::string ProgressTracker::TimeLeftText() const {
  const std::optional<double> speed = StepsPerSecond();
  if (!speed.has_value() || total_steps_ <= step_) {
    return "";
  }
  return absl::StrCat(FormatSeconds(static_cast<double>(total_steps_ - step_) / *speed), " left");
}

std::string ProgressTracker::PlainLine() const {
  std::string line = absl::StrCat("step ", step_);
  if (total_steps_ > 0) {
    absl::StrAppend(&line, "/", total_steps_);
  }
  std::vector<std::string> parts = {EpochText()};
  if (train_loss_.has_value()) {
    parts.push_back(absl::StrCat("train/loss ", FormatRounded(*train_loss_)));
  }
  if (train_accuracy_.has_value()) {
    parts.push_back(absl::StrCat("train/accuracy ", Percent(*train_accuracy_)));
  }
  parts.push_back(SpeedText());
  parts.push_back(TimeLeftText());
  for (const std::string& part : parts) {
    if (!part.empty()) {
      absl::StrAppend(&line, "  ", part);
    }
  }
  return line;
}

std::string ProgressTracker::LiveLine(const Output& out, Job::State state, int width) const {
  constexpr int kWidestBar = 30;
  constexpr int kNarrowestBar = 8;
  constexpr int kBarFrame = 4;  // its two ends and the space around it
  const std::string& name = Job::State_Name(state);
  int used = DisplayWidth(name);
  std::string text;
  // Appends `part` when there is room for it.
  const auto append = [&](const std::string& part) {
    const int taken = 2 + DisplayWidth(part);
    if (part.empty() || used + taken > width) {
      return false;
    }
    absl::StrAppend(&text, "  ", part);
    used += taken;
    return true;
  };
  const auto append_accuracy = [&](absl::string_view label, absl::string_view short_label,
                                   std::optional<double> accuracy) {
    if (accuracy.has_value() && !append(absl::StrCat(label, " ", Percent(*accuracy)))) {
      append(absl::StrCat(short_label, " ", Percent(*accuracy)));
    }
  };
  // In the order of importance.
  append(total_steps_ > 0 ? absl::StrCat(step_, "/", total_steps_) : absl::StrCat("step ", step_));
  if (train_loss_.has_value()) {
    append(absl::StrCat("loss ", FormatRounded(*train_loss_)));
  }
  append(TimeLeftText());
  append_accuracy("train acc", "acc", train_accuracy_);
  append_accuracy("test acc", "test", test_accuracy_);
  append(EpochText());
  append(SpeedText());
  std::string bar;
  const int room = std::min(width - used - kBarFrame, kWidestBar);
  if (total_steps_ > 0 && room >= kNarrowestBar) {
    const double share = static_cast<double>(step_) / static_cast<double>(total_steps_);
    bar = absl::StrCat("  ", out.Paint(Color::kCyan, Bar(share, room, out.style().unicode)));
  }
  return absl::StrCat(PaintState(out, state), bar, text);
}

}  // namespace normlab::client
