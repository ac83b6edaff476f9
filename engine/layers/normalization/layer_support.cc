#include "engine/layers/normalization/layer_support.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace normlab::engine {

Layout KernelLayout(const Layout& layout) {
  if (layout.channel_blocking().has_value()) {
    return layout.type() == DataType::kF32 ? layout : layout.WithType(DataType::kF32);
  }
  return Layout::RowMajor(layout.dims());
}

NormalizerTensors TensorsOf(const LayerParameters& parameters) {
  return {.gamma = parameters.gamma,
          .beta = parameters.beta,
          .tau = parameters.threshold,
          .d_gamma = parameters.d_gamma,
          .d_beta = parameters.d_beta,
          .d_tau = parameters.d_threshold,
          .running_mean = parameters.running_mean,
          .running_var = parameters.running_var};
}

absl::Status OneValueError(absl::string_view layer, absl::string_view what, absl::string_view set) {
  return absl::InvalidArgumentError(absl::StrCat(
      "layer ", layer, ": ", what, " cannot normalize one value by itself (", set, ")"));
}

void ReportIfNotFinite(absl::Span<const SetStatistics> statistics, RunState& run) {
  for (const SetStatistics& set : statistics) {
    if (!std::isfinite(set.mean) || !std::isfinite(set.magnitude)) {
      run.saw_nan = true;
      return;
    }
  }
}

}  // namespace normlab::engine
