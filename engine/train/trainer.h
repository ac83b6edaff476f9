#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/clock.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/data/mapped_dataset.h"
#include "engine/data/prefetching_source.h"
#include "engine/graph/graph.h"
#include "engine/optim/optimizer.h"
#include "engine/parallel/communicator.h"
#include "engine/parallel/gradient_reducer.h"
#include "engine/probes/pass_times.h"
#include "engine/probes/probe_set.h"
#include "engine/train/evaluator.h"
#include "engine/train/metric_sink.h"
#include "engine/train/network.h"
#include "engine/train/rank_team.h"

#include "normlab/v1/spec.pb.h"
#include "normlab/v1/worker.pb.h"

namespace normlab::engine {

struct TrainerOptions {
  // Exists; checkpoints go to <attempt_folder>/checkpoints/step-..., final weights to
  // <attempt_folder>/final.
  std::string attempt_folder;
  // A checkpoint's folder; empty: from the beginning.
  std::string resume_folder;
  // Where initial weights may lie.
  std::vector<std::string> data_roots;
  // By which checkpoint.every_time is measured.
  const common::Clock* clock = &common::Clock::Real();
  // A checkpoint, or the final weights, that the disk does not take are tried again so long after;
  // the end of a run waits for the disk for so long at most.
  absl::Duration write_retry = absl::Seconds(10);
  absl::Duration write_patience = absl::Hours(1);
  // Asked during that wait: true ends it. May be empty.
  std::function<bool()> give_up;
  // Among the processes that train the run together, as many as the spec's data_parallel says; null:
  // this one alone. Not owned; must outlive the trainer.
  Communicator* communicator = nullptr;
  // For measuring: false adds gradients up only after the whole backward pass.
  bool overlap = true;
};

// One training run: plans everything, then steps.
//
// Step t reports train/loss, train/accuracy and train/learning_rate of the state before update t.
// The test set is evaluated before update t when t is a multiple of the evaluation interval (t = 0
// included), in the record of step t, and once after the last update, in a last record with step =
// total_steps; with evaluation.reestimate_batches that record also has the results with running
// statistics estimated anew. A checkpoint of step n is the state before update n. A run resumed from it repeats
// step n's evaluation and equals the uninterrupted run bit for bit. Checkpoints are due every
// checkpoint.every_steps steps and, between steps, checkpoint.every_time after the last one.
//
// A loss, parameter or running statistic that is not finite ends the run as DIVERGED at once: at
// step t when the loss of step t is not, at step t + 1 when the update of step t made one of the
// others; so does, at its end, a test loss that is not finite though all weights are.
//
// With several ranks, each has a trainer, and each call is collective. Every rank trains its share of
// every batch; gradients are added up while the backward pass goes on, and every rank makes the same
// update, so weights never have to be sent. Running statistics become, after every step, their mean
// over the ranks: all ranks have the same model at any time, as one that evaluates it, writes it or
// goes on with it needs, and it follows the same averages as ghost batch norm. Rank 0 alone hears of
// stops, writes files and has a sink that matters; series are those of whole batches. At checkpoints
// and at the end the ranks compare checksums of their models, and a difference fails the run.
//
// The step path allocates nothing, creates no primitive, takes no lock and does no I/O.
//
// Not thread-safe: one thread plans and runs. Owns its model and plans; the data set must outlive
// it.
class Trainer {
 public:
  // Builds the network, plans every batch size and initializes or resumes. `resolved`: from
  // Resolve, valid. The error's failure reason is told by ToFailure (engine/train/failure.h):
  // CHECKPOINT_ERROR, OUT_OF_MEMORY, ...; DATA_ERROR when the checkpoint is one of other data.
  static absl::StatusOr<std::unique_ptr<Trainer>> Plan(v1::JobSpec resolved,
                                                       const MappedDataset& data,
                                                       TrainerOptions options);

  // What the plan says: steps and epochs of the whole budget, and the step that comes first.
  const v1::WorkerPlan& plan() const { return plan_; }
  const RunLength& length() const { return source_.length(); }
  // Names of the series that SeriesValue::series counts in: training and evaluation, then the probes'.
  const std::vector<std::string>& series() const { return series_; }
  // Bytes of all plans' buffers.
  int64_t planned_bytes() const;
  // By name, the last values before plan().start_step() of a run that is resumed.
  const std::map<std::string, double>& resumed_metrics() const { return resumed_metrics_; }
  // What computes each pass of each layer in training.
  const std::vector<ImplementationChoice>& implementations() const;

  // Trains from plan().start_step() to the end of the budget, a divergence, a stop request or a
  // failure. A stop takes effect after the current step, within an evaluation after its current
  // batch: CANCELLED; or, when `checkpoint` is requested too, PAUSED with a checkpoint of that very
  // state (none when the run has made no step since the last one: that is where a new attempt
  // starts). When the disk does not take that checkpoint for write_patience, the run ends PAUSED
  // without it, and its log says so; when it does not take the final weights, FAILED with
  // NODE_FAILED. Call once. The outcome's result is set unless it is FAILED or PAUSED.
  v1::Outcome Run(MetricSink& sink,
                  const std::stop_token& stop,
                  const std::stop_token& checkpoint = {});

  // Of a run with ranks, for measuring; null otherwise.
  const GradientReducer* reducer() const { return reducer_.get(); }

  // For tests and tools: the model as it is.
  const Graph& graph() const { return graph_; }
  const ModelState& model() const { return *model_; }

 private:
  enum Series : uint32_t {
    kTrainLoss,
    kTrainAccuracy,
    kLearningRate,
    kTestLoss,
    kTestAccuracy,
    kTestLossReestimated,
    kTestAccuracyReestimated,
    kSeriesCount
  };
  using TimePoint = std::chrono::steady_clock::time_point;

  Trainer(v1::JobSpec resolved, const MappedDataset& data, TrainerOptions options, Graph graph);

  // Everything but what ranks plan together.
  absl::Status PlanOwn(const MappedDataset& data);
  absl::Status PlanNetworks();
  // What a rank's training plan is told.
  void ShareWithRanks(int64_t batch, NetworkOptions& options) const;
  absl::Status PlanProbes(const MappedDataset& data);
  // What a resumed run needs besides the model, but for counters.
  std::vector<MutableTensor> TrainingStateTensors();
  absl::Status Resume();
  // Weights of a file in place of the initializer's.
  absl::Status TakeInitialWeights();
  // Of the layers whose gain was not given, but whose v was: the gain at |v|, so that the weights are
  // the file's. `kept`: tensors that the file did not give.
  void FitGains(const std::vector<std::string>& kept);

  // Runs to the end; sets the outcome's state, or returns the error that ends it.
  absl::Status RunToTheEnd(MetricSink& sink,
                           const std::stop_token& stop,
                           const std::stop_token& checkpoint,
                           v1::Outcome& outcome);
  // Calls `work` on rank 0 only; OK or an error on all ranks alike.
  absl::Status OnLead(const std::function<absl::Status()>& work);
  // INTERNAL when the ranks' models are not the same.
  absl::Status CheckRanksAgree(int64_t step);
  // Running statistics become those of all ranks.
  void AverageRunningStatistics();
  // Forward and backward passes of all ranks.
  BatchResult RunPasses(Network& network);
  // Ends a stopped run whose state is that before update `step`.
  absl::Status EndStopped(int64_t step,
                          const std::stop_token& checkpoint,
                          MetricSink& sink,
                          v1::Outcome& outcome);
  // The plan for the batch size of step `step`.
  Network& NetworkOf(int64_t step);
  // Sets the parameters whose initial values depend on the first batch.
  void InitializeFromData();
  // Else targets are real-valued, and there is no accuracy.
  bool has_classes() const { return source_.source().shape().targets == 0; }
  // Without an update when the loss is not finite; sets model_is_finite_. Runs the probes that are due around the update.
  BatchResult TrainStep(int64_t step, double learning_rate);
  bool EvaluationDue(int64_t step) const;
  bool CheckpointDue(int64_t step) const;
  // False when stopped.
  bool Evaluate(const std::stop_token& stop);
  // The last evaluation once more with running statistics of the final weights; the model is then as it was. False when
  // stopped.
  bool EvaluateReestimated(const std::stop_token& stop);
  absl::Status WriteCheckpointOf(int64_t step, MetricSink& sink);
  // The same between steps, where a failure is only noted.
  void TryCheckpoint(int64_t step, MetricSink& sink);
  // Calls `write` again and again until it works, `stop` is requested or nobody waits any longer; its
  // last answer. `what` begins the sentence for the log.
  absl::Status WriteWithPatience(const std::function<absl::Status()>& write,
                                 absl::string_view what,
                                 const std::stop_token& stop,
                                 MetricSink& sink) const;
  absl::Status WriteFinal(MetricSink& sink, v1::Outcome& outcome);
  CheckpointContents Contents(int64_t step);

  // Collects values of the current record; Report sends them.
  void Add(uint32_t series, double value);
  void Report(int64_t step, TimePoint step_start, int64_t examples, MetricSink& sink);
  void Diverged(int64_t step, absl::string_view what, MetricSink& sink, v1::Outcome& outcome);
  void FillResult(v1::Outcome& outcome);

  const v1::JobSpec resolved_;
  const TrainerOptions options_;
  const std::string spec_sha256_;
  const std::string data_sha256_;
  const absl::Duration checkpoint_interval_;  // infinite: by steps only
  const Graph graph_;
  RankTeam team_;
  std::unique_ptr<Communicator> group_;  // whose batch statistics are one; null: this rank alone
  PrefetchingSource source_;
  v1::WorkerPlan plan_;
  std::unique_ptr<ModelState> model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::string initial_weights_sha256_;  // of the file that the run began with, if any
  std::string initial_weights_note_;    // for the run's log, when this attempt read it
  std::set<std::string> given_layers_;  // that have weights of that file
  MeasuredChoices measured_;            // by convolution_algorithm MEASURE
  std::map<std::string, double> resumed_metrics_;
  std::unique_ptr<Network> full_;             // null when the training set is smaller than a batch
  std::unique_ptr<Network> rest_;             // null without a kept incomplete batch
  std::unique_ptr<GradientReducer> reducer_;  // null with one process
  std::optional<Evaluator> evaluator_;
  std::unique_ptr<ProbeSet> probes_;  // null without probes
  std::vector<std::string> series_;

  // Of the run.
  TimePoint start_;
  int64_t steps_done_ = 0;
  int64_t last_checkpoint_step_ = 0;  // of this run, or what it started from
  absl::Duration last_checkpoint_time_;
  bool checkpoint_missed_ = false;  // the last one that was due could not be written
  absl::Duration checkpoint_retry_time_ = -absl::InfiniteDuration();  // not before; monotonic
  bool model_is_finite_ = true;
  std::vector<SeriesValue> record_;  // room for all series
  std::vector<SeriesValue>
      probe_values_;  // of the step that is trained; room for all of the probes'
  std::vector<std::optional<double>> latest_;         // reported last, by series
  std::vector<std::optional<double>> latest_finite_;  // the last finite one
  PassTimes passes_;                                  // forward and backward, of this thread
};

}  // namespace normlab::engine
