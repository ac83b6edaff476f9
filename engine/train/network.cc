#include "engine/train/network.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <new>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/dnnl/primitives.h"
#include "engine/layers/layer.h"
#include "engine/layers/softmax_cross_entropy.h"
#include "engine/layers/table.h"

namespace normlab::engine {
namespace {

std::vector<int64_t> WithBatch(int64_t batch, const Dims& dims) {
  std::vector<int64_t> all = {batch};
  all.insert(all.end(), dims.begin(), dims.end());
  return all;
}

absl::Status Check(const Graph& graph, const ModelState& model, const NetworkOptions& options) {
  if (graph.nodes().empty() ||
      !std::holds_alternative<SoftmaxCrossEntropyNode>(graph.nodes().back().kind)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the network ends with ", graph.nodes().empty() ? "nothing" : graph.nodes().back().name,
        " instead of a loss; add a softmax cross entropy as its last layer"));
  }
  if (options.batch_size < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot plan for a batch of ", options.batch_size, "; use at least 1"));
  }
  if (model.parameters.size() != graph.parameter_floats() ||
      model.gradients.size() != graph.parameter_floats() ||
      model.state.size() != graph.state_floats()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model has ", model.parameters.size(), " parameters, but layers up to ",
                     graph.nodes().back().name, " need ", graph.parameter_floats(),
                     "; make it from the same graph"));
  }
  return absl::OkStatus();
}

bool HasParameters(const LayerParameters& parameters) {
  return parameters.weight != nullptr || parameters.gamma != nullptr;
}

// The chain of layers, executed in order.
class ChainNetwork final : public Network {
 public:
  ChainNetwork(Runtime runtime, const NetworkOptions& options, int threads)
      : planner_(std::move(runtime), options.batch_size, options.mode, options.unfused),
        mode_(options.mode),
        threads_(threads) {}

  absl::Status Plan(const Graph& graph, ModelState& model) {
    input_ = planner_.Reserve(Layout::RowMajor(WithBatch(planner_.batch(), graph.input())));
    input_count_ = planner_.batch() * ElementCount(graph.input());
    NORMLAB_RETURN_IF_ERROR(PlanForward(graph, model));
    loss_ = dynamic_cast<SoftmaxCrossEntropyLayer*>(layers_.back().get());
    if (mode_ == Mode::kTraining) {
      NORMLAB_RETURN_IF_ERROR(PlanBackward());
    }
    NORMLAB_RETURN_IF_ERROR(planner_.Finish());
    ParametersChanged();
    return absl::OkStatus();
  }

  absl::Span<float> input() override {
    return {input_.floats(), static_cast<size_t>(input_count_)};
  }
  absl::Span<int32_t> labels() override { return loss_->labels(); }
  absl::Span<const float> logits() const override { return loss_->logits(); }

  void ParametersChanged() override {
    omp_set_num_threads(threads_);
    for (const auto& layer : layers_) {
      layer->ParametersChanged();
    }
  }

  BatchResult Forward() override {
    omp_set_num_threads(threads_);
    for (const auto& layer : layers_) {
      layer->Forward();
    }
    return {loss_->loss(), loss_->correct()};
  }

  void Backward() override {
    omp_set_num_threads(threads_);
    for (size_t i = layers_.size(); i-- > first_backward_;) {
      layers_[i]->Backward();
    }
  }

  const std::vector<ImplementationChoice>& implementations() const override {
    return planner_.choices();
  }
  int64_t planned_bytes() const override { return planner_.bytes(); }

  absl::StatusOr<std::vector<float>> ReadOutput(absl::string_view node) const override {
    if (node == loss_->name()) {
      return std::vector<float>{static_cast<float>(loss_->loss())};
    }
    const auto found = outputs_.find(std::string(node));
    if (found == outputs_.end()) {
      return absl::NotFoundError(
          absl::StrCat("there is no layer ", node, "; use a name of the network's graph"));
    }
    if (!found->second.has_value()) {
      return absl::FailedPreconditionError(
          absl::StrCat("layer ", node, " is computed together with the next one; plan unfused"));
    }
    return CopyPlain(*found->second);
  }

 private:
  absl::Status PlanForward(const Graph& graph, ModelState& model) {
    const std::vector<Node>& nodes = graph.nodes();
    View x = input_;
    for (size_t i = 0; i < nodes.size(); ++i) {
      const Node& node = nodes[i];
      const Node* next = planner_.unfused() || i + 1 == nodes.size() ? nullptr : &nodes[i + 1];
      const LayerParameters parameters = FindParameters(graph, node, model.parameters.data(),
                                                        model.gradients.data(), model.state.data());
      layers_.push_back(MakeLayer(node, next, parameters));
      has_parameters_.push_back(HasParameters(parameters));
      NORMLAB_ASSIGN_OR_RETURN(x, layers_.back()->PlanForward(planner_, x));
      outputs_[node.name] = x;
      if (ComputesNextNode(*layers_.back())) {
        outputs_[node.name] = std::nullopt;
        ++i;
        outputs_[nodes[i].name] = x;
      }
    }
    return absl::OkStatus();
  }

  // Down to the first layer with parameters; what comes before it needs no gradient.
  absl::Status PlanBackward() {
    const auto first = std::find(has_parameters_.begin(), has_parameters_.end(), true);
    first_backward_ = static_cast<size_t>(first - has_parameters_.begin());
    View d_y;
    for (size_t i = layers_.size(); i-- > first_backward_;) {
      NORMLAB_ASSIGN_OR_RETURN(
          d_y, layers_[i]->PlanBackward(planner_, d_y, /*wants_d_x=*/i > first_backward_));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<float>> CopyPlain(const View& view) const {
    const std::vector<int64_t> dims = view.layout.dims();
    std::vector<float> copy(static_cast<size_t>(ElementCount(dims)));
    if (view.layout.is_row_major()) {
      std::memcpy(copy.data(), view.floats(), copy.size() * sizeof(float));
      return copy;
    }
    Planner planner(planner_.runtime(), planner_.batch(), mode_, planner_.unfused());
    const View plain = {Layout::RowMajor(dims),
                        planner.Borrow(copy.data(), static_cast<int64_t>(copy.size()))};
    OpList ops;
    NORMLAB_RETURN_IF_ERROR(planner.ConvertInto("copy", view, plain, ops));
    NORMLAB_RETURN_IF_ERROR(planner.Finish());
    RunAll(ops);
    return copy;
  }

  Planner planner_;
  const Mode mode_;
  const int threads_;
  View input_;
  int64_t input_count_ = 0;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<bool> has_parameters_;
  size_t first_backward_ = 0;
  SoftmaxCrossEntropyLayer* loss_ = nullptr;
  std::map<std::string, std::optional<View>> outputs_;  // by node; none when fused away
};

}  // namespace

ModelState::ModelState(const Graph& graph)
    : parameters(graph.parameter_floats()),
      gradients(graph.parameter_floats()),
      state(graph.state_floats()) {
  for (const ParameterSpec& spec : graph.state()) {
    if (spec.role == ParameterRole::kRunningVar) {
      std::fill_n(state.data() + spec.offset, spec.count, 1.0F);
    }
  }
}

absl::StatusOr<std::unique_ptr<ModelState>> ModelState::Create(const Graph& graph) {
  try {
    return std::make_unique<ModelState>(graph);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("out of memory for a model of ", graph.parameter_count(),
                     " parameters; give the job more memory, or use a smaller model"));
  }
}

absl::StatusOr<std::unique_ptr<Network>> Network::Plan(const Graph& graph,
                                                       ModelState& model,
                                                       NetworkOptions options) {
  NORMLAB_RETURN_IF_ERROR(Check(graph, model, options));
  const int threads = options.threads > 0 ? options.threads : omp_get_max_threads();
  omp_set_num_threads(threads);
  NORMLAB_ASSIGN_OR_RETURN(Runtime runtime, Runtime::Create());
  auto network = std::make_unique<ChainNetwork>(std::move(runtime), options, threads);
  NORMLAB_RETURN_IF_ERROR(network->Plan(graph, model));
  return network;
}

}  // namespace normlab::engine
