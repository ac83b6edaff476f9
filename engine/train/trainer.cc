#include "engine/train/trainer.h"

#include <algorithm>
#include <new>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/series_name.h"
#include "common/status_macros.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/initial_weights.h"
#include "engine/init/initializer.h"
#include "engine/models/job_check.h"
#include "engine/models/parallel_check.h"
#include "engine/spec/load_plan.h"
#include "engine/spec/ranks.h"
#include "engine/train/failure.h"
#include "engine/train/model_tensors.h"
#include "engine/train/network_options.h"

namespace normlab::engine {
namespace {

// "layer1.0.conv1" of "layer1.0.conv1.weight".
std::string LayerOf(const std::string& tensor) {
  return tensor.substr(0, tensor.rfind('.'));
}

absl::Duration CheckpointInterval(const v1::CheckpointPolicy& policy) {
  const google::protobuf::Duration& time = policy.every_time();
  const absl::Duration interval = absl::Seconds(time.seconds()) + absl::Nanoseconds(time.nanos());
  return interval > absl::ZeroDuration() ? interval : absl::InfiniteDuration();
}

// Going on with other data would be neither the old run nor a new one. Checkpoints of before there was
// a digest are trusted.
absl::Status CheckSameData(const v1::Data& now,
                           const MappedDataset& data,
                           const std::string& checkpoint) {
  const std::string before = ReadDataSha256(checkpoint);
  if (before.empty() || before == data.sha256()) {
    return absl::OkStatus();
  }
  const google::protobuf::FieldDescriptor* source =
      v1::Data::descriptor()->FindFieldByNumber(now.source_case());
  const std::string set =
      source == nullptr
          ? "data"
          : absl::StrCat("data.", source->name(), " {",
                         now.GetReflection()->GetMessage(now, source).ShortDebugString(), "}");
  return absl::FailedPreconditionError(absl::StrCat(
      "the data set changed since the checkpoint that this run was to go on from: ", set,
      " had SHA-256 ", before, " and has ", data.sha256(), " now (", data.shape().train_examples,
      " training and ", data.shape().test_examples,
      " test examples). Submit the job again to train on the new data from the beginning, or bring "
      "the earlier files back first; leave them as they are while jobs that use them are paused or "
      "wait"));
}

}  // namespace

Trainer::Trainer(v1::JobSpec resolved,
                 const MappedDataset& data,
                 TrainerOptions options,
                 Graph graph)
    : resolved_(std::move(resolved)),
      options_(std::move(options)),
      spec_sha256_(TrainingSpecSha256(resolved_, HasBatchStatistics(graph))),
      data_sha256_(data.sha256()),
      checkpoint_interval_(CheckpointInterval(resolved_.checkpoint())),
      graph_(std::move(graph)),
      team_(options_.communicator, graph_.state_floats()),
      group_(StatisticsGroupOf(resolved_) > 1 && options_.communicator != nullptr
                 ? options_.communicator->Split(StatisticsGroupOf(resolved_))
                 : nullptr),
      source_(resolved_,
              data,
              PlanLoading(resolved_, data.shape()).prefetch_thread,
              team_.rank(),
              team_.size()),
      // In the order of the enum Series.
      series_({"train/loss", "train/accuracy", "train/learning_rate", "test/loss", "test/accuracy",
               "test/loss_reestimated", "test/accuracy_reestimated"}) {}

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Plan(v1::JobSpec resolved,
                                                       const MappedDataset& data,
                                                       TrainerOptions options) {
  if (!options.resume_folder.empty()) {
    // First: whatever else does not fit follows from it. Ranks may read different disks.
    NORMLAB_RETURN_IF_ERROR(
        RankTeam(options.communicator, /*state_floats=*/0)
            .AgreeOn(WithReason(CheckSameData(resolved.data(), data, options.resume_folder),
                                v1::FailureReason::DATA_ERROR)));
  }
  JobCheck check = CheckJob(resolved, data.shape());
  NORMLAB_RETURN_IF_ERROR(ViolationsToStatus(check.violations));
  const int ranks = options.communicator == nullptr ? 1 : options.communicator->size();
  if (ranks != RanksOf(resolved)) {
    return absl::InternalError(
        absl::StrCat("data_parallel.ranks is ", RanksOf(resolved), ", but the run was started as ",
                     ranks, " process(es); start the worker with as many processes as ranks"));
  }
  std::unique_ptr<Trainer> trainer(
      new Trainer(std::move(resolved), data, std::move(options), *std::move(check.graph)));
  absl::Status planned;
  try {
    planned = trainer->PlanOwn(data);
  } catch (const std::bad_alloc&) {
    if (trainer->team_.alone()) {
      throw;
    }
    // The others wait for a word.
    planned = absl::ResourceExhaustedError("out of memory while planning the run");
  }
  NORMLAB_RETURN_IF_ERROR(trainer->team_.AgreeOn(planned));
  if (!trainer->team_.alone()) {
    trainer->reducer_ = std::make_unique<GradientReducer>(
        *trainer->options_.communicator, trainer->model_->gradients.span(),
        GradientReducer::kBucketFloats, trainer->options_.overlap);
    for (Network* network : {trainer->full_.get(), trainer->rest_.get()}) {
      if (network != nullptr) {
        network->SetGradientListener(trainer->reducer_.get());
      }
    }
  }
  return trainer;
}

absl::Status Trainer::PlanOwn(const MappedDataset& data) {
  if (!options_.resume_folder.empty()) {
    measured_ = ReadMeasuredChoices(options_.resume_folder);
  }
  NORMLAB_RETURN_IF_ERROR(PlanNetworks());
  NORMLAB_RETURN_IF_ERROR(PlanProbes(data));
  if (!options_.resume_folder.empty()) {
    return WithReason(Resume(), v1::FailureReason::CHECKPOINT_ERROR);
  }
  if (resolved_.has_initial_weights()) {
    return WithReason(TakeInitialWeights(), v1::FailureReason::CHECKPOINT_ERROR);
  }
  return absl::OkStatus();
}

void Trainer::ShareWithRanks(int64_t batch, NetworkOptions& options) const {
  options.batch_size = ShareOf(batch, team_.rank(), team_.size()).count;
  options.loss_batch = batch;
  options.statistics = group_.get();
}

absl::Status Trainer::PlanNetworks() {
  NORMLAB_ASSIGN_OR_RETURN(model_, ModelState::Create(graph_));
  InitializeParameters(resolved_, graph_, model_->parameters.span());
  NORMLAB_ASSIGN_OR_RETURN(optimizer_, MakeOptimizer(resolved_, graph_));
  const RunLength& length = source_.length();
  const auto options = [this](Mode mode, int64_t batch_size) {
    NetworkOptions wanted = OptionsOf(resolved_, source_.source().shape(), mode, batch_size);
    wanted.measured = &measured_;
    if (mode == Mode::kTraining) {
      ShareWithRanks(batch_size, wanted);
    }
    return wanted;
  };
  if (length.train_examples >= resolved_.batch_size()) {
    NORMLAB_ASSIGN_OR_RETURN(
        full_, Network::Plan(graph_, *model_, options(Mode::kTraining, resolved_.batch_size())));
  }
  if (length.last_batch_size > 0) {
    NORMLAB_ASSIGN_OR_RETURN(
        rest_, Network::Plan(graph_, *model_, options(Mode::kTraining, length.last_batch_size)));
  }
  NORMLAB_ASSIGN_OR_RETURN(
      evaluator_, Evaluator::Plan(graph_, *model_, source_.source(),
                                  options(Mode::kEvaluation, resolved_.evaluation().batch_size())));
  plan_.set_total_steps(length.total_steps);
  plan_.set_total_epochs(static_cast<int32_t>(length.total_epochs));
  return absl::OkStatus();
}

absl::Status Trainer::PlanProbes(const MappedDataset& data) {
  if (!resolved_.probes().empty()) {
    NORMLAB_ASSIGN_OR_RETURN(probes_, ProbeSet::Plan(resolved_, graph_, *model_, data, &measured_));
    series_.insert(series_.end(), probes_->series().begin(), probes_->series().end());
    probe_values_.reserve(probes_->series().size());
  }
  record_.reserve(series_.size());
  latest_.resize(series_.size());
  latest_finite_.resize(series_.size());
  return absl::OkStatus();
}

std::vector<MutableTensor> Trainer::TrainingStateTensors() {
  std::vector<MutableTensor> tensors = OptimizerTensors(graph_, *optimizer_);
  if (probes_ != nullptr) {
    for (MutableTensor& tensor : probes_->state()) {
      tensors.push_back(std::move(tensor));
    }
  }
  return tensors;
}

absl::Status Trainer::Resume() {
  absl::StatusOr<LoadedCheckpoint> read = LoadCheckpoint(
      options_.resume_folder, spec_sha256_, resolved_.seed(), ModelTensors(graph_, *model_),
      TrainingStateTensors(), OptimizerCounters(*optimizer_));
  if (absl::IsFailedPrecondition(read.status()) && HasBatchStatistics(graph_)) {
    return absl::FailedPreconditionError(absl::StrCat(
        read.status().message(),
        " (with batch statistics of parts of a batch, another data_parallel is another run: only "
        "statistics_group = ranks goes on with other ranks)"));
  }
  NORMLAB_ASSIGN_OR_RETURN(const LoadedCheckpoint loaded, std::move(read));
  const int64_t step = loaded.step;
  if (step > plan_.total_steps()) {
    return absl::DataLossError(absl::StrCat("checkpoint ", options_.resume_folder, " is of step ",
                                            step, ", beyond the last step ", plan_.total_steps(),
                                            "; use another checkpoint"));
  }
  plan_.set_start_step(step);
  initial_weights_sha256_ = loaded.initial_weights_sha256;
  resumed_metrics_ = loaded.latest_metrics;
  for (size_t i = 0; i < series().size(); ++i) {
    if (const auto found = resumed_metrics_.find(series()[i]); found != resumed_metrics_.end()) {
      latest_[i] = latest_finite_[i] = found->second;
    }
  }
  return absl::OkStatus();
}

absl::Status Trainer::TakeInitialWeights() {
  const v1::InitialWeights& weights = resolved_.initial_weights();
  NORMLAB_ASSIGN_OR_RETURN(
      const InitialWeightsSummary summary,
      ReadInitialWeights({.path = weights.path(),
                          .ignore = {weights.ignore().begin(), weights.ignore().end()},
                          .data_roots = options_.data_roots},
                         WeightTargets(graph_, *model_)));
  FitGains(summary.kept);
  initial_weights_sha256_ = summary.sha256;
  initial_weights_note_ = absl::StrCat(
      "the run begins with ", summary.read, " tensors of ", summary.path, " (SHA-256 ",
      summary.sha256, ")",
      summary.kept.empty() ? ""
                           : absl::StrCat("; initialized: ", absl::StrJoin(summary.kept, ", ")));
  return absl::OkStatus();
}

void Trainer::FitGains(const std::vector<std::string>& kept) {
  const std::set<std::string> initialized(kept.begin(), kept.end());
  const std::vector<ParameterSpec>& specs = graph_.parameters();
  std::set<std::string> given_weights;  // by their layers
  for (const ParameterSpec& spec : specs) {
    if (!initialized.contains(spec.name)) {
      given_layers_.insert(LayerOf(spec.name));
      if (spec.role == ParameterRole::kWeight) {
        given_weights.insert(LayerOf(spec.name));
      }
    }
  }
  for (const ParameterSpec& spec : specs) {
    if (spec.role == ParameterRole::kGain && initialized.contains(spec.name) &&
        given_weights.contains(LayerOf(spec.name))) {
      SetGainToNorms(specs, spec, model_->parameters.span());
    }
  }
}

CheckpointContents Trainer::Contents(int64_t step) {
  std::map<std::string, double> latest;
  for (size_t i = 0; i < series().size(); ++i) {
    if (latest_finite_[i].has_value() && !common::IsDetailSeries(series()[i])) {
      latest[series()[i]] = *latest_finite_[i];
    }
  }
  return {.step = step,
          .seed = resolved_.seed(),
          .spec_sha256 = spec_sha256_,
          .model = AsConst(ModelTensors(graph_, *model_)),
          .optimizer = AsConst(TrainingStateTensors()),
          .optimizer_counters = AsConst(OptimizerCounters(*optimizer_)),
          .data_sha256 = data_sha256_,
          .initial_weights_sha256 = initial_weights_sha256_,
          .measured_choices = measured_,
          .latest_metrics = std::move(latest)};
}

int64_t Trainer::planned_bytes() const {
  int64_t bytes = evaluator_->planned_bytes() + (probes_ != nullptr ? probes_->planned_bytes() : 0);
  for (const Network* network : {full_.get(), rest_.get()}) {
    bytes += network != nullptr ? network->planned_bytes() : 0;
  }
  return bytes;
}

const std::vector<ImplementationChoice>& Trainer::implementations() const {
  return (full_ != nullptr ? full_ : rest_)->implementations();
}

}  // namespace normlab::engine
