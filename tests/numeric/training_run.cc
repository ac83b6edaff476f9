#include "tests/numeric/training_run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <stop_token>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

#include "common/status_macros.h"
#include "engine/data/data_inspector.h"
#include "engine/data/mapped_dataset.h"
#include "engine/spec/resolve.h"
#include "engine/spec/validate.h"
#include "engine/train/trainer.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {
namespace {

namespace fs = std::filesystem;

double RecentMean(const std::vector<double>& values, size_t count) {
  if (values.size() < count || count == 0) {
    return std::nan("");
  }
  return std::accumulate(values.end() - static_cast<std::ptrdiff_t>(count), values.end(), 0.0) /
         static_cast<double>(count);
}

class CurveSink : public MetricSink {
 public:
  CurveSink(TrainingCurves& curves, const std::function<bool(const TrainingCurves&)>& enough)
      : curves_(curves), enough_(enough) {}

  void OnSeries(const std::vector<std::string>& names) override { series_ = names; }
  void OnStep(const StepRecord& record) override {
    for (const SeriesValue& value : record.values) {
      const std::string& name = series_[value.series];
      if (name == "train/loss") {
        curves_.train_loss.push_back(value.value);
      } else if (name == "train/accuracy") {
        curves_.train_accuracy.push_back(value.value);
      } else if (name == "test/accuracy") {
        curves_.test_accuracy[record.step] = value.value;
      }
    }
    if (enough_ && enough_(curves_)) {
      stop_.request_stop();
    }
  }
  void OnCheckpoint(const CheckpointRecord&) override {}
  void OnLog(v1::LogLine::Severity, absl::string_view text) override {
    curves_.logs.emplace_back(text);
  }
  int64_t CommittedCheckpointStep() const override { return -1; }

  std::stop_token token() const { return stop_.get_token(); }

 private:
  std::vector<std::string> series_;
  TrainingCurves& curves_;
  const std::function<bool(const TrainingCurves&)>& enough_;
  std::stop_source stop_;
};

// One cache of decoded data sets for all runs of the process, gone with it.
class CacheFolder {
 public:
  CacheFolder()
      : path_(fs::path(::testing::TempDir()) / absl::StrCat("normlab_training_", ::getpid())) {
    fs::create_directories(path_ / "attempt");
  }
  ~CacheFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  CacheFolder(const CacheFolder&) = delete;
  CacheFolder& operator=(const CacheFolder&) = delete;

  std::string cache() const { return path_.string(); }
  std::string attempt() const { return (path_ / "attempt").string(); }

 private:
  const fs::path path_;
};

const CacheFolder& Folder() {
  static const CacheFolder folder;
  return folder;
}

absl::StatusOr<MappedDataset> OpenData(const v1::JobSpec& resolved,
                                       const std::vector<std::string>& data_roots) {
  v1::InspectDataRequest request;
  *request.mutable_data() = resolved.data();
  request.mutable_data_roots()->Assign(data_roots.begin(), data_roots.end());
  request.set_cache_folder(Folder().cache());
  static DataInspector inspector;
  const v1::DataReport report = inspector.Inspect(request);
  if (report.violations_size() > 0) {
    return absl::InvalidArgumentError(report.ShortDebugString());
  }
  return MappedDataset::Open(report.data_cache());
}

}  // namespace

double TrainingCurves::RecentLoss(size_t count) const {
  return RecentMean(train_loss, count);
}

double TrainingCurves::RecentAccuracy(size_t count) const {
  return RecentMean(train_accuracy, count);
}

double TrainingCurves::BestTestAccuracy() const {
  double best = 0;
  for (const auto& [step, accuracy] : test_accuracy) {
    best = std::max(best, accuracy);
  }
  return best;
}

absl::StatusOr<TrainingResult> RunTraining(
    const std::string& text,
    const std::vector<std::string>& data_roots,
    const std::function<bool(const TrainingCurves&)>& enough) {
  v1::JobSpec spec;
  if (!google::protobuf::TextFormat::MergeFromString(text, &spec)) {
    return absl::InvalidArgumentError(absl::StrCat("not a JobSpec: ", text));
  }
  NORMLAB_RETURN_IF_ERROR(ViolationsToStatus(Validate(spec)));
  const v1::JobSpec resolved = Resolve(spec);
  NORMLAB_ASSIGN_OR_RETURN(const MappedDataset data, OpenData(resolved, data_roots));
  NORMLAB_ASSIGN_OR_RETURN(
      const std::unique_ptr<Trainer> trainer,
      Trainer::Plan(resolved, data, {.attempt_folder = Folder().attempt(), .resume_folder = ""}));
  TrainingResult result;
  result.steps_per_epoch = trainer->length().steps_per_epoch;
  CurveSink sink(result.curves, enough);
  result.outcome = trainer->Run(sink, sink.token());
  return result;
}

}  // namespace normlab::engine
