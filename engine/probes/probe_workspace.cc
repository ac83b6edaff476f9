#include "engine/probes/probe_workspace.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/random.h"
#include "common/status_macros.h"
#include "engine/train/network_options.h"

namespace normlab::engine {
namespace {

// Steps of noise that no training run reaches.
constexpr int64_t kFreshSteps = int64_t{1} << 40;

v1::JobSpec WithProbeSeed(v1::JobSpec resolved) {
  resolved.set_seed(common::RandomStream(resolved.seed(), "probes").Bits(0, 0)[0]);
  // Every batch begins an epoch of its own; without shuffling all of them would be equal.
  resolved.mutable_data()->set_shuffle(true);
  return resolved;
}

v1::JobSpec WithoutAugmentation(v1::JobSpec resolved) {
  resolved.mutable_data()->clear_augmentation();
  return resolved;
}

template <typename T>
void Copy(absl::Span<const T> from, absl::Span<T> to) {
  std::copy(from.begin(), from.end(), to.begin());
}

}  // namespace

ProbeWorkspace::ProbeWorkspace(const v1::JobSpec& resolved,
                               const Graph& graph,
                               const ModelState& trained,
                               const MappedDataset& data)
    : graph_(graph),
      trained_(trained),
      fresh_(WithProbeSeed(resolved), data, resolved.threads()),
      fixed_(WithoutAugmentation(WithProbeSeed(resolved)), data, resolved.threads()),
      scratch_(graph.parameter_floats()),
      statistics_(trained.state.span().begin(), trained.state.span().end()) {}

absl::StatusOr<std::unique_ptr<ProbeWorkspace>> ProbeWorkspace::Plan(const v1::JobSpec& resolved,
                                                                     const Graph& graph,
                                                                     const ModelState& trained,
                                                                     const MappedDataset& data,
                                                                     const Needs& needs,
                                                                     MeasuredChoices* measured) {
  std::unique_ptr<ProbeWorkspace> workspace;
  try {
    workspace.reset(new ProbeWorkspace(resolved, graph, trained, data));
    if (needs.saved_parameters) {
      workspace->saved_.resize(static_cast<size_t>(graph.parameter_floats()));
    }
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        "out of memory for the probes' model; give the job more memory, or use fewer probes");
  }
  NORMLAB_ASSIGN_OR_RETURN(workspace->model_, ModelState::Create(graph));
  const auto plan = [&](Mode mode, int64_t batch_size, bool unfused) {
    NetworkOptions options = OptionsOf(resolved, workspace->fresh_.shape(), mode, batch_size);
    options.unfused = unfused;
    options.measured = measured;
    return Network::Plan(graph, *workspace->model_, options);
  };
  std::vector<int64_t> sizes;
  if (workspace->fresh_.length().train_examples >= resolved.batch_size()) {
    sizes.push_back(resolved.batch_size());
  }
  if (needs.last_batch_size > 0) {
    sizes.push_back(needs.last_batch_size);
  }
  for (const int64_t size : sizes) {
    Plans plans = {.batch_size = size, .training = nullptr, .unfused = nullptr};
    if (needs.training) {
      NORMLAB_ASSIGN_OR_RETURN(plans.training, plan(Mode::kTraining, size, /*unfused=*/false));
      plans.training->SetUpdateRunningStatistics(false);
    }
    if (needs.unfused) {
      NORMLAB_ASSIGN_OR_RETURN(plans.unfused, plan(Mode::kTraining, size, /*unfused=*/true));
      plans.unfused->SetUpdateRunningStatistics(false);
    }
    workspace->plans_.push_back(std::move(plans));
  }
  if (needs.evaluation) {
    NORMLAB_ASSIGN_OR_RETURN(workspace->evaluation_,
                             plan(Mode::kEvaluation, sizes.front(), /*unfused=*/false));
  }
  return workspace;
}

int64_t ProbeWorkspace::planned_bytes() const {
  int64_t bytes = evaluation_ != nullptr ? evaluation_->planned_bytes() : 0;
  for (const Plans& plans : plans_) {
    bytes += plans.training != nullptr ? plans.training->planned_bytes() : 0;
    bytes += plans.unfused != nullptr ? plans.unfused->planned_bytes() : 0;
  }
  return bytes;
}

void ProbeWorkspace::TakeBatch(int64_t step, int64_t batch_size, Network& network) {
  step_ = step;
  batch_ = &network;
  current_ = &*std::find_if(plans_.begin(), plans_.end(), [batch_size](const Plans& plans) {
    return plans.batch_size == batch_size;
  });
  current_->holds_batch = false;
}

void ProbeWorkspace::SaveParameters() {
  Copy<float>(trained_.parameters.span(), absl::MakeSpan(saved_));
}

void ProbeWorkspace::SaveStatistics() {
  Copy<float>(trained_.state.span(), absl::MakeSpan(statistics_));
}

void ProbeWorkspace::Reset() {
  Copy<float>(trained_.parameters.span(), model_->parameters.span());
  Copy<float>(statistics_, model_->state.span());
}

void ProbeWorkspace::GiveBatch(Network& network) const {
  Copy<float>(batch_->input(), network.input());
  Copy<int32_t>(batch_->labels(), network.labels());
  Copy<float>(batch_->targets(), network.targets());
  network.SetStep(step_);
}

double ProbeWorkspace::LossAndGradient(Network& network) {
  network.ParametersChanged();
  const double loss = network.Forward().loss;
  if (std::isfinite(loss)) {
    network.Backward();
  }
  return loss;
}

double ProbeWorkspace::LossAndGradientOnBatch() {
  if (!current_->holds_batch) {
    GiveBatch(*current_->training);
    current_->holds_batch = true;
  }
  return LossAndGradient(*current_->training);
}

const Network& ProbeWorkspace::RunUnfused(Network& network, bool backward) {
  network.ParametersChanged();
  const BatchResult result = network.Forward();
  if (backward && std::isfinite(result.loss)) {
    network.Backward();
  }
  return network;
}

const Network& ProbeWorkspace::Unfused(bool backward) {
  GiveBatch(*current_->unfused);
  return RunUnfused(*current_->unfused, backward);
}

double ProbeWorkspace::LossAndGradientOnFreshBatch(uint64_t number) {
  Network& network = *plans_.front().training;
  plans_.front().holds_batch = false;
  // The first batch of an epoch of its own.
  fresh_.LoadTraining(static_cast<int64_t>(number) * fresh_.length().steps_per_epoch,
                      network.input(), network.labels(), network.targets());
  network.SetStep(kFreshSteps + static_cast<int64_t>(number));
  return LossAndGradient(network);
}

int ProbeWorkspace::fixed_batches() const {
  const int64_t whole = fixed_.length().train_examples / plans_.front().batch_size;
  return static_cast<int>(std::max<int64_t>(whole, 1));
}

void ProbeWorkspace::LoadFixed(int number, Network& network) {
  fixed_.LoadTraining(number, network.input(), network.labels(), network.targets());
  network.SetStep(kFreshSteps + number);
}

double ProbeWorkspace::LossAndGradientOnFixedBatch(int number) {
  plans_.front().holds_batch = false;
  LoadFixed(number, *plans_.front().training);
  return LossAndGradient(*plans_.front().training);
}

const Network& ProbeWorkspace::UnfusedOnFixedBatch(int number, int64_t noise_step) {
  LoadFixed(number, *plans_.front().unfused);
  plans_.front().unfused->SetStep(noise_step);
  return RunUnfused(*plans_.front().unfused, /*backward=*/false);
}

double ProbeWorkspace::EvaluationLossOnFixedBatch(int number) {
  LoadFixed(number, *evaluation_);
  evaluation_->ParametersChanged();
  return evaluation_->Forward().loss;
}

}  // namespace normlab::engine
