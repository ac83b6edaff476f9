// The run itself: what Trainer does from its first step to its last. trainer.cc plans it, trainer_write.cc
// writes its files.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/series_name.h"
#include "common/status_macros.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/optim/schedule.h"
#include "engine/spec/ranks.h"
#include "engine/train/failure.h"
#include "engine/train/model_tensors.h"
#include "engine/train/trainer.h"

namespace normlab::engine {
namespace {

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
  // The state a run starts from is there already.
  if (step <= last_checkpoint_step_) {
    return false;
  }
  const absl::Duration now = options_.clock->Monotonic();
  if (checkpoint_missed_) {
    return now >= checkpoint_retry_time_;
  }
  const int64_t interval = resolved_.checkpoint().every_steps();
  return (interval > 0 && step % interval == 0) ||
         now - last_checkpoint_time_ >= checkpoint_interval_;
}

v1::Outcome Trainer::Run(MetricSink& sink,
                         const std::stop_token& stop,
                         const std::stop_token& checkpoint) {
  omp_set_num_threads(resolved_.threads());
  start_ = std::chrono::steady_clock::now();
  steps_done_ = plan_.start_step();
  sink.OnSeries(series_);
  last_checkpoint_step_ = plan_.start_step();
  last_checkpoint_time_ = options_.clock->Monotonic();
  if (!initial_weights_note_.empty()) {
    sink.OnLog(v1::LogLine::INFO, initial_weights_note_);
  }
  v1::Outcome outcome;
  const absl::Status status = RunToTheEnd(sink, stop, checkpoint, outcome);
  if (!status.ok()) {
    outcome.set_state(v1::Job::FAILED);
    *outcome.mutable_failure() = ToFailure(status);
    return outcome;
  }
  if (outcome.state() == v1::Job::PAUSED) {
    return outcome;
  }
  FillResult(outcome);
  return outcome;
}

absl::Status Trainer::RunToTheEnd(MetricSink& sink,
                                  const std::stop_token& stop,
                                  const std::stop_token& checkpoint,
                                  v1::Outcome& outcome) {
  if (plan_.start_step() == 0) {
    InitializeFromData();
  }
  for (int64_t step = plan_.start_step(); step < plan_.total_steps(); ++step) {
    struct Word {
      bool stop;
      bool checkpoint;
    };
    const Word word = team_.FromLead(Word{stop.stop_requested(), CheckpointDue(step)});
    if (word.stop) {
      return EndStopped(step, checkpoint, sink, outcome);
    }
    if (word.checkpoint) {
      NORMLAB_RETURN_IF_ERROR(CheckRanksAgree(step));
      TryCheckpoint(step, sink);
    }
    const bool evaluates = EvaluationDue(step);
    if (evaluates && !Evaluate(stop)) {
      return EndStopped(step, checkpoint, sink, outcome);
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
    for (const SeriesValue& value : probe_values_) {
      Add(value.series, value.value);
    }
    steps_done_ = step + 1;
    Report(step, step_start, examples, sink);
    if (!model_is_finite_) {
      Diverged(step + 1, "a weight or a running statistic", sink, outcome);
      return absl::OkStatus();
    }
  }
  if (!Evaluate(stop)) {
    return EndStopped(plan_.total_steps(), checkpoint, sink, outcome);
  }
  if (std::isfinite(*latest_[kTestLoss])) {
    if (!EvaluateReestimated(stop)) {
      record_.clear();
      return EndStopped(plan_.total_steps(), checkpoint, sink, outcome);
    }
    // Before the probes of the final model, which may take long.
    NORMLAB_RETURN_IF_ERROR(CheckRanksAgree(plan_.total_steps()));
    const absl::Status written = OnLead([&] {
      return WriteWithPatience([&] { return WriteFinal(sink, outcome); }, "the final weights", stop,
                               sink);
    });
    if (!written.ok()) {
      if (team_.FromLead(stop.stop_requested())) {
        record_.clear();
        return EndStopped(plan_.total_steps(), checkpoint, sink, outcome);
      }
      // The disk's fault: the job is not over, and goes on from its last checkpoint.
      return WithReason(written, v1::FailureReason::NODE_FAILED);
    }
    probe_values_.clear();
    if (!team_.FromLead(probes_ == nullptr ||
                        probes_->AtEnd(*model_, stop, kSeriesCount, probe_values_))) {
      outcome.clear_files();
      record_.clear();
      return EndStopped(plan_.total_steps(), checkpoint, sink, outcome);
    }
    for (const SeriesValue& value : probe_values_) {
      Add(value.series, value.value);
    }
  }
  Report(plan_.total_steps(), std::chrono::steady_clock::now(), /*examples=*/0, sink);
  if (!std::isfinite(*latest_[kTestLoss])) {
    Diverged(plan_.total_steps(), "the test loss", sink, outcome);
    return absl::OkStatus();
  }
  outcome.set_state(v1::Job::SUCCEEDED);
  return absl::OkStatus();
}

absl::Status Trainer::EndStopped(int64_t step,
                                 const std::stop_token& checkpoint,
                                 MetricSink& sink,
                                 v1::Outcome& outcome) {
  if (!team_.FromLead(checkpoint.stop_requested())) {
    outcome.set_state(v1::Job::CANCELLED);
    return absl::OkStatus();
  }
  if (team_.FromLead(step > last_checkpoint_step_)) {
    NORMLAB_RETURN_IF_ERROR(CheckRanksAgree(step));
    // It was told to stop already; what would be lost is worth waiting for.
    const absl::Status written = OnLead([&] {
      return WriteWithPatience([&] { return WriteCheckpointOf(step, sink); },
                               absl::StrCat("the checkpoint at step ", step), {}, sink);
    });
    if (!written.ok() && team_.leads()) {
      sink.OnLog(v1::LogLine::ERROR,
                 absl::StrCat("the checkpoint at step ", step, " was given up (", written.message(),
                              "): the steps after step ", last_checkpoint_step_,
                              " are to be trained again"));
    }
  }
  outcome.set_state(v1::Job::PAUSED);
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
  const bool probe = probes_ != nullptr && probes_->Due(step);
  if (probe) {
    probes_->BeforeForward();
  }
  probe_values_.clear();
  const BatchResult result = RunPasses(network);
  if (!std::isfinite(result.loss)) {
    return result;
  }
  const ProbeStep probe_step = {.step = step,
                                .learning_rate = learning_rate,
                                .parameters = model_->parameters.span(),
                                .gradients = model_->gradients.span(),
                                .loss = result.loss};
  if (probe) {
    // Of the whole batch: with several ranks only probes of the weights are allowed, and those plan
    // for it like all others.
    probes_->BeforeUpdate(probe_step, source_.BatchSizeOf(step), network);
  }
  model_is_finite_ =
      optimizer_->Step(learning_rate, model_->gradients.span(), model_->parameters.span()) &&
      AllFinite(model_->state.span());
  if (probe) {
    probes_->AfterUpdate(probe_step, kSeriesCount, probe_values_);
  }
  return result;
}

BatchResult Trainer::RunPasses(Network& network) {
  const double start = ThreadCpuSeconds();
  const BatchResult share = network.Forward();
  if (team_.alone()) {
    if (std::isfinite(share.loss)) {
      network.Backward();
      passes_.Add(ThreadCpuSeconds() - start);
    }
    return share;
  }
  // Whether the loss is finite everywhere is known at the end only: to ask before would make every
  // rank wait for the slowest once more.
  reducer_->Begin();
  network.Backward();
  reducer_->Finish();
  passes_.Add(ThreadCpuSeconds() - start);
  AverageRunningStatistics();
  return team_.Sum(share);
}

void Trainer::AverageRunningStatistics() {
  // Of one group all ranks have the same ones already.
  if (team_.size() > StatisticsGroupOf(resolved_)) {
    team_.Average(model_->state.span());
  }
}

absl::Status Trainer::OnLead(const std::function<absl::Status()>& work) {
  const absl::Status status = team_.leads() ? work() : absl::OkStatus();
  const bool done = team_.FromLead(status.ok());
  return done || team_.leads() ? status : absl::AbortedError("rank 0 could not write");
}

absl::Status Trainer::CheckRanksAgree(int64_t step) {
  const int rank = team_.FindDifference({model_->parameters.span(), model_->state.span()});
  if (rank < 0) {
    return absl::OkStatus();
  }
  return absl::InternalError(
      absl::StrCat("the weights of rank ", rank, " are not those of rank 0 before step ", step,
                   ": a rank computed something else than the others, which is a fault of the "
                   "machine or a bug; start the job again, and on other nodes"));
}

bool Trainer::Evaluate(const std::stop_token& stop) {
  const std::optional<EvaluationResult> result = evaluator_->Run(stop, team_);
  if (!result.has_value()) {
    return false;
  }
  Add(kTestLoss, result->loss);
  if (has_classes()) {
    Add(kTestAccuracy, result->accuracy);
  }
  return true;
}

bool Trainer::EvaluateReestimated(const std::stop_token& stop) {
  const int passes = resolved_.evaluation().reestimate_batches();
  const absl::Span<float> statistics = model_->state.span();
  if (passes == 0 || statistics.empty()) {
    return true;
  }
  const std::vector<float> kept(statistics.begin(), statistics.end());
  // The first half forgets the running values of training, which lag behind the weights; the mean over the second half
  // does away with the noise of small batches.
  std::vector<double> sums(statistics.size());
  const int averaged = (passes + 1) / 2;
  bool stopped = false;
  for (int pass = 0; pass < passes && !stopped; ++pass) {
    Network& network = NetworkOf(pass);
    network.ParametersChanged();
    source_.LoadTraining(pass, network.input(), network.labels(), network.targets());
    network.SetStep(plan_.total_steps() + pass);
    network.Forward();
    AverageRunningStatistics();
    for (size_t i = 0; i < sums.size() && pass >= passes - averaged; ++i) {
      sums[i] += statistics[i];
    }
    stopped = team_.FromLead(stop.stop_requested());
  }
  for (size_t i = 0; i < sums.size(); ++i) {
    statistics[i] = static_cast<float>(sums[i] / averaged);
  }
  const auto result = stopped ? std::nullopt : evaluator_->Run(stop, team_);
  std::copy(kept.begin(), kept.end(), statistics.begin());
  if (!result.has_value()) {
    return false;
  }
  Add(kTestLossReestimated, result->loss);
  if (has_classes()) {
    Add(kTestAccuracyReestimated, result->accuracy);
  }
  return true;
}

void Trainer::Add(uint32_t series, double value) {
  record_.push_back({series, value});
  latest_[series] = value;
  if (std::isfinite(value)) {
    latest_finite_[series] = value;
  }
}

void Trainer::Report(int64_t step, TimePoint step_start, int64_t examples, MetricSink& sink) {
  const TimePoint now = std::chrono::steady_clock::now();
  sink.OnStep(
      {.step = step,
       .values = absl::MakeConstSpan(record_),
       .elapsed_us = std::chrono::duration_cast<std::chrono::microseconds>(now - start_).count(),
       .step_seconds = examples > 0 ? static_cast<float>(Seconds(now - step_start)) : 0.0F,
       .examples = examples});
  record_.clear();
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
    if (values[i].has_value() && !common::IsDetailSeries(series_[i])) {
      (*result.mutable_final_metrics())[series_[i]] = *values[i];
    }
  }
  result.set_steps(steps_done_);
  result.set_training_seconds(Seconds(std::chrono::steady_clock::now() - start_));
  result.set_weights_sha256(WeightsSha256(ModelTensors(graph_, *model_)));
  if (probes_ != nullptr) {
    for (v1::ProbeCost& cost : probes_->Costs(passes_.Median())) {
      *result.add_probe_costs() = std::move(cost);
    }
  }
  for (const ImplementationChoice& choice : implementations()) {
    v1::LayerImplementation& implementation = *result.add_implementations();
    implementation.set_layer(choice.layer);
    implementation.set_pass(choice.pass);
    implementation.set_implementation(choice.implementation);
  }
}

}  // namespace normlab::engine
