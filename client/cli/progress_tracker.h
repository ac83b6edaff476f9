#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "client/cli/output.h"
#include "client/lib/record_decoder.h"

#include "normlab/v1/job.pb.h"

namespace normlab::client {

// What a person wants to know about a running job, kept up to date from its records alone: a job that
// is replayed from the store, from any record on, shows the steps, epochs and (by the workers' own
// clock, elapsed_us) speeds it had then. Snapshots of the job give only the totals. Not thread-safe.
class ProgressTracker {
 public:
  explicit ProgressTracker(const normlab::v1::Job& job);

  void OnMetrics(const MetricRecord& record);
  // Takes over the totals; the step of a snapshot belongs to no record.
  void OnProgress(const normlab::v1::Progress& progress);

  // "step 938/4690  epoch 2/5  train/loss 0.3127  train/accuracy 88.3%  51.2k examples/s  0:20
  // left".
  std::string PlainLine() const;

  // The same with a bar, for at most `width` columns; what matters least is left out first.
  std::string LiveLine(const Output& out, normlab::v1::Job::State state, int width) const;

 private:
  struct Anchor {
    int64_t step = 0;
    int64_t elapsed_us = 0;
  };

  void Measure(int64_t step, int64_t elapsed_us);
  // Updates per second; nothing while unknown.
  std::optional<double> StepsPerSecond() const;
  std::string EpochText() const;
  std::string SpeedText() const;
  std::string TimeLeftText() const;

  int64_t step_ = 0;  // updates done at the last record; 0 before the first
  int64_t total_steps_ = 0;
  int32_t total_epochs_ = 0;
  // A budget in steps may end inside an epoch: the steps of one do not follow from the totals then.
  bool has_whole_epochs_ = true;
  double batch_size_ = 64;
  std::optional<double> train_loss_;
  std::optional<double> train_accuracy_;
  std::optional<double> test_accuracy_;
  // The speed is that from the older anchor to now: between one and two windows.
  std::optional<Anchor> older_;
  std::optional<Anchor> newer_;
  Anchor now_;
};

// Whether a record is an evaluation on the test set.
bool IsEvaluation(const MetricRecord& record);

// Whether a record has the training loss of a step.
bool IsTrainingStep(const MetricRecord& record);

// "test/loss 0.4310  test/accuracy 84.70%" and the like: the points of an evaluation. The learning
// rate, which comes with every record, is left out.
std::string FormatEvaluation(const MetricRecord& record);

}  // namespace normlab::client
