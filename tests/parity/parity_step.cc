// One training step at a time with the engine's own graph, network and optimizer, from state that
// the caller sends: what another framework is compared with, step by step from equal state.
//
// Speaks frames (tests/parity/frames.h) over stdin and stdout. The first request is JSON:
//   {"spec": a JobSpec, "dataset": {"channels", "height", "width", "classes"}}
// and its reply too: {"parameters": [{"name", "dims"}], "state": [...], "slots": [names],
// "implementations": [{"layer", "pass", "implementation"}]}. Every other request is one letter and
// a safetensors file:
//   S  a whole step: "x" [N,C,H,W], "labels" [N] (whole numbers), "learning_rate" [1], "step" [1]
//      (updates done so far), all parameters and running statistics by name, the optimizer's
//      "<slot>.<parameter>". Reply: "loss" [1], "gradient.<parameter>", and parameters, running
//      statistics and optimizer state after the step.
//   U  an update only: as S without x, labels and running statistics, with "gradient.<parameter>".
//      Reply: parameters and optimizer state after it.
// A request that cannot be met is answered with {"error": text}, and the program ends with 1.
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/util/json_util.h"

#include "common/status_macros.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/models/job_check.h"
#include "engine/optim/optimizer.h"
#include "engine/spec/resolve.h"
#include "engine/spec/validate.h"
#include "engine/train/model_tensors.h"
#include "engine/train/network.h"
#include "tests/parity/frames.h"

#include "nlohmann/json.hpp"

namespace normlab::engine {
namespace {

using Json = nlohmann::ordered_json;

void Append(std::vector<MutableTensor> more, std::vector<MutableTensor>& tensors) {
  for (MutableTensor& tensor : more) {
    tensors.push_back(std::move(tensor));
  }
}

Json Describe(const std::vector<ParameterSpec>& specs) {
  Json list = Json::array();
  for (const ParameterSpec& spec : specs) {
    list.push_back({{"name", spec.name}, {"dims", spec.dims}});
  }
  return list;
}

// The engine for one spec. Owns everything; not thread-safe.
class Engine {
 public:
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const std::string& request) {
    const Json json = Json::parse(request, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("spec") || !json.contains("dataset")) {
      return absl::InvalidArgumentError("the first request is not {\"spec\", \"dataset\"}");
    }
    v1::JobSpec spec;
    const auto parsed = google::protobuf::util::JsonStringToMessage(json["spec"].dump(), &spec);
    if (!parsed.ok()) {
      return absl::InvalidArgumentError(std::string(parsed.message()));
    }
    NORMLAB_RETURN_IF_ERROR(ViolationsToStatus(Validate(spec)));
    const v1::JobSpec resolved = Resolve(spec);
    DatasetShape shape;
    const Json& dataset = json["dataset"];
    shape.channels = dataset.value("channels", 0);
    shape.height = dataset.value("height", 0);
    shape.width = dataset.value("width", 0);
    shape.classes = dataset.value("classes", 0);
    // Any number that a batch fits into: nothing here depends on it.
    shape.train_examples = resolved.batch_size();
    shape.test_examples = 1;
    JobCheck check = CheckJob(resolved, shape);
    NORMLAB_RETURN_IF_ERROR(ViolationsToStatus(check.violations));
    std::unique_ptr<Engine> engine(new Engine(*std::move(check.graph)));
    NORMLAB_RETURN_IF_ERROR(engine->Plan(resolved));
    return engine;
  }

  std::string Description() {
    Json json;
    json["parameters"] = Describe(graph_.parameters());
    json["state"] = Describe(graph_.state());
    json["slots"] = Json::array();
    for (const OptimizerSlot& slot : optimizer_->slots()) {
      json["slots"].push_back(slot.name);
    }
    json["implementations"] = Json::array();
    for (const ImplementationChoice& choice : network_->implementations()) {
      json["implementations"].push_back({{"layer", choice.layer},
                                         {"pass", choice.pass},
                                         {"implementation", choice.implementation}});
    }
    return json.dump();
  }

  absl::StatusOr<std::string> Answer(absl::string_view request) {
    if (request.empty() || (request[0] != 'S' && request[0] != 'U')) {
      return absl::InvalidArgumentError("a request begins with S or U");
    }
    return request[0] == 'S' ? Step(request.substr(1)) : Update(request.substr(1));
  }

 private:
  explicit Engine(Graph graph) : graph_(std::move(graph)) {}

  absl::Status Plan(const v1::JobSpec& resolved) {
    NORMLAB_ASSIGN_OR_RETURN(model_, ModelState::Create(graph_));
    NORMLAB_ASSIGN_OR_RETURN(optimizer_, MakeOptimizer(resolved, graph_));
    // Other algorithms are faster and less exact.
    NORMLAB_ASSIGN_OR_RETURN(network_, Network::Plan(graph_, *model_,
                                                     {.batch_size = resolved.batch_size(),
                                                      .mode = Mode::kTraining,
                                                      .convolution = ConvolutionPolicy::kDirect,
                                                      .seed = resolved.seed(),
                                                      .threads = resolved.threads()}));
    labels_.resize(network_->labels().size());
    return absl::OkStatus();
  }

  std::vector<MutableTensor> Gradients() {
    std::vector<MutableTensor> tensors;
    for (const ParameterSpec& spec : graph_.parameters()) {
      tensors.push_back({absl::StrCat("gradient.", spec.name), spec.dims,
                         absl::MakeSpan(model_->gradients.data() + spec.offset,
                                        static_cast<size_t>(spec.count))});
    }
    return tensors;
  }

  std::vector<MutableTensor> Parameters() {
    std::vector<MutableTensor> tensors = ModelTensors(graph_, *model_);
    tensors.resize(graph_.parameters().size());  // running statistics come after
    return tensors;
  }

  std::vector<MutableTensor> Scalars() {
    return {{"learning_rate", {1}, absl::MakeSpan(&learning_rate_, 1)},
            {"step", {1}, absl::MakeSpan(&step_, 1)}};
  }

  void UpdateParameters() {
    for (const OptimizerCounter& counter : optimizer_->counters()) {
      *counter.value = static_cast<int64_t>(step_);
    }
    optimizer_->Step(learning_rate_, model_->gradients.span(), model_->parameters.span());
  }

  absl::StatusOr<std::string> Step(absl::string_view bytes) {
    Dims x_dims = {static_cast<int64_t>(labels_.size())};
    x_dims.insert(x_dims.end(), graph_.input().begin(), graph_.input().end());
    std::vector<MutableTensor> request = {
        {"x", x_dims, network_->input()},
        {"labels", {static_cast<int64_t>(labels_.size())}, absl::MakeSpan(labels_)}};
    Append(Scalars(), request);
    Append(ModelTensors(graph_, *model_), request);
    Append(OptimizerTensors(graph_, *optimizer_), request);
    NORMLAB_RETURN_IF_ERROR(DecodeSafetensors(bytes, "the request", request));
    for (size_t i = 0; i < labels_.size(); ++i) {
      network_->labels()[i] = static_cast<int32_t>(labels_[i]);
    }
    network_->SetStep(static_cast<int64_t>(step_));
    network_->ParametersChanged();
    auto loss = static_cast<float>(network_->Forward().loss);
    network_->Backward();
    UpdateParameters();
    std::vector<MutableTensor> reply = {{"loss", {1}, absl::MakeSpan(&loss, 1)}};
    Append(Gradients(), reply);
    Append(ModelTensors(graph_, *model_), reply);
    Append(OptimizerTensors(graph_, *optimizer_), reply);
    return EncodeSafetensors(AsConst(reply));
  }

  absl::StatusOr<std::string> Update(absl::string_view bytes) {
    std::vector<MutableTensor> request = Scalars();
    Append(Gradients(), request);
    Append(Parameters(), request);
    Append(OptimizerTensors(graph_, *optimizer_), request);
    NORMLAB_RETURN_IF_ERROR(DecodeSafetensors(bytes, "the request", request));
    UpdateParameters();
    std::vector<MutableTensor> reply = Parameters();
    Append(OptimizerTensors(graph_, *optimizer_), reply);
    return EncodeSafetensors(AsConst(reply));
  }

  const Graph graph_;
  std::unique_ptr<ModelState> model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Network> network_;
  std::vector<float> labels_;
  float learning_rate_ = 0;
  float step_ = 0;
};

absl::Status Serve() {
  std::string request;
  NORMLAB_ASSIGN_OR_RETURN(bool more, ReadFrame(stdin, request));
  if (!more) {
    return absl::InvalidArgumentError("no request; see the top of tests/parity/parity_step.cc");
  }
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, Engine::Create(request));
  NORMLAB_RETURN_IF_ERROR(WriteFrame(stdout, engine->Description()));
  for (;;) {
    NORMLAB_ASSIGN_OR_RETURN(more, ReadFrame(stdin, request));
    if (!more) {
      return absl::OkStatus();
    }
    NORMLAB_ASSIGN_OR_RETURN(const std::string reply, engine->Answer(request));
    NORMLAB_RETURN_IF_ERROR(WriteFrame(stdout, reply));
  }
}

}  // namespace
}  // namespace normlab::engine

int main() {
  const absl::Status status = normlab::engine::Serve();
  if (status.ok()) {
    return 0;
  }
  std::cerr << "normlab-parity-step: " << status.message() << "\n";
  const nlohmann::json error = {{"error", status.message()}};
  // The caller learns the reason from the reply, or not at all when it has gone.
  return normlab::engine::WriteFrame(stdout, error.dump()).ok() ? 1 : 2;
}
