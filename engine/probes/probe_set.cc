#include "engine/probes/probe_set.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <utility>

#include "common/status_macros.h"
#include "common/wildcard.h"
#include "engine/graph/weight_layers.h"
#include "engine/probes/activation_statistics.h"
#include "engine/probes/covariate_shift.h"
#include "engine/probes/gradient_noise.h"
#include "engine/probes/landscape.h"
#include "engine/probes/layer_norms.h"
#include "engine/probes/loss_surface.h"
#include "engine/probes/sharpness.h"
#include "engine/spec/run_length.h"

namespace normlab::engine {
namespace {

using Clock = std::chrono::steady_clock;

// Adds the time until it goes out of scope: on the wall and of the thread.
class Stopwatch {
 public:
  Stopwatch(double& wall, double& cpu) : wall_(wall), cpu_(cpu) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    wall_ += std::chrono::duration<double>(Clock::now() - start_).count();
    cpu_ += ThreadCpuSeconds() - cpu_start_;
  }

 private:
  double& wall_;
  double& cpu_;
  const Clock::time_point start_ = Clock::now();
  const double cpu_start_ = ThreadCpuSeconds();
};

// Positions of the layers that a probe's patterns choose; all without patterns.
std::vector<size_t> ChosenLayers(const v1::Probe& probe, const std::vector<WeightLayer>& layers) {
  std::vector<size_t> chosen;
  for (size_t i = 0; i < layers.size(); ++i) {
    const bool matches =
        probe.layers().empty() ||
        std::any_of(probe.layers().begin(), probe.layers().end(), [&](const std::string& pattern) {
          return common::WildcardMatch(pattern, layers[i].name);
        });
    if (matches) {
      chosen.push_back(i);
    }
  }
  return chosen;
}

std::vector<WeightLayer> Choose(const v1::Probe& probe, const std::vector<WeightLayer>& layers) {
  std::vector<WeightLayer> chosen;
  for (const size_t i : ChosenLayers(probe, layers)) {
    chosen.push_back(layers[i]);
  }
  return chosen;
}

// Batches of a fixed set of so many examples; whole ones only.
int BatchesFor(int64_t examples, const v1::JobSpec& resolved, const ProbeWorkspace& workspace) {
  const int64_t wanted = (examples + resolved.batch_size() - 1) / resolved.batch_size();
  return static_cast<int>(std::min<int64_t>(wanted, workspace.fixed_batches()));
}

// Where gradient descent on the whole training set at once becomes unstable (2 / rate, with momentum b (2 + 2b) / rate).
std::optional<double> StabilityNumerator(const v1::JobSpec& resolved, const RunLength& length) {
  const v1::Optimizer& optimizer = resolved.optimizer();
  const v1::Augmentation& augmentation = resolved.data().augmentation();
  const bool deterministic = resolved.batch_size() == length.train_examples &&
                             augmentation.pad_and_crop() == 0 && !augmentation.flip() &&
                             augmentation.cutout() == 0 &&
                             !resolved.normalization().has_noisy_batch();
  const bool plain = optimizer.has_sgd() && !optimizer.sgd().nesterov() &&
                     optimizer.sgd().weight_decay() == 0 &&
                     optimizer.clipping().kind_case() == v1::GradientClipping::KIND_NOT_SET;
  if (!deterministic || !plain) {
    return std::nullopt;
  }
  return 2 + 2 * optimizer.sgd().momentum();
}

ProbeWorkspace::Needs NeedsOf(const v1::JobSpec& resolved, const RunLength& length) {
  ProbeWorkspace::Needs needs;
  needs.last_batch_size = length.last_batch_size;
  for (const v1::Probe& probe : resolved.probes()) {
    switch (probe.kind_case()) {
      case v1::Probe::kLandscape:
      case v1::Probe::kGradientNoise:
      case v1::Probe::kSharpness:
        needs.training = true;
        break;
      case v1::Probe::kCovariateShift:
        needs.training = true;
        needs.saved_parameters = true;
        break;
      case v1::Probe::kGradientNorms:
        needs.unfused = true;
        needs.saved_parameters = true;
        break;
      case v1::Probe::kActivationStatistics:
        needs.unfused = true;
        break;
      case v1::Probe::kLossSurface:
        needs.evaluation = true;
        break;
      case v1::Probe::kScaleInvariance:
      case v1::Probe::kNormalizerParameters:
      case v1::Probe::KIND_NOT_SET:
        break;
    }
  }
  return needs;
}

std::unique_ptr<Probe> MakeProbe(const v1::Probe& probe,
                                 const v1::JobSpec& resolved,
                                 const Graph& graph,
                                 const RunLength& length,
                                 ProbeWorkspace& workspace) {
  const std::vector<WeightLayer> layers = FindWeightLayers(graph);
  switch (probe.kind_case()) {
    case v1::Probe::kActivationStatistics:
      return std::make_unique<ActivationStatisticsProbe>(workspace, Choose(probe, layers),
                                                         resolved.seed());
    case v1::Probe::kGradientNorms:
      return std::make_unique<GradientNormsProbe>(workspace, Choose(probe, layers));
    case v1::Probe::kCovariateShift:
      return std::make_unique<CovariateShiftProbe>(workspace, layers, ChosenLayers(probe, layers));
    case v1::Probe::kLandscape: {
      const v1::Landscape& landscape = probe.landscape();
      const bool relative = landscape.step_sizes().empty();
      const auto& factors = relative ? landscape.learning_rate_multiples() : landscape.step_sizes();
      return std::make_unique<LandscapeProbe>(
          workspace, std::vector<double>(factors.begin(), factors.end()), relative);
    }
    case v1::Probe::kGradientNoise:
      return std::make_unique<GradientNoiseProbe>(
          workspace, probe.gradient_noise().batches(),
          std::min<int64_t>(resolved.batch_size(), length.train_examples), length.train_examples);
    case v1::Probe::kSharpness:
      return std::make_unique<SharpnessProbe>(
          workspace, graph,
          SharpnessOptions{.batches = BatchesFor(probe.sharpness().examples(), resolved, workspace),
                           .iterations = probe.sharpness().iterations(),
                           .stability_numerator = StabilityNumerator(resolved, length),
                           .seed = resolved.seed()});
    case v1::Probe::kScaleInvariance:
      return std::make_unique<ScaleInvarianceProbe>(Choose(probe, layers));
    case v1::Probe::kNormalizerParameters:
      return std::make_unique<NormalizerParametersProbe>(FindAffineNormalizers(graph));
    case v1::Probe::kLossSurface:
    case v1::Probe::KIND_NOT_SET:
      break;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ProbeSet>> ProbeSet::Plan(const v1::JobSpec& resolved,
                                                         const Graph& graph,
                                                         const ModelState& trained,
                                                         const MappedDataset& data,
                                                         MeasuredChoices* measured) {
  const RunLength length = ComputeRunLength(resolved, data.shape());
  const ProbeWorkspace::Needs needs = NeedsOf(resolved, length);
  std::unique_ptr<ProbeSet> set(new ProbeSet());
  NORMLAB_ASSIGN_OR_RETURN(set->workspace_,
                           ProbeWorkspace::Plan(resolved, graph, trained, data, needs, measured));
  for (const v1::Probe& probe : resolved.probes()) {
    Entry entry;
    entry.kind = v1::Probe::descriptor()->FindFieldByNumber(probe.kind_case())->name();
    entry.every = probe.every();
    entry.needs_saved_parameters = probe.has_covariate_shift() || probe.has_gradient_norms();
    if (probe.has_loss_surface()) {
      const v1::LossSurface& surface = probe.loss_surface();
      entry.final = std::make_unique<LossSurfaceProbe>(
          *set->workspace_,
          LossSurfaceOptions{.dimensions = surface.dimensions(),
                             .points = surface.points(),
                             .range = surface.range(),
                             .batches = BatchesFor(surface.examples(), resolved, *set->workspace_),
                             .seed = resolved.seed()});
    } else {
      entry.probe = MakeProbe(probe, resolved, graph, length, *set->workspace_);
    }
    set->Add(std::move(entry));
  }
  return set;
}

void ProbeSet::Add(Entry entry) {
  const std::vector<std::string>& names =
      entry.probe != nullptr ? entry.probe->series() : entry.final->series();
  entry.first = series_.size();
  entry.values.resize(names.size());
  series_.insert(series_.end(), names.begin(), names.end());
  entries_.push_back(std::move(entry));
}

bool ProbeSet::Entry::Due(int64_t step) const {
  return probe != nullptr && step % every == 0;
}

bool ProbeSet::Due(int64_t step) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [step](const Entry& entry) { return entry.Due(step); });
}

void ProbeSet::BeforeForward() {
  workspace_->SaveStatistics();
}

void ProbeSet::BeforeUpdate(const ProbeStep& step, int64_t batch_size, Network& network) {
  workspace_->TakeBatch(step.step, batch_size, network);
  if (std::any_of(entries_.begin(), entries_.end(), [&step](const Entry& entry) {
        return entry.needs_saved_parameters && entry.Due(step.step);
      })) {
    workspace_->SaveParameters();
  }
  for (Entry& entry : entries_) {
    if (!entry.Due(step.step)) {
      continue;
    }
    entry.run_seconds = 0;
    const Stopwatch stopwatch(entry.seconds, entry.run_seconds);
    std::fill(entry.values.begin(), entry.values.end(), std::numeric_limits<double>::quiet_NaN());
    entry.probe->BeforeUpdate(step, absl::MakeSpan(entry.values));
  }
}

void ProbeSet::AfterUpdate(const ProbeStep& step,
                           uint32_t first_series,
                           std::vector<SeriesValue>& record) {
  for (Entry& entry : entries_) {
    if (!entry.Due(step.step)) {
      continue;
    }
    {
      const Stopwatch stopwatch(entry.seconds, entry.run_seconds);
      entry.probe->AfterUpdate(step, absl::MakeSpan(entry.values));
    }
    entry.times.Add(entry.run_seconds);
    ++entry.runs;
    for (size_t i = 0; i < entry.values.size(); ++i) {
      record.push_back({first_series + static_cast<uint32_t>(entry.first + i), entry.values[i]});
    }
  }
}

bool ProbeSet::AtEnd(const ModelState& trained,
                     const std::stop_token& stop,
                     uint32_t first_series,
                     std::vector<SeriesValue>& record) {
  for (Entry& entry : entries_) {
    if (entry.final == nullptr) {
      continue;
    }
    entry.run_seconds = 0;
    {
      const Stopwatch stopwatch(entry.seconds, entry.run_seconds);
      if (!entry.final->AtEnd(trained.parameters.span(), trained.state.span(), stop,
                              absl::MakeSpan(entry.values))) {
        return false;
      }
    }
    entry.times.Add(entry.run_seconds);
    ++entry.runs;
    for (size_t i = 0; i < entry.values.size(); ++i) {
      record.push_back({first_series + static_cast<uint32_t>(entry.first + i), entry.values[i]});
    }
  }
  return true;
}

std::vector<MutableTensor> ProbeSet::state() {
  std::vector<MutableTensor> tensors;
  for (const Entry& entry : entries_) {
    if (entry.probe != nullptr) {
      for (MutableTensor& tensor : entry.probe->state()) {
        tensors.push_back(std::move(tensor));
      }
    }
  }
  return tensors;
}

int64_t ProbeSet::planned_bytes() const {
  return workspace_->planned_bytes();
}

std::vector<v1::ProbeCost> ProbeSet::Costs(double pass_seconds) const {
  std::vector<v1::ProbeCost> costs;
  for (const Entry& entry : entries_) {
    v1::ProbeCost& cost = costs.emplace_back();
    cost.set_probe(entry.kind);
    cost.set_runs(entry.runs);
    cost.set_seconds(entry.seconds);
    if (entry.runs > 0 && pass_seconds > 0) {
      cost.set_passes_per_run(entry.times.Median() / pass_seconds);
    }
  }
  return costs;
}

}  // namespace normlab::engine
