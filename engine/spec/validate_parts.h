#pragma once

#include <cstdint>
#include <string>

#include "engine/spec/checker.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// The parts of Validate, internal to engine/spec.
void ValidateModel(const v1::JobSpec& spec, Checker& checker);
void ValidateCustomModel(const v1::CustomModel& custom, Checker& checker);
// Of convolution blocks and custom models alike.
void ValidatePooling(const std::string& field, const v1::Pooling& pooling, Checker& checker);
void ValidateConvolution(const std::string& field,
                         const v1::ConvolutionBlock& convolution,
                         Checker& checker);
void ValidateConvolution(const std::string& field,
                         const v1::ConvolutionLayer& convolution,
                         Checker& checker);
// The ranges of one normalizer, wherever it stands. `batch_size`: of the job, for ghost batches; 0:
// unknown.
void ValidateNormalizer(const std::string& field,
                        const v1::Normalizer& normalizer,
                        int64_t batch_size,
                        Checker& checker);
// The job's normalizer, and whether its model can have it.
void ValidateNormalization(const v1::JobSpec& spec, Checker& checker);
void ValidateNormalizationOverrides(const v1::JobSpec& spec, Checker& checker);
void ValidateDataParallel(const v1::JobSpec& spec, Checker& checker);
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
void ValidateProbes(const v1::JobSpec& spec, Checker& checker);
void ValidateJob(const v1::JobSpec& spec, Checker& checker);
// Whether Slurm knows such names only it can say.
void ValidateSlurm(const v1::Slurm& slurm, Checker& checker);

}  // namespace normlab::engine
