#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "engine/spec/custom_names.h"
#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

bool IsNameCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.';
}

void CheckName(const std::string& field,
               const std::string& name,
               const std::set<std::string>& earlier,
               Checker& checker) {
  checker.Text(field, name, kMaxTextCharacters);
  if (!std::all_of(name.begin(), name.end(), IsNameCharacter)) {
    checker.Fail(field, absl::StrCat("is ", Quoted(name),
                                     ", but a name has letters, digits, '_' and '.' only; rename "
                                     "the layer"));
  }
  if (name == kInputName || name == kLossName) {
    checker.Fail(field, absl::StrCat("is ", Quoted(name), ", which is the name of the network's ",
                                     name == kInputName ? "input" : "loss", "; rename the layer"));
  }
  if (earlier.count(name) > 0) {
    checker.Fail(field, absl::StrCat("is ", Quoted(name),
                                     ", as an earlier layer's; give every layer its own"));
  }
}

void CheckInputs(const std::string& field,
                 const v1::CustomLayer& layer,
                 const std::set<std::string>& earlier,
                 Checker& checker) {
  const int size = layer.inputs_size();
  if (layer.has_add() ? size < 2 || size > kMaxInputs : size > 1) {
    checker.Fail(
        field, absl::StrCat("has ", size, " names, but ",
                            layer.has_add() ? absl::StrCat("add sums 2 to ", kMaxInputs, " layers")
                                            : "only add has more than one",
                            "; name the layers that it reads"));
    return;
  }
  for (int i = 0; i < size; ++i) {
    if (layer.inputs(i) != kInputName && earlier.count(layer.inputs(i)) == 0) {
      checker.Fail(absl::StrCat(field, "[", i, "]"),
                   absl::StrCat("is ", Quoted(layer.inputs(i)),
                                ", which is no earlier layer; use \"input\" or the name of a layer "
                                "that comes before"));
    }
  }
}

void CheckLayer(const std::string& field, const v1::CustomLayer& layer, Checker& checker) {
  switch (layer.kind_case()) {
    case v1::CustomLayer::kLinear:
      checker.Range(absl::StrCat(field, ".linear.outputs"), layer.linear().outputs(), 1,
                    kMaxDenseWidth, "give the number of units");
      return;
    case v1::CustomLayer::kConvolution:
      ValidateConvolution(absl::StrCat(field, ".convolution"), layer.convolution(), checker);
      return;
    case v1::CustomLayer::kActivation:
      checker.Enum(absl::StrCat(field, ".activation.kind"), layer.activation().kind(),
                   v1::Activation::Kind_descriptor());
      return;
    case v1::CustomLayer::kPooling:
      ValidatePooling(absl::StrCat(field, ".pooling"), layer.pooling(), checker);
      return;
    case v1::CustomLayer::kNormalizer:
    case v1::CustomLayer::kGlobalAveragePooling:
    case v1::CustomLayer::kFlatten:
    case v1::CustomLayer::kAdd:
      return;
    case v1::CustomLayer::KIND_NOT_SET:
      break;
  }
  checker.Fail(field, "has no kind; name one, for example {\"linear\": {\"outputs\": 10}}");
}

}  // namespace

void ValidateCustomModel(const v1::CustomModel& custom, Checker& checker) {
  const int size = custom.layers_size();
  if (size < 1 || size > kMaxCustomLayers) {
    checker.Fail("model.custom.layers",
                 absl::StrCat("has ", size, " layers, but must have 1 to ", kMaxCustomLayers,
                              "; the last one gives a number per class or target"));
  }
  const std::vector<std::string> names = CustomLayerNames(custom);
  std::set<std::string> earlier;
  const int checked = static_cast<int>(std::min<int64_t>(size, kMaxCustomLayers));
  for (int i = 0; i < checked; ++i) {
    const std::string field = absl::StrCat("model.custom.layers[", i, "]");
    const v1::CustomLayer& layer = custom.layers(i);
    const std::string& name = names[static_cast<size_t>(i)];
    CheckName(absl::StrCat(field, ".name"), name, earlier, checker);
    CheckInputs(absl::StrCat(field, ".inputs"), layer, earlier, checker);
    CheckLayer(field, layer, checker);
    earlier.insert(name);
  }
}

}  // namespace normlab::engine
