#include "client/cli/spec_view.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <google/protobuf/descriptor.h>

#include "client/cli/output.h"
#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

using normlab::v1::Augmentation;
using normlab::v1::Data;
using normlab::v1::GradientClipping;
using normlab::v1::JobSpec;
using normlab::v1::Optimizer;
using normlab::v1::RmsProp;
using normlab::v1::Schedule;
using normlab::v1::Sgd;
using normlab::v1::StepSchedule;

constexpr char kUnknown[] = "-";
constexpr double kDefaultSgdRate = 0.1;
constexpr double kDefaultAdamRate = 1e-3;
constexpr double kDefaultRmsPropRate = 0.01;
constexpr double kDefaultAdamWDecay = 0.01;
constexpr double kDefaultFactor = 0.1;

std::string Rate(absl::string_view name, double learning_rate) {
  return absl::StrCat(name, ", learning rate ", FormatDouble(learning_rate));
}

// Nothing for a value that means "without".
void AppendUnlessZero(absl::string_view name, double value, std::string& text) {
  if (value != 0) {
    absl::StrAppend(&text, ", ", name, " ", FormatDouble(value));
  }
}

std::string FormatSgd(const Sgd& sgd, absl::string_view decay) {
  std::string text = Rate("sgd", sgd.has_learning_rate() ? sgd.learning_rate() : kDefaultSgdRate);
  AppendUnlessZero(sgd.nesterov() ? "nesterov momentum" : "momentum", sgd.momentum(), text);
  AppendUnlessZero(decay, sgd.weight_decay(), text);
  return text;
}

// Betas only where they are set, because the usual ones tell nothing.
template <typename Message>
std::string FormatAdam(absl::string_view name,
                       const Message& adam,
                       absl::string_view decay,
                       double weight_decay) {
  std::string text = Rate(name, adam.has_learning_rate() ? adam.learning_rate() : kDefaultAdamRate);
  if (adam.has_beta1()) {
    absl::StrAppend(&text, ", beta1 ", FormatDouble(adam.beta1()));
  }
  if (adam.has_beta2()) {
    absl::StrAppend(&text, ", beta2 ", FormatDouble(adam.beta2()));
  }
  AppendUnlessZero(decay, weight_decay, text);
  return text;
}

std::string FormatRmsProp(const RmsProp& rmsprop, absl::string_view decay) {
  std::string text =
      Rate(rmsprop.centered() ? "centered rmsprop" : "rmsprop",
           rmsprop.has_learning_rate() ? rmsprop.learning_rate() : kDefaultRmsPropRate);
  if (rmsprop.has_alpha()) {
    absl::StrAppend(&text, ", alpha ", FormatDouble(rmsprop.alpha()));
  }
  AppendUnlessZero("momentum", rmsprop.momentum(), text);
  AppendUnlessZero(decay, rmsprop.weight_decay(), text);
  return text;
}

}  // namespace

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

std::string FormatOptimizer(const Optimizer& optimizer) {
  const absl::string_view decay =
      optimizer.decay_weights_only() ? "weight decay (weights only)" : "weight decay";
  std::string text;
  switch (optimizer.kind_case()) {
    case Optimizer::kAdam:
      text = FormatAdam("adam", optimizer.adam(), decay, optimizer.adam().weight_decay());
      break;
    case Optimizer::kAdamw:
      text = FormatAdam("adamw", optimizer.adamw(), decay,
                        optimizer.adamw().has_weight_decay() ? optimizer.adamw().weight_decay()
                                                             : kDefaultAdamWDecay);
      break;
    case Optimizer::kRmsprop:
      text = FormatRmsProp(optimizer.rmsprop(), decay);
      break;
    case Optimizer::kSgd:
    case Optimizer::KIND_NOT_SET:
      text = FormatSgd(optimizer.sgd(), decay);
      break;
  }
  switch (optimizer.clipping().kind_case()) {
    case GradientClipping::kGlobalNorm:
      absl::StrAppend(&text, ", gradient norm at most ",
                      FormatDouble(optimizer.clipping().global_norm()));
      break;
    case GradientClipping::kValue:
      absl::StrAppend(&text, ", gradient components at most ",
                      FormatDouble(optimizer.clipping().value()));
      break;
    case GradientClipping::KIND_NOT_SET:
      break;
  }
  return text;
}

std::string FormatDataParallel(const JobSpec& resolved) {
  const int ranks = resolved.data_parallel().ranks();
  const int group = resolved.data_parallel().statistics_group();
  if (ranks <= 1) {
    return "";
  }
  return absl::StrCat(ranks, " ranks of ", resolved.threads(),
                      resolved.threads() == 1 ? " thread, " : " threads, ",
                      group <= 1       ? "each with statistics of its own share"
                      : group == ranks ? "with statistics of the whole batch"
                                       : absl::StrCat("with statistics of groups of ", group));
}

std::string FormatSchedule(const Schedule& schedule) {
  std::string text;
  switch (schedule.kind_case()) {
    case Schedule::kStep: {
      const StepSchedule& step = schedule.step();
      const bool by_epoch = step.milestone_steps().empty();
      const auto& milestones = by_epoch ? step.milestone_epochs() : step.milestone_steps();
      text =
          absl::StrCat("times ", FormatDouble(step.has_factor() ? step.factor() : kDefaultFactor),
                       by_epoch ? " at epochs " : " at steps ",
                       milestones.empty() ? kUnknown : absl::StrJoin(milestones, ", "));
      break;
    }
    case Schedule::kCosine:
      text = absl::StrCat("cosine down to ", FormatDouble(schedule.cosine().final_factor()));
      break;
    case Schedule::kOneCycle:
      text = "one cycle";
      break;
    case Schedule::kConstant:
    case Schedule::KIND_NOT_SET:
      text = "constant";
      break;
  }
  if (schedule.warmup_steps() > 0) {
    absl::StrAppend(&text, ", warm-up of ", schedule.warmup_steps(), " steps");
  }
  return text;
}

}  // namespace normlab::client
