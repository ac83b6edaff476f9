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

// A series is called layers/<name>/<quantity>, in at most 200 bytes.
constexpr size_t kLongestLayerName = 150;

void CheckExamples(const std::string& field,
                   const v1::Probe& probe,
                   int64_t train_examples,
                   std::vector<Violation>& violations) {
  const bool sharpness = probe.has_sharpness();
  // The surface's default is what there is, up to 1,024.
  const int64_t examples =
      sharpness ? probe.sharpness().examples() : probe.loss_surface().examples();
  const int64_t allowed = sharpness ? train_examples : std::max<int64_t>(train_examples, 1024);
  if (examples > allowed) {
    violations.push_back(
        {absl::StrCat(field, sharpness ? ".sharpness" : ".loss_surface", ".examples"),
         absl::StrCat("is ", examples, ", but the training set has ", train_examples,
                      "; use at most so many")});
  }
}

}  // namespace

std::vector<Violation> CheckProbes(const v1::JobSpec& resolved,
                                   const Graph& graph,
                                   int64_t train_examples) {
  std::vector<Violation> violations;
  if (resolved.probes().empty()) {
    return violations;
  }
  std::vector<std::string> names;
  for (const WeightLayer& layer : FindWeightLayers(graph)) {
    names.push_back(layer.name);
    if (layer.name.size() > kLongestLayerName) {
      violations.push_back(
          {"probes", absl::StrCat("look at layers, but the name of layer ", layer.name,
                                  " is too long for a series; use at most ", kLongestLayerName,
                                  " characters")});
      return violations;
    }
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
    CheckExamples(absl::StrCat("probes[", i, "]"), probe,
                  std::max<int64_t>(train_examples, resolved.batch_size()), violations);
    if (probe.has_sharpness() && resolved.precision() == v1::Precision::BF16) {
      violations.push_back(
          {absl::StrCat("probes[", i, "].sharpness"),
           "differences gradients at weights that bfloat16 cannot tell apart; use precision F32"});
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
