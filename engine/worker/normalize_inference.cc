#include "engine/worker/normalize_inference.h"

namespace normlab::engine {

ChannelGradients GradientOfGivenStatistics(const NormalizerFormula& formula,
                                           const ChannelShape& shape,
                                           const GivenStatistics& statistics,
                                           absl::Span<const float> x,
                                           absl::Span<const float> d_y) {
  ChannelGradients gradients;
  gradients.d_x.resize(x.size());
  gradients.d_gamma.resize(static_cast<size_t>(shape.channels));
  gradients.d_beta.resize(static_cast<size_t>(shape.channels));
  size_t at = 0;
  for (int64_t n = 0; n < shape.batch; ++n) {
    for (size_t c = 0; c < static_cast<size_t>(shape.channels); ++c) {
      const double magnitude = formula.scale == ScaleKind::kOne
                                   ? 1
                                   : MagnitudeFromRunning(formula.scale, statistics.var[c]);
      const double s = ScaleOf(formula, magnitude);
      const double gamma = statistics.gamma.empty() ? 1 : statistics.gamma[c];
      for (int64_t pixel = 0; pixel < shape.area; ++pixel, ++at) {
        const double g = d_y[at];
        gradients.d_x[at] = static_cast<float>(gamma / s * g);
        gradients.d_gamma[c] += g * (x[at] - statistics.mean[c]) / s;
        gradients.d_beta[c] += g;
      }
    }
  }
  return gradients;
}

}  // namespace normlab::engine
