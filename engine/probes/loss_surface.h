#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/probes/probe.h"
#include "engine/probes/probe_workspace.h"
#include "engine/tensor/arena.h"

namespace normlab::engine {

struct LossSurfaceOptions {
  int dimensions = 2;
  int points = 11;  // odd
  double range = 1;
  int batches = 1;
  uint32_t seed = 0;
};

// Loss around the final weights along one or two random directions, each filter of a direction (row of a linear layer)
// scaled to the norm of the weights' filter, 0 for gammas, betas and biases (Li et al. 2018), in evaluation mode on fixed
// training examples. The second direction is not made orthogonal to the first, as there. Costs a forward pass a point and
// batch.
class LossSurfaceProbe final : public FinalProbe {
 public:
  // The workspace must have an evaluation plan and outlive the probe.
  LossSurfaceProbe(ProbeWorkspace& workspace, const LossSurfaceOptions& options);

  const std::vector<std::string>& series() const override { return series_; }
  bool AtEnd(absl::Span<const float> parameters,
             absl::Span<const float> statistics,
             const std::stop_token& stop,
             absl::Span<double> values) override;

 private:
  // A direction for these weights; `number` tells directions apart.
  Arena Direction(int number, absl::Span<const float> parameters) const;
  double Coordinate(int index) const;

  ProbeWorkspace& workspace_;
  const LossSurfaceOptions options_;
  std::vector<std::string> series_;
};

}  // namespace normlab::engine
