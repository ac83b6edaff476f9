#include "engine/models/probe_check.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/wildcard.h"
#include "engine/graph/weight_layers.h"

namespace normlab::engine {
namespace {

// "fc1, fc2, fc3 and 9 more".
std::string Listed(const std::vector<std::string>& names) {
  constexpr size_t kShown = 12;
  const size_t shown = std::min(names.size(), kShown);
  return absl::StrCat(
      absl::StrJoin(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
      names.size() > shown ? absl::StrCat(" and ", names.size() - shown, " more") : "");
}

}  // namespace

std::vector<Violation> CheckProbes(const v1::JobSpec& resolved, const Graph& graph) {
  std::vector<Violation> violations;
  std::vector<std::string> names;
  for (const WeightLayer& layer : FindWeightLayers(graph)) {
    names.push_back(layer.name);
  }
  for (int i = 0; i < resolved.probes_size(); ++i) {
    const v1::Probe& probe = resolved.probes(i);
    for (int n = 0; n < probe.layers_size(); ++n) {
      const std::string& pattern = probe.layers(n);
      const bool matches = std::any_of(names.begin(), names.end(), [&pattern](const auto& name) {
        return common::WildcardMatch(pattern, name);
      });
      if (!matches) {
        violations.push_back(
            {absl::StrCat("probes[", i, "].layers[", n, "]"),
             absl::StrCat("is ", Quoted(pattern), ", which matches none of the weight layers (",
                          Listed(names), "); correct it, or remove it")});
      }
    }
    if (probe.has_normalizer_parameters() && FindAffineNormalizers(graph).empty()) {
      violations.push_back({absl::StrCat("probes[", i, "].normalizer_parameters"),
                            "has nothing to look at: no normalizer of the network has a gamma or a "
                            "beta; remove the probe, or choose another normalization"});
    }
  }
  return violations;
}

}  // namespace normlab::engine
