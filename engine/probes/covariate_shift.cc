#include "engine/probes/covariate_shift.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "engine/probes/vector_math.h"

namespace normlab::engine {
namespace {

int64_t FirstOffset(const WeightLayer& layer) {
  int64_t first = layer.weight.offset;
  for (const TensorRange& range : layer.parameters) {
    first = std::min(first, range.offset);
  }
  return first;
}

}  // namespace

CovariateShiftProbe::CovariateShiftProbe(ProbeWorkspace& workspace,
                                         std::vector<WeightLayer> layers,
                                         std::vector<size_t> chosen)
    : workspace_(workspace), layers_(std::move(layers)), chosen_(std::move(chosen)) {
  for (const size_t i : chosen_) {
    for (const char* const quantity :
         {"covariate_shift", "covariate_shift_cosine", "covariate_shift_relative"}) {
      series_.push_back(absl::StrCat("layers/", layers_[i].name, "/", quantity));
    }
  }
}

void CovariateShiftProbe::AfterUpdate(const ProbeStep& step, absl::Span<double> values) {
  workspace_.Reset();
  const absl::Span<float> parameters = workspace_.parameters();
  const absl::Span<const float> before = workspace_.saved_parameters();
  std::copy(before.begin(), before.end(), parameters.begin());
  for (size_t n = 0; n < chosen_.size(); ++n) {
    // Arenas are in the order of the network: what lies before the layer is what comes before it.
    const auto first = static_cast<std::ptrdiff_t>(FirstOffset(layers_[chosen_[n]]));
    std::copy(step.parameters.begin(), step.parameters.begin() + first, parameters.begin());
    const TensorRange& weight = layers_[chosen_[n]].weight;
    const absl::Span<const float> g = weight.Of(step.gradients);
    double distance = 0;
    double cosine = 1;
    const double norm = std::sqrt(SquaredNorm(g));
    if (chosen_[n] > 0) {
      if (std::isfinite(workspace_.LossAndGradientOnBatch())) {
        const absl::Span<const float> moved = weight.Of(workspace_.gradients());
        distance = std::sqrt(SquaredDistance(g, moved));
        const double norms = norm * std::sqrt(SquaredNorm(moved));
        cosine = norms > 0 ? Dot(g, moved) / norms : std::numeric_limits<double>::quiet_NaN();
      } else {
        distance = std::numeric_limits<double>::infinity();
        cosine = std::numeric_limits<double>::quiet_NaN();
      }
    }
    values[3 * n] = distance;
    values[3 * n + 1] = cosine;
    values[3 * n + 2] = distance == 0 ? 0 : distance / norm;
  }
}

}  // namespace normlab::engine
