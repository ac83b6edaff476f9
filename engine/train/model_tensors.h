#pragma once

#include <string>
#include <vector>

#include "absl/types/span.h"

#include "engine/checkpoint/initial_weights.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/graph/graph.h"
#include "engine/optim/optimizer.h"
#include "engine/train/network.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// Views of everything that a checkpoint holds of the model: parameters, then running statistics, in
// the graph's order, without the gaps of the arenas. They die with `model`.
std::vector<MutableTensor> ModelTensors(const Graph& graph, ModelState& model);

// The same tensors as ModelTensors, to be overwritten by initial weights.
std::vector<WeightTarget> WeightTargets(const Graph& graph, ModelState& model);

// Views of the optimizer's state, "<slot>.<parameter>". They die with `optimizer`.
std::vector<MutableTensor> OptimizerTensors(const Graph& graph, Optimizer& optimizer);

// Its counters. They die with `optimizer`.
std::vector<MutableCounter> OptimizerCounters(Optimizer& optimizer);

std::vector<ConstTensor> AsConst(const std::vector<MutableTensor>& tensors);
std::vector<ConstCounter> AsConst(const std::vector<MutableCounter>& counters);

// SHA-256, in hexadecimal, of the values of all tensors one after the other.
std::string WeightsSha256(const std::vector<MutableTensor>& tensors);

// False when a value is NaN or infinite.
bool AllFinite(absl::Span<const float> values);

// SHA-256 of what determines a run's numbers: the resolved spec without names, labels, priority,
// retries, time limit and checkpoint policy, which may change without making it another run. How many
// ranks share a batch counts only where batch statistics (HasBatchStatistics) are of parts of it:
// elsewhere it changes no more than the order of summation, as `threads` does, and a run may go on
// with other ranks.
std::string TrainingSpecSha256(const v1::JobSpec& resolved, bool batch_statistics);

}  // namespace normlab::engine
