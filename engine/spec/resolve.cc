#include "engine/spec/resolve.h"

#include "engine/spec/resolve_parts.h"

namespace normlab::engine {

v1::Normalizer Resolve(const v1::Normalizer& normalizer, int64_t batch_size) {
  v1::Normalizer resolved = normalizer;
  ResolveNormalizer(resolved, batch_size);
  return resolved;
}

v1::JobSpec Resolve(const v1::JobSpec& spec) {
  v1::JobSpec resolved = spec;
  ResolveModel(*resolved.mutable_model());
  if (resolved.has_data()) {
    ResolveData(*resolved.mutable_data());
  }
  ResolveTraining(resolved);
  ResolveNormalizer(*resolved.mutable_normalization(), resolved.batch_size());
  for (v1::NormalizationOverride& override : *resolved.mutable_normalization_overrides()) {
    ResolveNormalizer(*override.mutable_normalization(), resolved.batch_size());
  }
  for (v1::Probe& probe : *resolved.mutable_probes()) {
    ResolveProbe(probe, resolved.batch_size());
  }
  ResolveCheckpoint(*resolved.mutable_checkpoint());
  if (!resolved.has_threads()) {
    resolved.set_threads(1);
  }
  // One process stays unsaid: it is what every earlier job was.
  if (resolved.has_data_parallel()) {
    v1::DataParallel& parallel = *resolved.mutable_data_parallel();
    parallel.set_ranks(parallel.has_ranks() ? parallel.ranks() : 1);
    parallel.set_statistics_group(parallel.has_statistics_group() ? parallel.statistics_group()
                                                                  : 1);
  }
  if (resolved.precision() == v1::Precision::KIND_UNSPECIFIED) {
    resolved.set_precision(v1::Precision::F32);
  }
  if (resolved.convolution_algorithm() == v1::ConvolutionAlgorithm::KIND_UNSPECIFIED) {
    resolved.set_convolution_algorithm(v1::ConvolutionAlgorithm::AUTO);
  }
  return resolved;
}

}  // namespace normlab::engine
