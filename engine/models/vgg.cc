#include <array>

#include "absl/strings/str_cat.h"

#include "engine/models/families.h"

namespace normlab::engine {
namespace {

constexpr int64_t kImageSize = 32;
constexpr std::array<int64_t, 5> kChannels = {64, 128, 256, 512, 512};

// Convolutions of the five groups: table 1 of the paper, columns A, B, D and E.
std::array<int, 5> GroupSizes(int32_t depth) {
  switch (depth) {
    case 11:
      return {1, 1, 2, 2, 2};
    case 13:
      return {2, 2, 2, 2, 2};
    case 19:
      return {2, 2, 4, 4, 4};
    default:  // 16; a valid spec has no other
      return {2, 2, 3, 3, 3};
  }
}

}  // namespace

void BuildVgg(const v1::Vgg& model, NetworkBuilder& builder) {
  if (!builder.RequireImages("vgg")) {
    return;
  }
  const std::string field = "model.vgg";
  const ActivationKind activation = ToActivationKind(model.activation());
  int index = 0;
  const auto next_name = [&index](absl::string_view /*kind*/) {
    return absl::StrCat("features.", index++);
  };
  builder.PadImages(kImageSize);
  const std::array<int, 5> sizes = GroupSizes(model.depth());
  for (size_t group = 0; group < sizes.size(); ++group) {
    const int64_t channels = ScaledChannels(kChannels[group], model.width_multiplier());
    for (int i = 0; i < sizes[group]; ++i) {
      const std::string name = next_name("conv");
      const NormalizerChoice choice = builder.Choose(name);
      builder.AddConvolution(field, name, {.out_channels = channels}, choice, activation);
      builder.AddNormalizerAndActivation(choice, activation, next_name);
    }
    builder.Add(field, next_name("pool"), PoolNode{PoolKind::kMax, 2, 2});
  }
  builder.Flatten(field);
  builder.Add(field, "classifier", LinearNode{.out = builder.outputs(), .bias = true});
}

}  // namespace normlab::engine
