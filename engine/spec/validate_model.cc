#include <algorithm>

#include "absl/strings/str_cat.h"

#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

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
}

void ValidateBlock(const std::string& field, const v1::ConvolutionBlock& block, Checker& checker) {
  checker.Range(absl::StrCat(field, ".channels"), block.channels(), 1, kMaxChannels,
                "give the number of output channels");
  if (block.has_kernel()) {
    checker.Range(absl::StrCat(field, ".kernel"), block.kernel(), 1, kMaxKernel,
                  "give the side of the square kernel, usually 3");
  }
  if (block.has_stride()) {
    checker.Range(absl::StrCat(field, ".stride"), block.stride(), 1, kMaxStride, "usually 1 or 2");
  }
  if (block.has_padding()) {
    // More padding than kernel - 1 only adds outputs that see nothing but zeros.
    const int64_t kernel = block.has_kernel() ? block.kernel() : 3;
    if (kernel >= 1 && kernel <= kMaxKernel) {
      checker.Range(absl::StrCat(field, ".padding"), block.padding(), 0, kernel - 1,
                    absl::StrCat("padding must be smaller than the kernel (", kernel, ")"));
    } else if (block.padding() < 0) {
      checker.Range(absl::StrCat(field, ".padding"), block.padding(), 0, kMaxKernel - 1,
                    "give the zeros on each side, or leave it out");
    }
  }
  if (block.has_pooling()) {
    const v1::Pooling& pooling = block.pooling();
    checker.Enum(absl::StrCat(field, ".pooling.kind"), pooling.kind(),
                 v1::Pooling::Kind_descriptor());
    if (pooling.has_window()) {
      checker.Range(absl::StrCat(field, ".pooling.window"), pooling.window(), 1, kMaxWindow,
                    "give the side of the square window, usually 2");
    }
    if (pooling.has_stride()) {
      checker.Range(absl::StrCat(field, ".pooling.stride"), pooling.stride(), 1, kMaxStride,
                    "leave it out to use the window");
    }
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
    ValidateBlock(absl::StrCat("model.cnn.blocks[", i, "]"), cnn.blocks(i), checker);
  }
  ValidateHidden("model.cnn.hidden", cnn.hidden(), checker);
  checker.Enum("model.cnn.activation", cnn.activation(), v1::Activation::Kind_descriptor());
}

}  // namespace

void ValidateModel(const v1::JobSpec& spec, Checker& checker) {
  switch (spec.model().kind_case()) {
    case v1::Model::kMlp:
      ValidateMlp(spec.model().mlp(), checker);
      return;
    case v1::Model::kCnn:
      ValidateCnn(spec.model().cnn(), checker);
      return;
    default:
      break;
  }
  checker.Fail("model", "is missing; name a model, for example {\"mlp\": {}} or {\"cnn\": {}}");
}

}  // namespace normlab::engine
