#pragma once

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace normlab::common {

// A series of one layer or of one point of a surface, of which a job may have thousands: left out of summaries (final and
// latest metrics); ReadMetrics has them.
inline bool IsDetailSeries(absl::string_view series) {
  return absl::StartsWith(series, "layers/") || absl::StartsWith(series, "loss_surface/");
}

}  // namespace normlab::common
