#pragma once

#include <string>
#include <vector>

#include "engine/probes/probe.h"
#include "engine/probes/probe_workspace.h"
#include "engine/probes/weight_parts.h"

namespace normlab::engine {

// Loss range, gradient predictiveness and effective beta-smoothness along the gradient of the step's batch (Santurkar et
// al. 2018, section 3.1): at w - eta d, d the gradient at w, for every eta. Norms are over all trainable parameters and, in a
// second series, over the weights alone (of d too). Costs a forward and backward pass an eta.
class LandscapeProbe final : public Probe {
 public:
  // `factors`: eta, or with `relative` eta over the step's learning rate; positive, not empty. The workspace must have
  // training plans and outlive the probe.
  LandscapeProbe(ProbeWorkspace& workspace, std::vector<double> factors, bool relative);

  const std::vector<std::string>& series() const override { return series_; }
  void BeforeUpdate(const ProbeStep& step, absl::Span<double> values) override;

 private:
  ProbeWorkspace& workspace_;
  const std::vector<double> factors_;
  const bool relative_;
  const WeightParts parts_;
  const std::vector<std::string> series_;
};

}  // namespace normlab::engine
