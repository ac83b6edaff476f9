#pragma once

#include "engine/spec/checker.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// The parts of Validate, internal to engine/spec.
void ValidateModel(const v1::JobSpec& spec, Checker& checker);
void ValidateNormalization(const v1::Normalizer& normalization, Checker& checker);
void ValidateData(const v1::JobSpec& spec, Checker& checker);
// Its oneof alone.
void ValidateSource(const v1::Data& data, Checker& checker);
void ValidateTraining(const v1::JobSpec& spec, Checker& checker);
void ValidateOptimizer(const v1::Optimizer& optimizer, Checker& checker);
void ValidateSchedule(const v1::Schedule& schedule, Checker& checker);
void ValidateInitializer(const v1::Initializer& initializer, Checker& checker);
void ValidateInitialWeights(const v1::InitialWeights& weights, Checker& checker);
// A newer client may choose a member of a oneof that this version does not know: it would silently
// mean the default.
void ValidateUnknownFields(const v1::JobSpec& spec, Checker& checker);
void ValidateJob(const v1::JobSpec& spec, Checker& checker);

}  // namespace normlab::engine
