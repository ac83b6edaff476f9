#pragma once

#include <string>
#include <vector>

#include "engine/graph/weight_layers.h"
#include "engine/probes/probe.h"
#include "engine/probes/probe_workspace.h"

namespace normlab::engine {

// Internal covariate shift, Def. 2.1 of Santurkar et al. 2018: with G the gradient of layer i's weights at step t, and G'
// the same on the same batch after everything before the layer (in the order of the network) took its values of step t + 1: |G - G'|, their cosine, and
// |G - G'| / |G|. The update is the optimizer's real one. Layer 1 has 0 and 1 by definition. Costs a forward and backward
// pass a layer that is looked at.
class CovariateShiftProbe final : public Probe {
 public:
  // `layers`: all of the network in order; `chosen`: indices of those to look at, ascending. The workspace must save
  // parameters, have training plans, and outlive the probe.
  CovariateShiftProbe(ProbeWorkspace& workspace,
                      std::vector<WeightLayer> layers,
                      std::vector<size_t> chosen);

  const std::vector<std::string>& series() const override { return series_; }
  void BeforeUpdate(const ProbeStep& /*step*/, absl::Span<double> /*values*/) override {}
  void AfterUpdate(const ProbeStep& step, absl::Span<double> values) override;

 private:
  ProbeWorkspace& workspace_;
  const std::vector<WeightLayer> layers_;
  const std::vector<size_t> chosen_;
  std::vector<std::string> series_;
};

}  // namespace normlab::engine
