// The run itself: what Trainer does from its first step to its last. trainer.cc plans it.
#include <omp.h>

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/optim/schedule.h"
#include "engine/train/failure.h"
#include "engine/train/model_tensors.h"
#include "engine/train/trainer.h"

namespace normlab::engine {
namespace {

constexpr int kKeptCheckpoints = 2;
constexpr char kCheckpointsFolder[] = "/checkpoints";

double Seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

bool Trainer::EvaluationDue(int64_t step) const {
  const v1::Evaluation& evaluation = resolved_.evaluation();
  const int64_t interval = evaluation.every_steps() > 0
                               ? evaluation.every_steps()
                               : evaluation.every_epochs() * source_.length().steps_per_epoch;
  return interval > 0 && step % interval == 0;
}

bool Trainer::CheckpointDue(int64_t step) const {
  const int64_t interval = resolved_.checkpoint().every_steps();
  // The state a run starts from is there already.
  return interval > 0 && step % interval == 0 && step > plan_.start_step();
}

v1::Outcome Trainer::Run(MetricSink& sink, const std::stop_token& stop) {
  omp_set_num_threads(resolved_.threads());
  start_ = std::chrono::steady_clock::now();
  steps_done_ = plan_.start_step();
  if (!initial_weights_note_.empty()) {
    sink.OnLog(v1::LogLine::INFO, initial_weights_note_);
  }
  v1::Outcome outcome;
  const absl::Status status = RunToTheEnd(sink, stop, outcome);
  if (!status.ok()) {
    outcome.set_state(v1::Job::FAILED);
    *outcome.mutable_failure() = ToFailure(status);
    return outcome;
  }
  FillResult(outcome);
  return outcome;
}

absl::Status Trainer::RunToTheEnd(MetricSink& sink,
                                  const std::stop_token& stop,
                                  v1::Outcome& outcome) {
  if (plan_.start_step() == 0) {
    InitializeFromData();
  }
  for (int64_t step = plan_.start_step(); step < plan_.total_steps(); ++step) {
    if (stop.stop_requested()) {
      outcome.set_state(v1::Job::CANCELLED);
      return absl::OkStatus();
    }
    if (CheckpointDue(step)) {
      NORMLAB_RETURN_IF_ERROR(WriteCheckpointOf(step, sink));
    }
    const bool evaluates = EvaluationDue(step);
    if (evaluates && !Evaluate(stop)) {
      outcome.set_state(v1::Job::CANCELLED);
      return absl::OkStatus();
    }
    // The untrained net may overflow with running statistics that nothing was measured for, and
    // train well all the same.
    if (evaluates && step > 0 && !std::isfinite(*latest_[kTestLoss])) {
      Report(step, std::chrono::steady_clock::now(), /*examples=*/0, sink);
      Diverged(step, "the test loss", sink, outcome);
      return absl::OkStatus();
    }
    const TimePoint step_start = std::chrono::steady_clock::now();
    const double learning_rate = LearningRateAt(resolved_, step, length());
    const BatchResult result = TrainStep(step, learning_rate);
    Add(kTrainLoss, result.loss);
    if (!std::isfinite(result.loss)) {
      Report(step, step_start, /*examples=*/0, sink);
      Diverged(step, "the training loss", sink, outcome);
      return absl::OkStatus();
    }
    const int64_t examples = source_.BatchSizeOf(step);
    if (has_classes()) {
      Add(kTrainAccuracy, static_cast<double>(result.correct) / static_cast<double>(examples));
    }
    Add(kLearningRate, learning_rate);
    steps_done_ = step + 1;
    Report(step, step_start, examples, sink);
    if (!model_is_finite_) {
      Diverged(step + 1, "a weight or a running statistic", sink, outcome);
      return absl::OkStatus();
    }
  }
  if (!Evaluate(stop)) {
    outcome.set_state(v1::Job::CANCELLED);
    return absl::OkStatus();
  }
  Report(plan_.total_steps(), std::chrono::steady_clock::now(), /*examples=*/0, sink);
  if (!std::isfinite(*latest_[kTestLoss])) {
    Diverged(plan_.total_steps(), "the test loss", sink, outcome);
    return absl::OkStatus();
  }
  NORMLAB_RETURN_IF_ERROR(WriteFinal(sink));
  outcome.set_state(v1::Job::SUCCEEDED);
  return absl::OkStatus();
}

Network& Trainer::NetworkOf(int64_t step) {
  return source_.BatchSizeOf(step) == resolved_.batch_size() ? *full_ : *rest_;
}

void Trainer::InitializeFromData() {
  Network& network = NetworkOf(0);
  source_.LoadTraining(0, network.input(), network.labels(), network.targets());
  network.SetStep(0);
  network.SetUpdateRunningStatistics(false);
  network.ForwardInitializing(given_layers_);
  network.SetUpdateRunningStatistics(true);
}

BatchResult Trainer::TrainStep(int64_t step, double learning_rate) {
  Network& network = NetworkOf(step);
  // Every update changed the parameters, maybe through the other plan.
  network.ParametersChanged();
  source_.LoadTraining(step, network.input(), network.labels(), network.targets());
  network.SetStep(step);
  const BatchResult result = network.Forward();
  if (std::isfinite(result.loss)) {
    network.Backward();
    model_is_finite_ =
        optimizer_->Step(learning_rate, model_->gradients.span(), model_->parameters.span()) &&
        AllFinite(model_->state.span());
  }
  return result;
}

bool Trainer::Evaluate(const std::stop_token& stop) {
  const std::optional<EvaluationResult> result = evaluator_->Run(stop);
  if (!result.has_value()) {
    return false;
  }
  Add(kTestLoss, result->loss);
  if (has_classes()) {
    Add(kTestAccuracy, result->accuracy);
  }
  return true;
}

absl::Status Trainer::WriteCheckpointOf(int64_t step, MetricSink& sink) {
  const TimePoint begin = std::chrono::steady_clock::now();
  const std::string parent = options_.attempt_folder + kCheckpointsFolder;
  const auto written = WriteCheckpoint(parent, CheckpointName(step), Contents(step));
  if (!written.ok()) {
    return WithReason(written.status(), v1::FailureReason::CHECKPOINT_ERROR);
  }
  sink.OnCheckpoint({.step = step,
                     .folder = written->folder,
                     .manifest_sha256 = written->manifest_sha256,
                     .bytes = written->bytes,
                     .seconds = Seconds(std::chrono::steady_clock::now() - begin)});
  // One that is announced but not known to be committed may become the one to start from.
  PruneCheckpoints(parent, kKeptCheckpoints, sink.CommittedCheckpointStep());
  return absl::OkStatus();
}

absl::Status Trainer::WriteFinal(MetricSink& sink) {
  const auto written =
      WriteCheckpoint(options_.attempt_folder, "final", Contents(plan_.total_steps()));
  if (!written.ok()) {
    return WithReason(written.status(), v1::FailureReason::CHECKPOINT_ERROR);
  }
  sink.OnLog(v1::LogLine::INFO, absl::StrCat("final weights written to ", written->folder, " (",
                                             written->bytes, " bytes)"));
  return absl::OkStatus();
}

void Trainer::Add(Series series, double value) {
  record_[record_size_++] = {series, value};
  latest_[series] = value;
  if (std::isfinite(value)) {
    latest_finite_[series] = value;
  }
}

void Trainer::Report(int64_t step, TimePoint step_start, int64_t examples, MetricSink& sink) {
  const TimePoint now = std::chrono::steady_clock::now();
  sink.OnStep(
      {.step = step,
       .values = absl::MakeConstSpan(record_.data(), record_size_),
       .elapsed_us = std::chrono::duration_cast<std::chrono::microseconds>(now - start_).count(),
       .step_seconds = examples > 0 ? static_cast<float>(Seconds(now - step_start)) : 0.0F,
       .examples = examples});
  record_size_ = 0;
}

void Trainer::Diverged(int64_t step,
                       absl::string_view what,
                       MetricSink& sink,
                       v1::Outcome& outcome) {
  steps_done_ = step;
  outcome.set_state(v1::Job::DIVERGED);
  sink.OnLog(v1::LogLine::WARNING, absl::StrCat(what, " is not finite at step ", step,
                                                ": the run diverged; use a smaller learning rate",
                                                resolved_.normalization().has_none()
                                                    ? ", another initializer or a normalizer"
                                                    : " or another initializer"));
}

void Trainer::FillResult(v1::Outcome& outcome) {
  v1::Result& result = *outcome.mutable_result();
  // Of a diverged run the last finite values are worth keeping.
  const auto& values = outcome.state() == v1::Job::DIVERGED ? latest_finite_ : latest_;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].has_value()) {
      (*result.mutable_final_metrics())[series()[i]] = *values[i];
    }
  }
  result.set_steps(steps_done_);
  result.set_training_seconds(Seconds(std::chrono::steady_clock::now() - start_));
  result.set_weights_sha256(WeightsSha256(ModelTensors(graph_, *model_)));
  for (const ImplementationChoice& choice : implementations()) {
    v1::LayerImplementation& implementation = *result.add_implementations();
    implementation.set_layer(choice.layer);
    implementation.set_pass(choice.pass);
    implementation.set_implementation(choice.implementation);
  }
}

}  // namespace normlab::engine
