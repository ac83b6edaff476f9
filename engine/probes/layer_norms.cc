#include "engine/probes/layer_norms.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "engine/probes/vector_math.h"

namespace normlab::engine {
namespace {

constexpr size_t kOfAll = 4;    // series of the whole network
constexpr size_t kOfLayer = 4;  // of each layer

// An update of weights that are all 0 has no ratio.
double Ratio(double a, double b) {
  return b > 0 ? a / b : std::numeric_limits<double>::quiet_NaN();
}

double SumOfSquares(const std::vector<TensorRange>& ranges, absl::Span<const float> arena) {
  double sum = 0;
  for (const TensorRange& range : ranges) {
    sum += SquaredNorm(range.Of(arena));
  }
  return sum;
}

double Norm(absl::Span<const float> values) {
  return std::sqrt(SquaredNorm(values));
}

}  // namespace

GradientNormsProbe::GradientNormsProbe(ProbeWorkspace& workspace, std::vector<WeightLayer> layers)
    : workspace_(workspace),
      layers_(std::move(layers)),
      weights_(WeightRanges(workspace.graph())),
      series_({"gradient_norm/all", "gradient_norm/weights", "weight_norm/weights",
               "update_ratio/weights"}) {
  for (const WeightLayer& layer : layers_) {
    for (const char* const quantity :
         {"gradient_norm", "output_gradient_norm", "weight_norm", "update_ratio"}) {
      series_.push_back(absl::StrCat("layers/", layer.name, "/", quantity));
    }
  }
}

void GradientNormsProbe::BeforeUpdate(const ProbeStep& step, absl::Span<double> values) {
  workspace_.Reset();
  const Network& network = workspace_.Unfused(/*backward=*/true);
  values[0] = Norm(step.gradients);
  values[1] = std::sqrt(SumOfSquares(weights_, step.gradients));
  values[2] = std::sqrt(SumOfSquares(weights_, step.parameters));
  for (size_t i = 0; i < layers_.size(); ++i) {
    const absl::Span<double> of_layer = values.subspan(kOfAll + kOfLayer * i, kOfLayer);
    const TensorRange& weight = layers_[i].weight;
    of_layer[0] = Norm(weight.Of(step.gradients));
    // A layer that the loss does not depend on gets none.
    if (const auto gradient = network.ReadOutputGradient(layers_[i].name); gradient.ok()) {
      of_layer[1] = Norm(*gradient);
    }
    of_layer[2] = Norm(weight.Of(step.parameters));
  }
}

void GradientNormsProbe::AfterUpdate(const ProbeStep& step, absl::Span<double> values) {
  const absl::Span<const float> before = workspace_.saved_parameters();
  double update = 0;
  for (const TensorRange& range : weights_) {
    update += SquaredDistance(range.Of(step.parameters), range.Of(before));
  }
  values[3] = Ratio(std::sqrt(update), values[2]);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const absl::Span<double> of_layer = values.subspan(kOfAll + kOfLayer * i, kOfLayer);
    const TensorRange& weight = layers_[i].weight;
    of_layer[3] = Ratio(std::sqrt(SquaredDistance(weight.Of(step.parameters), weight.Of(before))),
                        of_layer[2]);
  }
}

ScaleInvarianceProbe::ScaleInvarianceProbe(std::vector<WeightLayer> layers)
    : layers_(std::move(layers)) {
  for (const WeightLayer& layer : layers_) {
    series_.push_back(absl::StrCat("layers/", layer.name, "/gradient_weight_cosine"));
    series_.push_back(absl::StrCat("layers/", layer.name, "/effective_learning_rate"));
  }
}

void ScaleInvarianceProbe::BeforeUpdate(const ProbeStep& step, absl::Span<double> values) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const absl::Span<const float> w = layers_[i].weight.Of(step.parameters);
    const absl::Span<const float> g = layers_[i].weight.Of(step.gradients);
    const double squared = SquaredNorm(w);
    values[2 * i] = Ratio(Dot(w, g), std::sqrt(squared) * Norm(g));
    values[2 * i + 1] = Ratio(step.learning_rate, squared);
  }
}

NormalizerParametersProbe::NormalizerParametersProbe(
    const std::vector<AffineNormalizer>& normalizers) {
  const auto add = [this](const std::string& layer, const char* name, const TensorRange& range) {
    if (range.count == 0) {
      return;
    }
    ranges_.push_back(range);
    for (const char* const quantity : {"mean", "std", "min", "max"}) {
      series_.push_back(absl::StrCat("layers/", layer, "/", name, "_", quantity));
    }
  };
  for (const AffineNormalizer& normalizer : normalizers) {
    add(normalizer.name, "gamma", normalizer.gamma);
    add(normalizer.name, "beta", normalizer.beta);
  }
}

void NormalizerParametersProbe::BeforeUpdate(const ProbeStep& step, absl::Span<double> values) {
  for (size_t i = 0; i < ranges_.size(); ++i) {
    const absl::Span<const float> numbers = ranges_[i].Of(step.parameters);
    const auto count = static_cast<double>(numbers.size());
    double sum = 0;
    for (const float number : numbers) {
      sum += number;
    }
    const double mean = sum / count;
    double squares = 0;
    for (const float number : numbers) {
      squares += (number - mean) * (number - mean);
    }
    const auto [least, greatest] = std::minmax_element(numbers.begin(), numbers.end());
    values[4 * i] = mean;
    values[4 * i + 1] = std::sqrt(squares / count);
    values[4 * i + 2] = *least;
    values[4 * i + 3] = *greatest;
  }
}

}  // namespace normlab::engine
