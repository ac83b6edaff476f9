#include "client/cli/spec_view.h"

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
using normlab::v1::Augmentation;
using normlab::v1::Data;
using normlab::v1::Mlp;
using normlab::v1::Model;
using normlab::v1::Normalizer;
using normlab::v1::Optimizer;
using normlab::v1::Sgd;

constexpr char kUnknown[] = "-";
constexpr int kDefaultDepth = 3;
constexpr int kDefaultWidth = 100;
constexpr double kDefaultLearningRate = 0.1;

std::string FormatMlp(const Mlp& mlp) {
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

std::string FormatActivation(Activation::Kind kind) {
  const std::string& name =
      Activation::Kind_Name(kind == Activation::ACTIVATION_UNSPECIFIED ? Activation::RELU : kind);
  return name.empty() ? kUnknown : absl::AsciiStrToLower(name);
}

}  // namespace

std::string FormatNet(const Model& model) {
  switch (model.kind_case()) {
    case Model::kMlp:
      return FormatMlp(model.mlp());
    case Model::kCnn:
      return "cnn";
    default:
      break;
  }
  return kUnknown;
}

std::string FormatModel(const Model& model) {
  switch (model.kind_case()) {
    case Model::kMlp:
      return absl::StrCat(FormatNet(model), ", ", FormatActivation(model.mlp().activation()));
    case Model::kCnn:
      return absl::StrCat(FormatNet(model), ", ", FormatActivation(model.cnn().activation()));
    default:
      break;
  }
  return kUnknown;
}

std::string FormatData(const Data& data) {
  const google::protobuf::FieldDescriptor* source = data.GetReflection()->GetOneofFieldDescriptor(
      data, Data::descriptor()->FindOneofByName("source"));
  if (source == nullptr) {
    return kUnknown;
  }
  std::string text = source->name();
  if (data.has_arrays()) {
    absl::StrAppend(
        &text, " ",
        Printable(data.arrays().path().empty() ? data.arrays().x_train() : data.arrays().path()));
  }
  if (data.train_limit() > 0) {
    absl::StrAppend(&text, ", ", data.train_limit(), " training examples");
  }
  if (data.test_limit() > 0) {
    absl::StrAppend(&text, ", ", data.test_limit(), " test examples");
  }
  const Augmentation& augmentation = data.augmentation();
  if (augmentation.pad_and_crop() > 0) {
    absl::StrAppend(&text, ", crop ", augmentation.pad_and_crop());
  }
  if (augmentation.flip()) {
    absl::StrAppend(&text, ", flip");
  }
  if (augmentation.cutout() > 0) {
    absl::StrAppend(&text, ", cutout ", augmentation.cutout());
  }
  return text;
}

std::string FormatNormalization(const Normalizer& normalization) {
  switch (normalization.kind_case()) {
    case Normalizer::kBatch:
      return "batch";
    case Normalizer::kNone:
    default:
      break;
  }
  return "none";
}

std::string FormatOptimizer(const Optimizer& optimizer) {
  const Sgd& sgd = optimizer.sgd();  // the only kind, and the default
  std::string text = absl::StrCat(
      "sgd, learning rate ",
      FormatDouble(sgd.has_learning_rate() ? sgd.learning_rate() : kDefaultLearningRate));
  if (sgd.momentum() != 0) {
    absl::StrAppend(&text, ", momentum ", FormatDouble(sgd.momentum()));
  }
  if (sgd.weight_decay() != 0) {
    absl::StrAppend(&text, ", weight decay ", FormatDouble(sgd.weight_decay()));
  }
  return text;
}

}  // namespace normlab::client
