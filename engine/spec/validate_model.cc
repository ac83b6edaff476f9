#include <algorithm>
#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

// Channels, kernel, stride and padding.
template <typename Message>
void CheckConvolution(const std::string& field, const Message& message, Checker& checker) {
  checker.Range(absl::StrCat(field, ".channels"), message.channels(), 1, kMaxChannels,
                "give the number of output channels");
  if (message.has_kernel()) {
    checker.Range(absl::StrCat(field, ".kernel"), message.kernel(), 1, kMaxKernel,
                  "give the side of the square kernel, usually 3");
  }
  if (message.has_stride()) {
    checker.Range(absl::StrCat(field, ".stride"), message.stride(), 1, kMaxStride,
                  "usually 1 or 2");
  }
  if (message.has_padding()) {
    // More padding than kernel - 1 only adds outputs that see nothing but zeros.
    const int64_t kernel = message.has_kernel() ? message.kernel() : 3;
    if (kernel >= 1 && kernel <= kMaxKernel) {
      checker.Range(absl::StrCat(field, ".padding"), message.padding(), 0, kernel - 1,
                    absl::StrCat("padding must be smaller than the kernel (", kernel, ")"));
    } else if (message.padding() < 0) {
      checker.Range(absl::StrCat(field, ".padding"), message.padding(), 0, kMaxKernel - 1,
                    "give the zeros on each side, or leave it out");
    }
  }
}

constexpr absl::string_view kWidthHint = "give the number of units of this layer";

void ValidateHidden(absl::string_view field,
                    const google::protobuf::RepeatedField<int32_t>& hidden,
                    Checker& checker) {
  if (hidden.size() > kMaxDenseDepth) {
    checker.Fail(field, absl::StrCat("has ", hidden.size(), " layers, but at most ", kMaxDenseDepth,
                                     " are allowed; use fewer"));
  }
  const int checked = static_cast<int>(std::min<int64_t>(hidden.size(), kMaxDenseDepth));
  for (int i = 0; i < checked; ++i) {
    checker.Range(absl::StrCat(field, "[", i, "]"), hidden.Get(i), 1, kMaxDenseWidth, kWidthHint);
  }
}

void ValidateMlp(const v1::Mlp& mlp, Checker& checker) {
  ValidateHidden("model.mlp.hidden", mlp.hidden(), checker);
  if (mlp.has_depth()) {
    checker.Range("model.mlp.depth", mlp.depth(), 0, kMaxDenseDepth,
                  "give the number of hidden layers (0: a linear classifier)");
  }
  if (mlp.has_width()) {
    checker.Range("model.mlp.width", mlp.width(), 1, kMaxDenseWidth, kWidthHint);
  }
  checker.Enum("model.mlp.activation", mlp.activation(), v1::Activation::Kind_descriptor());
  const auto other = std::adjacent_find(mlp.hidden().begin(), mlp.hidden().end(),
                                        [](int32_t a, int32_t b) { return a != b; });
  if (mlp.skip_connections() && other != mlp.hidden().end()) {
    checker.Fail(
        "model.mlp.skip_connections",
        absl::StrCat("is true, but the hidden layers have widths ", *other, " and ", *(other + 1),
                     ", and only equal shapes can be added; give all one width"));
  }
}

void ValidateCnn(const v1::Cnn& cnn, Checker& checker) {
  if (cnn.blocks_size() > kMaxBlocks) {
    checker.Fail("model.cnn.blocks",
                 absl::StrCat("has ", cnn.blocks_size(), " blocks, but at most ", kMaxBlocks,
                              " are allowed; use fewer"));
  }
  const int checked = static_cast<int>(std::min<int64_t>(cnn.blocks_size(), kMaxBlocks));
  for (int i = 0; i < checked; ++i) {
    const std::string field = absl::StrCat("model.cnn.blocks[", i, "]");
    const v1::ConvolutionBlock& block = cnn.blocks(i);
    ValidateConvolution(field, block, checker);
    if (block.has_pooling()) {
      ValidatePooling(absl::StrCat(field, ".pooling"), block.pooling(), checker);
    }
  }
  ValidateHidden("model.cnn.hidden", cnn.hidden(), checker);
  checker.Enum("model.cnn.activation", cnn.activation(), v1::Activation::Kind_descriptor());
}

void ValidateDeepLinear(const v1::DeepLinear& linear, Checker& checker) {
  if (linear.has_depth()) {
    checker.Range("model.deep_linear.depth", linear.depth(), 1, kMaxDenseDepth,
                  "give the number of linear layers; the default is 25");
  }
  if (linear.has_width()) {
    checker.Range("model.deep_linear.width", linear.width(), 1, kMaxDenseWidth,
                  "give the width of the hidden layers; the default is 10");
  }
}

// Depth, width_multiplier and activation.
template <typename Message>
void ValidateFamily(const std::string& field,
                    const Message& message,
                    std::initializer_list<int32_t> depths,
                    Checker& checker) {
  if (message.has_depth() &&
      std::find(depths.begin(), depths.end(), message.depth()) == depths.end()) {
    checker.Fail(
        absl::StrCat(field, ".depth"),
        absl::StrCat("is ", message.depth(), ", but must be one of ", absl::StrJoin(depths, ", "),
                     "; or leave it out for ", *depths.begin() == 11 ? 16 : 20));
  }
  if (message.has_width_multiplier()) {
    checker.Real(absl::StrCat(field, ".width_multiplier"), message.width_multiplier(),
                 {.minimum = 0, .open_minimum = true, .maximum = kMaxWidthMultiplier},
                 "it multiplies every number of channels; the default is 1");
  }
  checker.Enum(absl::StrCat(field, ".activation"), message.activation(),
               v1::Activation::Kind_descriptor());
}

void ValidateResNet(const v1::ResNet& resnet, Checker& checker) {
  ValidateFamily("model.resnet", resnet, {20, 32, 44, 56, 110}, checker);
  checker.Enum("model.resnet.shortcut", resnet.shortcut(), v1::Shortcut::Kind_descriptor());
  if (resnet.zero_init_last_gamma() && resnet.has_skip_connections() &&
      !resnet.skip_connections()) {
    checker.Fail("model.resnet.zero_init_last_gamma",
                 "is true while skip_connections is false: every block would pass on zeros, and no "
                 "gradient; use one of the two");
  }
}

}  // namespace

void ValidatePooling(const std::string& field, const v1::Pooling& pooling, Checker& checker) {
  checker.Enum(absl::StrCat(field, ".kind"), pooling.kind(), v1::Pooling::Kind_descriptor());
  if (pooling.has_window()) {
    checker.Range(absl::StrCat(field, ".window"), pooling.window(), 1, kMaxWindow,
                  "give the side of the square window, usually 2");
  }
  if (pooling.has_stride()) {
    checker.Range(absl::StrCat(field, ".stride"), pooling.stride(), 1, kMaxStride,
                  "leave it out to use the window");
  }
}

void ValidateConvolution(const std::string& field,
                         const v1::ConvolutionBlock& convolution,
                         Checker& checker) {
  CheckConvolution(field, convolution, checker);
}

void ValidateConvolution(const std::string& field,
                         const v1::ConvolutionLayer& convolution,
                         Checker& checker) {
  CheckConvolution(field, convolution, checker);
  if (convolution.has_groups()) {
    checker.Range(absl::StrCat(field, ".groups"), convolution.groups(), 1, kMaxChannels,
                  "give a number that divides both numbers of channels");
  }
}

void ValidateModel(const v1::JobSpec& spec, Checker& checker) {
  const v1::Model& model = spec.model();
  switch (model.kind_case()) {
    case v1::Model::kMlp:
      ValidateMlp(model.mlp(), checker);
      return;
    case v1::Model::kCnn:
      ValidateCnn(model.cnn(), checker);
      return;
    case v1::Model::kDeepLinear:
      ValidateDeepLinear(model.deep_linear(), checker);
      return;
    case v1::Model::kVgg:
      ValidateFamily("model.vgg", model.vgg(), {11, 13, 16, 19}, checker);
      return;
    case v1::Model::kResnet:
      ValidateResNet(model.resnet(), checker);
      return;
    case v1::Model::kCustom:
      ValidateCustomModel(model.custom(), checker);
      return;
    case v1::Model::KIND_NOT_SET:
      break;
  }
  checker.Fail("model", "is missing; name a model, for example {\"mlp\": {}} or {\"cnn\": {}}");
}

}  // namespace normlab::engine
