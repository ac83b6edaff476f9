#include "engine/train/network.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <new>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/dnnl/primitives.h"
#include "engine/layers/add.h"
#include "engine/layers/layer.h"
#include "engine/layers/loss.h"
#include "engine/layers/table.h"

namespace normlab::engine {
namespace {

std::vector<int64_t> WithBatch(int64_t batch, const Dims& dims) {
  std::vector<int64_t> all = {batch};
  all.insert(all.end(), dims.begin(), dims.end());
  return all;
}

absl::Status Check(const Graph& graph, const ModelState& model, const NetworkOptions& options) {
  if (graph.nodes().empty() || !IsLoss(graph.nodes().back().kind)) {
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

PlanOptions ToPlanOptions(const NetworkOptions& options) {
  return {.batch = options.batch_size,
          .mode = options.mode,
          .type = options.type,
          .convolution = options.convolution,
          .measured = options.measured,
          .unfused = options.unfused,
          .share_memory = options.share_memory,
          .classes = options.classes,
          .statistics = options.statistics,
          .loss_batch = options.loss_batch};
}

// The layers of a graph, executed in the order of its nodes, and backwards in the reverse order.
class PlannedNetwork final : public Network {
 public:
  PlannedNetwork(Runtime runtime, const NetworkOptions& options, int threads, const Graph& graph)
      : graph_(graph),
        planner_(std::move(runtime), ToPlanOptions(options)),
        threads_(threads),
        nodes_(graph.nodes().size()) {
    planner_.run().seed = options.seed;
  }

  absl::Status Plan(ModelState& model) {
    input_ = planner_.ReserveKept(Layout::RowMajor(WithBatch(planner_.batch(), graph_.input())));
    input_count_ = planner_.batch() * ElementCount(graph_.input());
    NORMLAB_RETURN_IF_ERROR(PlanForward(model));
    loss_ = dynamic_cast<LossLayer*>(nodes_.back().layer.get());
    if (planner_.training()) {
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
  absl::Span<float> targets() override { return loss_->targets(); }
  absl::Span<const float> outputs() const override { return loss_->outputs(); }

  void SetStep(int64_t step) override { planner_.run().step = step; }
  void SetUpdateRunningStatistics(bool update) override {
    planner_.run().update_running_statistics = update;
  }

  void ParametersChanged() override {
    omp_set_num_threads(threads_);
    for (Layer* layer : forward_) {
      layer->ParametersChanged();
    }
  }

  BatchResult Forward() override {
    Begin();
    for (Layer* layer : forward_) {
      layer->Forward();
    }
    return {loss_->loss(), loss_->correct()};
  }

  BatchResult ForwardInitializing(const std::set<std::string>& given) override {
    Begin();
    for (Layer* layer : forward_) {
      if (given.contains(layer->name())) {
        layer->Forward();
      } else {
        layer->ForwardInitializing();
      }
    }
    return {loss_->loss(), loss_->correct()};
  }

  void SetGradientListener(GradientListener* listener) override { listener_ = listener; }

  void Backward() override {
    omp_set_num_threads(threads_);
    for (const BackwardPass& pass : backward_) {
      if (pass.layer != nullptr) {
        pass.layer->Backward();
      } else {
        pass.sum->Run();
      }
      if (listener_ != nullptr) {
        listener_->OnGradientsFrom(pass.final_from);
      }
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
    NORMLAB_ASSIGN_OR_RETURN(const PlannedNode* planned, Find(node));
    if (!planner_.unfused()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the output of layer ", node, " is not kept, or never exists; plan unfused"));
    }
    return CopyPlain(*planned->output);
  }

  absl::StatusOr<std::vector<float>> ReadOutputGradient(absl::string_view node) const override {
    NORMLAB_ASSIGN_OR_RETURN(const PlannedNode* planned, Find(node));
    if (!planner_.unfused()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the gradient at layer ", node, " is overwritten during the pass; plan unfused"));
    }
    if (!planned->gradient.has_value()) {
      return absl::NotFoundError(
          absl::StrCat("no parameter lies before layer ", node, ", so it gets no gradient"));
    }
    return CopyPlain(*planned->gradient);
  }

 private:
  struct PlannedNode {
    std::unique_ptr<Layer> layer;  // null when the node before computes it
    std::optional<View> output;    // none when fused away
    bool needs_gradient = false;   // a parameter lies in it or before it
    std::optional<View> gradient;  // of the loss with respect to the output
  };

  // One of the two.
  struct BackwardPass {
    Layer* layer = nullptr;
    const GradientSum* sum = nullptr;
    // After it, gradients at this offset and above are final. (While planning: the end of those that
    // it writes.)
    int64_t final_from = 0;
  };

  void Begin() {
    omp_set_num_threads(threads_);
    planner_.run().saw_nan = false;
  }

  absl::StatusOr<const PlannedNode*> Find(absl::string_view name) const {
    const Node* node = graph_.Find(name);
    if (node == nullptr) {
      return absl::NotFoundError(
          absl::StrCat("there is no layer ", name, "; use a name of the network's graph"));
    }
    return &nodes_[static_cast<size_t>(node - graph_.nodes().data())];
  }

  PlannedNode& At(int position) { return nodes_[static_cast<size_t>(position)]; }

  // The node after `position` when it is the only reader of its output, which it may then take over.
  const Node* OnlyReader(size_t position, const std::vector<int>& uses) const {
    if (planner_.unfused() || position + 1 >= nodes_.size() || uses[position] != 1) {
      return nullptr;
    }
    const Node& next = graph_.nodes()[position + 1];
    const bool reads = next.inputs.size() == 1 && next.inputs[0] == static_cast<int>(position);
    return reads ? &next : nullptr;
  }

  absl::Status PlanForward(ModelState& model) {
    const std::vector<int> uses = graph_.UseCounts();
    const std::vector<bool> have_parameters = graph_.HaveParameters();
    for (size_t i = 0; i < nodes_.size(); ++i) {
      const Node& node = graph_.nodes()[i];
      std::vector<View> inputs;
      for (const int input : node.inputs) {
        inputs.push_back(input == kGraphInput ? input_ : *At(input).output);
        inputs.back().overwritable &= input != kGraphInput &&
                                      uses[static_cast<size_t>(input)] == 1 &&
                                      !planner_.unfused() && planner_.options().share_memory;
        nodes_[i].needs_gradient |= input != kGraphInput && At(input).needs_gradient;
      }
      nodes_[i].needs_gradient |= have_parameters[i];
      nodes_[i].layer = MakeLayer(node, OnlyReader(i, uses),
                                  FindParameters(graph_, node, model.parameters.data(),
                                                 model.gradients.data(), model.state.data()),
                                  planner_.synchronized());
      Layer& layer = *nodes_[i].layer;
      planner_.Tick();
      NORMLAB_ASSIGN_OR_RETURN(nodes_[i].output, layer.PlanForward(planner_, inputs));
      forward_.push_back(&layer);
      if (layer.fused()) {
        nodes_[i + 1].output = std::exchange(nodes_[i].output, std::nullopt);
        nodes_[i + 1].needs_gradient = nodes_[i].needs_gradient;
        ++i;
      }
    }
    return absl::OkStatus();
  }

  // Every layer before which, or in which, a parameter lies; what comes before needs no gradient.
  absl::Status PlanBackward() {
    for (size_t i = nodes_.size(); i-- > 0;) {
      if (nodes_[i].layer == nullptr || !nodes_[i].needs_gradient) {
        continue;
      }
      Layer& layer = *nodes_[i].layer;
      const std::vector<int>& inputs = graph_.nodes()[i].inputs;
      const bool wants_d_x = std::any_of(inputs.begin(), inputs.end(), [this](int input) {
        return input != kGraphInput && At(input).needs_gradient;
      });
      planner_.Tick();
      const std::optional<View>& d_y = nodes_[layer.fused() ? i + 1 : i].gradient;
      NORMLAB_ASSIGN_OR_RETURN(const View d_x,
                               layer.PlanBackward(planner_, d_y.value_or(View()), wants_d_x));
      backward_.push_back({.layer = &layer, .final_from = EndOfGradients(i)});
      for (const int input : inputs) {
        if (input != kGraphInput && At(input).needs_gradient) {
          NORMLAB_RETURN_IF_ERROR(AddGradient(input, d_x));
        }
      }
    }
    // Parameters lie in the order of nodes, but passes need not: what is final is what no later pass
    // still writes.
    int64_t still_written = 0;
    for (size_t i = backward_.size(); i-- > 0;) {
      const int64_t end = std::exchange(backward_[i].final_from, still_written);
      still_written = std::max(still_written, end);
    }
    return absl::OkStatus();
  }

  // The end of the gradients of a node; 0 when it has no parameters.
  int64_t EndOfGradients(size_t position) const {
    const std::string prefix = absl::StrCat(graph_.nodes()[position].name, ".");
    int64_t end = 0;
    for (const ParameterSpec& spec : graph_.parameters()) {
      if (absl::StartsWith(spec.name, prefix)) {
        end = std::max(end, spec.offset + spec.count);
      }
    }
    return end;
  }

  // One more reader of a node sends a gradient back.
  absl::Status AddGradient(int position, const View& gradient) {
    std::optional<View>& sum = At(position).gradient;
    if (!sum.has_value()) {
      sum = gradient;
      return absl::OkStatus();
    }
    // A node without a layer is computed by the one before it.
    PlannedNode& writer = At(At(position).layer == nullptr ? position - 1 : position);
    if (writer.layer->AddGradient(gradient)) {
      return absl::OkStatus();
    }
    planner_.Tick();
    GradientSum& pass = sums_.emplace_back();
    NORMLAB_ASSIGN_OR_RETURN(
        sum,
        pass.Plan(planner_, graph_.nodes()[static_cast<size_t>(position)].name, *sum, gradient));
    backward_.push_back({.sum = &pass});
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<float>> CopyPlain(const View& view) const {
    const std::vector<int64_t> dims = view.layout.dims();
    std::vector<float> copy(static_cast<size_t>(ElementCount(dims)));
    if (view.layout == Layout::RowMajor(dims)) {
      std::memcpy(copy.data(), view.floats(), copy.size() * sizeof(float));
      return copy;
    }
    Planner planner(planner_.runtime(), planner_.options());
    const View plain = {Layout::RowMajor(dims),
                        planner.Borrow(copy.data(), static_cast<int64_t>(copy.size()))};
    OpList ops;
    NORMLAB_RETURN_IF_ERROR(planner.ConvertInto("copy", view, plain, ops));
    NORMLAB_RETURN_IF_ERROR(planner.Finish());
    RunAll(ops);
    return copy;
  }

  const Graph& graph_;
  Planner planner_;
  const int threads_;
  View input_;
  int64_t input_count_ = 0;
  std::vector<PlannedNode> nodes_;  // as the graph's
  std::vector<Layer*> forward_;
  std::vector<BackwardPass> backward_;
  std::deque<GradientSum> sums_;
  LossLayer* loss_ = nullptr;
  GradientListener* listener_ = nullptr;
};

}  // namespace

ModelState::ModelState(const Graph& graph)
    : parameters(graph.parameter_floats()),
      gradients(graph.parameter_floats()),
      state(graph.state_floats()) {
  for (const ParameterSpec& spec : graph.state()) {
    std::fill_n(state.data() + spec.offset, spec.count, spec.constant.value_or(0.0F));
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
  auto network = std::make_unique<PlannedNetwork>(std::move(runtime), options, threads, graph);
  NORMLAB_RETURN_IF_ERROR(network->Plan(model));
  return network;
}

}  // namespace normlab::engine
