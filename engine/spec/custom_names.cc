#include "engine/spec/custom_names.h"

#include <map>
#include <set>

#include "absl/strings/str_cat.h"

namespace normlab::engine {
namespace {

const char* KindName(const v1::CustomLayer& layer) {
  switch (layer.kind_case()) {
    case v1::CustomLayer::kLinear:
      return "fc";
    case v1::CustomLayer::kConvolution:
      return "conv";
    case v1::CustomLayer::kNormalizer:
      return "norm";
    case v1::CustomLayer::kActivation:
      return "act";
    case v1::CustomLayer::kPooling:
      return "pool";
    case v1::CustomLayer::kGlobalAveragePooling:
      return "avgpool";
    case v1::CustomLayer::kFlatten:
      return "flatten";
    case v1::CustomLayer::kAdd:
      return "add";
    case v1::CustomLayer::KIND_NOT_SET:
      break;
  }
  return "layer";
}

}  // namespace

std::vector<std::string> CustomLayerNames(const v1::CustomModel& custom) {
  std::set<std::string> taken;
  for (const v1::CustomLayer& layer : custom.layers()) {
    taken.insert(layer.name());
  }
  std::vector<std::string> names;
  std::map<std::string, int> counts;
  for (const v1::CustomLayer& layer : custom.layers()) {
    const char* kind = KindName(layer);
    int& number = counts[kind];
    std::string name = layer.name();
    // A layer with a name of its own has a number too.
    do {
      ++number;
      if (layer.name().empty()) {
        name = absl::StrCat(kind, number);
      }
    } while (layer.name().empty() && taken.count(name) > 0);
    taken.insert(name);
    names.push_back(std::move(name));
  }
  return names;
}

}  // namespace normlab::engine
