#pragma once

#include <cstdint>

#include "normlab/v1/spec.pb.h"

// The parts of Resolve, one file each. Internal to engine/spec.
namespace normlab::engine {

void ResolveModel(v1::Model& model);
// Also of overrides.
void ResolveNormalizer(v1::Normalizer& normalizer, int64_t batch_size);
void ResolveData(v1::Data& data);
void ResolveOptimizer(v1::Optimizer& optimizer);
void ResolveSchedule(v1::Schedule& schedule);
void ResolveProbe(v1::Probe& probe, int64_t batch_size);
void ResolveCheckpoint(v1::CheckpointPolicy& checkpoint);
// Optimizer, schedule, initializer, batch size, budget, evaluation, loss.
void ResolveTraining(v1::JobSpec& spec);

}  // namespace normlab::engine
