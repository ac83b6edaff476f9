#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "engine/layers/layer.h"
#include "engine/layers/normalization/channel_normalizer.h"

// What the layers of normalizers share.
namespace normlab::engine {

// The layout in which our channel kernels can take a tensor that lies in `layout`: the same if it is
// float and consists of blocks of channels, else its float twin, else plain.
Layout KernelLayout(const Layout& layout);

// As `ChannelNormalizer` and its relatives want the parameters.
NormalizerTensors TensorsOf(const LayerParameters& parameters);

// INVALID_ARGUMENT naming the layer: a set of one value has no variance. `what`: "group norm".
absl::Status OneValueError(absl::string_view layer, absl::string_view what, absl::string_view set);

// A NaN or an overflow in what was normalized shows in its statistics.
void ReportIfNotFinite(absl::Span<const SetStatistics> statistics, RunState& run);

}  // namespace normlab::engine
