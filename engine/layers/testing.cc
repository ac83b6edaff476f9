#include "engine/layers/testing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/random.h"
#include "common/status_macros.h"
#include "engine/layers/table.h"

namespace normlab::engine::testing {

Tensor Random(absl::string_view name, int64_t count) {
  const common::RandomStream stream(7, name);
  Tensor values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(stream.Normal(0, i));
  }
  return values;
}

Tensor RandomBf16(absl::string_view name, int64_t count) {
  Tensor values = Random(name, count);
  for (double& value : values) {
    value = FromBf16(ToBf16(static_cast<float>(value)));
  }
  return values;
}

double RelativeError(const Tensor& a, const Tensor& b) {
  if (a.size() != b.size()) {
    return std::numeric_limits<double>::infinity();
  }
  double largest = 0;
  double difference = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    largest = std::max(largest, std::abs(b[i]));
    const double here = std::abs(a[i] - b[i]);
    difference =
        std::isnan(here) ? std::numeric_limits<double>::infinity() : std::max(difference, here);
  }
  constexpr double kAllButZero = 1e-6;
  return difference / (largest < kAllButZero ? 1 : largest);
}

LayerHarness::LayerHarness(const Dims& in,
                           NodeKind kind,
                           int64_t batch,
                           Mode mode,
                           std::optional<ActivationKind> next,
                           PlanOptions plan)
    : LayerHarness(
          in, std::move(kind), batch, HarnessOptions{.mode = mode, .next = next, .plan = plan}) {}

LayerHarness::LayerHarness(const Dims& in, NodeKind kind, int64_t batch, HarnessOptions options)
    : graph_(in) {
  status_ = graph_.Add("layer", std::move(kind));
  if (status_.ok() && options.next.has_value()) {
    status_ = graph_.Add("next", ActivationNode{*options.next});
  }
  if (status_.ok()) {
    status_ = Plan(in, batch, options);
  }
}

absl::Status LayerHarness::Plan(const Dims& in, int64_t batch, const HarnessOptions& options) {
  parameters_.resize(static_cast<size_t>(graph_.parameter_floats()));
  gradients_.resize(parameters_.size());
  state_.resize(static_cast<size_t>(graph_.state_floats()));
  NORMLAB_ASSIGN_OR_RETURN(Runtime runtime, Runtime::Create());
  PlanOptions plan = options.plan;
  plan.batch = batch;
  plan.mode = options.mode;
  planner_ = std::make_unique<Planner>(runtime, plan);
  planner_->run().seed = options.seed;
  Dims x_dims = {batch};
  x_dims.insert(x_dims.end(), in.begin(), in.end());
  x_ = planner_->ReserveKept(Layout::RowMajor(x_dims));
  NORMLAB_ASSIGN_OR_RETURN(
      const View x,
      planner_->Convert("test", x_, options.x_layout.value_or(x_.layout.WithType(plan.type)),
                        write_x_));
  planner_->Tick();
  const Node& node = graph_.nodes()[0];
  const Node* next = graph_.nodes().size() > 1 ? &graph_.nodes()[1] : nullptr;
  layer_ =
      MakeLayer(node, next,
                FindParameters(graph_, node, parameters_.data(), gradients_.data(), state_.data()),
                planner_->synchronized());
  NORMLAB_ASSIGN_OR_RETURN(View y, layer_->PlanForward(*planner_, absl::MakeConstSpan(&x, 1)));
  y_layout_ = y.layout;
  planner_->Tick();
  y_ = planner_->ReserveKept(Layout::RowMajor(y.layout.dims()));
  NORMLAB_RETURN_IF_ERROR(planner_->ConvertInto("test", y, y_, read_y_));
  if (options.mode == Mode::kTraining) {
    NORMLAB_RETURN_IF_ERROR(PlanGradients(y, options));
  }
  return planner_->Finish();
}

absl::Status LayerHarness::PlanGradients(const View& y, const HarnessOptions& options) {
  planner_->Tick();
  d_y_ = planner_->ReserveKept(y_.layout);
  const Layout given =
      options.x_layout.has_value() ? y.layout : d_y_.layout.WithType(options.plan.type);
  NORMLAB_ASSIGN_OR_RETURN(const View d_y, planner_->Convert("test", d_y_, given, write_d_y_));
  planner_->Tick();
  NORMLAB_ASSIGN_OR_RETURN(View d_x, layer_->PlanBackward(*planner_, d_y, /*wants_d_x=*/true));
  planner_->Tick();
  d_x_ = planner_->ReserveKept(x_.layout);
  return planner_->ConvertInto("test", d_x, d_x_, read_d_x_);
}

bool LayerHarness::fused() const {
  return layer_->fused();
}

const ParameterSpec& LayerHarness::Find(absl::string_view tensor) const {
  const std::string name = absl::StrCat("layer.", tensor);
  for (const auto* specs : {&graph_.parameters(), &graph_.state()}) {
    for (const ParameterSpec& spec : *specs) {
      if (spec.name == name) {
        return spec;
      }
    }
  }
  ADD_FAILURE() << "no tensor " << name;
  return graph_.parameters().front();
}

const std::vector<float>& LayerHarness::ValuesOf(absl::string_view tensor) const {
  const ParameterRole role = Find(tensor).role;
  return role == ParameterRole::kRunningMean || role == ParameterRole::kRunningVar ? state_
                                                                                   : parameters_;
}

void LayerHarness::Set(absl::string_view tensor, const Tensor& values) {
  const ParameterSpec& spec = Find(tensor);
  auto& into = const_cast<std::vector<float>&>(ValuesOf(tensor));
  ASSERT_EQ(static_cast<int64_t>(values.size()), spec.count);
  std::copy(values.begin(), values.end(), into.begin() + spec.offset);
}

Tensor LayerHarness::Get(absl::string_view tensor) const {
  const ParameterSpec& spec = Find(tensor);
  const auto begin = ValuesOf(tensor).begin() + spec.offset;
  return Tensor(begin, begin + spec.count);
}

Tensor LayerHarness::Gradient(absl::string_view tensor) const {
  const ParameterSpec& spec = Find(tensor);
  const auto begin = gradients_.begin() + spec.offset;
  return Tensor(begin, begin + spec.count);
}

void LayerHarness::Begin(const Tensor& x) {
  std::copy(x.begin(), x.end(), x_.floats());
  RunAll(write_x_);
  planner_->run().saw_nan = false;
  layer_->ParametersChanged();
}

Tensor LayerHarness::Forward(const Tensor& x) {
  Begin(x);
  layer_->Forward();
  RunAll(read_y_);
  return Tensor(y_.floats(), y_.floats() + y_count());
}

Tensor LayerHarness::ForwardInitializing(const Tensor& x) {
  Begin(x);
  layer_->ForwardInitializing();
  RunAll(read_y_);
  return Tensor(y_.floats(), y_.floats() + y_count());
}

Tensor LayerHarness::Backward(const Tensor& d_y) {
  std::copy(d_y.begin(), d_y.end(), d_y_.floats());
  RunAll(write_d_y_);
  layer_->Backward();
  RunAll(read_d_x_);
  return Tensor(d_x_.floats(), d_x_.floats() + x_count());
}

}  // namespace normlab::engine::testing
