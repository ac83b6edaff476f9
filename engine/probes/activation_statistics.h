#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/graph/weight_layers.h"
#include "engine/probes/feature_statistics.h"
#include "engine/probes/probe.h"
#include "engine/probes/probe_workspace.h"

namespace normlab::engine {

// What comes out of layers, normalizers and activations on the step's batch in training mode (moments, ranks, dead
// channels), and how far the update moves the nonlinearities' inputs on a fixed batch. Costs three forward passes of the
// unfused network.
class ActivationStatisticsProbe final : public Probe {
 public:
  // The workspace must have unfused plans and outlive the probe.
  ActivationStatisticsProbe(ProbeWorkspace& workspace,
                            std::vector<WeightLayer> layers,
                            uint32_t seed);

  const std::vector<std::string>& series() const override { return series_; }
  void BeforeUpdate(const ProbeStep& step, absl::Span<double> values) override;
  void AfterUpdate(const ProbeStep& step, absl::Span<double> values) override;

 private:
  enum class Quantity { kPre, kPost, kDead, kShift };
  struct Item {
    Quantity quantity;
    std::string node;  // whose output is looked at
    size_t first = 0;  // of its series
    std::vector<Moments> before_update;
  };

  void AddItem(const WeightLayer& layer, Quantity quantity, const std::string& node);
  // Calls take(features) with a node's output.
  template <typename Take>
  void WithOutput(const Network& network, const std::string& node, const Take& take) const;

  ProbeWorkspace& workspace_;
  const uint32_t seed_;
  std::vector<Item> items_;
  std::vector<std::string> series_;
};

}  // namespace normlab::engine
