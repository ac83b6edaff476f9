#include "engine/layers/single_layer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/layers/table.h"

namespace normlab::engine {
namespace {

absl::Span<float> All(const View& view) {
  return view.buffer == nullptr
             ? absl::Span<float>()
             : absl::MakeSpan(view.floats(), static_cast<size_t>(view.layout.element_count()));
}

bool IsState(const ParameterSpec& tensor) {
  return tensor.role == ParameterRole::kRunningMean || tensor.role == ParameterRole::kRunningVar;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SingleLayer>> SingleLayer::Plan(const std::string& name,
                                                               NodeKind node,
                                                               const Dims& in,
                                                               const SingleLayerOptions& options) {
  Graph graph(in);
  NORMLAB_RETURN_IF_ERROR(graph.Add(name, std::move(node)));
  std::unique_ptr<SingleLayer> single(new SingleLayer(std::move(graph)));
  NORMLAB_RETURN_IF_ERROR(single->PlanPasses(options));
  return single;
}

absl::Status SingleLayer::PlanPasses(const SingleLayerOptions& options) {
  NORMLAB_ASSIGN_OR_RETURN(parameters_, Arena::Create(graph_.parameter_floats()));
  NORMLAB_ASSIGN_OR_RETURN(gradients_, Arena::Create(graph_.parameter_floats()));
  NORMLAB_ASSIGN_OR_RETURN(state_, Arena::Create(graph_.state_floats()));
  for (const auto* tensors : {&graph_.parameters(), &graph_.state()}) {
    for (const ParameterSpec& tensor : *tensors) {
      const absl::Span<float> all = values(tensor);
      std::fill(all.begin(), all.end(), tensor.constant.value_or(0));
    }
  }

  NORMLAB_ASSIGN_OR_RETURN(Runtime runtime, Runtime::Create());
  planner_ = std::make_unique<Planner>(
      std::move(runtime),
      PlanOptions{.batch = options.batch, .mode = options.mode, .unfused = true});
  planner_->run().seed = options.seed;
  planner_->run().step = options.step;
  const Node& node = graph_.nodes().front();
  layer_ =
      MakeLayer(node, /*next=*/nullptr,
                FindParameters(graph_, node, parameters_.data(), gradients_.data(), state_.data()));
  if (layer_ == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("layer ", node.name, ": nothing computes this kind of layer"));
  }

  Dims x_dims = {options.batch};
  x_dims.insert(x_dims.end(), node.in.begin(), node.in.end());
  x_ = planner_->ReserveKept(Layout::RowMajor(x_dims));
  planner_->Tick();
  NORMLAB_ASSIGN_OR_RETURN(const View y,
                           layer_->PlanForward(*planner_, absl::MakeConstSpan(&x_, 1)));
  // The layer may answer in any layout; readers want the plain one.
  const Layout plain_y = Layout::RowMajor(y.layout.dims());
  planner_->Tick();
  NORMLAB_ASSIGN_OR_RETURN(y_, planner_->Convert(node.name, y, plain_y, read_y_));
  if (options.backward) {
    d_y_ = planner_->ReserveKept(plain_y);
    planner_->Tick();
    NORMLAB_ASSIGN_OR_RETURN(const View d_x,
                             layer_->PlanBackward(*planner_, d_y_, /*wants_d_x=*/true));
    planner_->Tick();
    NORMLAB_ASSIGN_OR_RETURN(d_x_, planner_->Convert(node.name, d_x, x_.layout, read_d_x_));
  }
  NORMLAB_RETURN_IF_ERROR(planner_->Finish());
  return absl::OkStatus();
}

absl::Span<float> SingleLayer::input() {
  return All(x_);
}

absl::Span<const float> SingleLayer::output() const {
  return All(y_);
}

absl::Span<float> SingleLayer::output_gradient() {
  return All(d_y_);
}

absl::Span<const float> SingleLayer::input_gradient() const {
  return All(d_x_);
}

absl::Span<float> SingleLayer::values(const ParameterSpec& tensor) {
  Arena& arena = IsState(tensor) ? state_ : parameters_;
  return arena.span().subspan(static_cast<size_t>(tensor.offset),
                              static_cast<size_t>(tensor.count));
}

absl::Span<const float> SingleLayer::gradient(const ParameterSpec& parameter) const {
  return gradients_.span().subspan(static_cast<size_t>(parameter.offset),
                                   static_cast<size_t>(parameter.count));
}

void SingleLayer::Forward() {
  planner_->run().saw_nan = false;
  layer_->ParametersChanged();
  layer_->Forward();
  RunAll(read_y_);
}

void SingleLayer::Backward() {
  layer_->Backward();
  RunAll(read_d_x_);
}

}  // namespace normlab::engine
