#include "client/cli/net_view.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <google/protobuf/descriptor.h>

#include "client/cli/output.h"
#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

using normlab::v1::Activation;
using normlab::v1::DeepLinear;
using normlab::v1::Mlp;
using normlab::v1::Model;
using normlab::v1::Normalizer;
using normlab::v1::Placement;
using normlab::v1::ResNet;
using normlab::v1::Shortcut;

constexpr char kUnknown[] = "-";
constexpr int kDefaultDepth = 3;
constexpr int kDefaultWidth = 100;
constexpr int kDefaultLinearDepth = 25;
constexpr int kDefaultLinearWidth = 10;
constexpr int kDefaultVggDepth = 16;
constexpr int kDefaultResNetDepth = 20;

std::string MlpSizes(const Mlp& mlp) {
  if (mlp.hidden().empty()) {
    const int depth = mlp.has_depth() ? mlp.depth() : kDefaultDepth;
    const int width = mlp.has_width() ? mlp.width() : kDefaultWidth;
    return depth == 0 ? "mlp linear" : absl::StrCat("mlp ", width, "x", depth);
  }
  const int32_t first = mlp.hidden(0);
  const bool all_equal = std::all_of(mlp.hidden().begin(), mlp.hidden().end(),
                                     [first](int32_t width) { return width == first; });
  return all_equal ? absl::StrCat("mlp ", first, "x", mlp.hidden_size())
                   : absl::StrCat("mlp ", absl::StrJoin(mlp.hidden(), "-"));
}

std::string FormatDeepLinear(const DeepLinear& linear) {
  return absl::StrCat("deep linear ", linear.has_width() ? linear.width() : kDefaultLinearWidth,
                      "x", linear.has_depth() ? linear.depth() : kDefaultLinearDepth);
}

// "vgg-16 x0.5"
template <typename Message>
std::string Family(absl::string_view name, const Message& message, int default_depth) {
  std::string text = absl::StrCat(name, "-", message.has_depth() ? message.depth() : default_depth);
  if (message.has_width_multiplier() && message.width_multiplier() != 1) {
    absl::StrAppend(&text, " x", FormatDouble(message.width_multiplier()));
  }
  return text;
}

std::string FormatResNet(const ResNet& resnet) {
  std::string text = Family("resnet", resnet, kDefaultResNetDepth);
  if (resnet.has_skip_connections() && !resnet.skip_connections()) {
    absl::StrAppend(&text, " no skips");
  }
  return text;
}

std::string FormatActivation(Activation::Kind kind) {
  const std::string& name =
      Activation::Kind_Name(kind == Activation::ACTIVATION_UNSPECIFIED ? Activation::RELU : kind);
  return name.empty() ? kUnknown : absl::AsciiStrToLower(name);
}

std::string WithActivation(const Model& model, Activation::Kind kind) {
  return absl::StrCat(FormatNet(model), ", ", FormatActivation(kind));
}

}  // namespace

std::string FormatNet(const Model& model) {
  switch (model.kind_case()) {
    case Model::kMlp:
      return absl::StrCat(MlpSizes(model.mlp()), model.mlp().skip_connections() ? " skips" : "");
    case Model::kCnn:
      return "cnn";
    case Model::kDeepLinear:
      return FormatDeepLinear(model.deep_linear());
    case Model::kVgg:
      return Family("vgg", model.vgg(), kDefaultVggDepth);
    case Model::kResnet:
      return FormatResNet(model.resnet());
    case Model::kCustom:
      return absl::StrCat("custom, ", model.custom().layers_size(), " layers");
    case Model::KIND_NOT_SET:
      break;
  }
  return kUnknown;
}

std::string FormatModel(const Model& model) {
  switch (model.kind_case()) {
    case Model::kMlp:
      return WithActivation(model, model.mlp().activation());
    case Model::kCnn:
      return WithActivation(model, model.cnn().activation());
    case Model::kVgg:
      return WithActivation(model, model.vgg().activation());
    case Model::kResnet:
      return absl::StrCat(
          WithActivation(model, model.resnet().activation()),
          model.resnet().shortcut() == Shortcut::ZERO_PAD ? ", zero-padded shortcuts" : "",
          model.resnet().zero_init_last_gamma() ? ", last gammas from 0" : "");
    case Model::kDeepLinear:
    case Model::kCustom:
    case Model::KIND_NOT_SET:
      break;
  }
  return FormatNet(model);
}

std::string FormatNormalization(const Normalizer& normalization) {
  const google::protobuf::FieldDescriptor* kind =
      normalization.GetReflection()->GetOneofFieldDescriptor(
          normalization, Normalizer::descriptor()->FindOneofByName("kind"));
  std::string text = kind == nullptr ? "none" : kind->name();
  if (normalization.group().has_groups()) {
    absl::StrAppend(&text, " ", normalization.group().groups());
  } else if (normalization.weight_standardization().has_groups()) {
    absl::StrAppend(&text, " ", normalization.weight_standardization().groups());
  } else if (normalization.ghost_batch().has_ghost_size()) {
    absl::StrAppend(&text, " ", normalization.ghost_batch().ghost_size());
  } else if (normalization.weight().mean_only_batch_norm()) {
    absl::StrAppend(&text, " with mean_only_batch");
  } else if (normalization.noisy_batch().has_normalize() &&
             !normalization.noisy_batch().normalize()) {
    absl::StrAppend(&text, " noise only");
  }
  if (normalization.placement() == Placement::AFTER_ACTIVATION) {
    absl::StrAppend(&text, " after activation");
  }
  return text;
}

std::string FormatNormalizations(const v1::JobSpec& spec) {
  std::string text = FormatNormalization(spec.normalization());
  for (const v1::NormalizationOverride& override : spec.normalization_overrides()) {
    absl::StrAppend(&text, "; ", Printable(override.layers()), ": ",
                    FormatNormalization(override.normalization()));
  }
  return text;
}

}  // namespace normlab::client
