#include <set>

#include "absl/strings/str_cat.h"

#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

constexpr int64_t kMaxProbes = 16;
constexpr int64_t kMaxEvery = 0x7FFFFFFF;
constexpr int64_t kMaxEtas = 100;
constexpr int64_t kMaxNoiseBatches = 1000;
constexpr int64_t kMaxProbeExamples = 10000000;
constexpr int64_t kMaxIterations = 1000;
constexpr int64_t kMaxPatterns = 100;

void ValidateEtas(const std::string& field,
                  const google::protobuf::RepeatedField<double>& etas,
                  Checker& checker) {
  if (etas.size() > kMaxEtas) {
    checker.Fail(field, absl::StrCat("has ", etas.size(), " values, but at most ", kMaxEtas,
                                     " are allowed; each costs a forward and backward pass"));
  }
  for (int i = 0; i < etas.size(); ++i) {
    checker.Real(absl::StrCat(field, "[", i, "]"), etas[i],
                 {.minimum = 0, .open_minimum = true, .maximum = kMaxReal},
                 "steps go along the gradient; give a positive number");
  }
}

void ValidateLandscape(const std::string& field,
                       const v1::Landscape& landscape,
                       const v1::JobSpec& spec,
                       Checker& checker) {
  ValidateEtas(absl::StrCat(field, ".learning_rate_multiples"), landscape.learning_rate_multiples(),
               checker);
  ValidateEtas(absl::StrCat(field, ".step_sizes"), landscape.step_sizes(), checker);
  if (!landscape.learning_rate_multiples().empty() && !landscape.step_sizes().empty()) {
    checker.Fail(absl::StrCat(field, ".step_sizes"),
                 "is given beside learning_rate_multiples; keep one of the two");
  }
  const bool plain_sgd = spec.optimizer().kind_case() == v1::Optimizer::KIND_NOT_SET ||
                         (spec.optimizer().has_sgd() && spec.optimizer().sgd().momentum() == 0);
  if (landscape.step_sizes().empty() && !plain_sgd) {
    checker.Fail(absl::StrCat(field, ".learning_rate_multiples"),
                 "means steps of plain SGD, but the optimizer has momentum or is another one; give "
                 "step_sizes instead, or train with plain SGD");
  }
}

void ValidateSharpness(const std::string& field, const v1::Sharpness& sharpness, Checker& checker) {
  if (sharpness.has_examples()) {
    checker.Range(absl::StrCat(field, ".examples"), sharpness.examples(), 1, kMaxProbeExamples,
                  "give the size of the fixed set; the default is one batch");
  }
  if (sharpness.has_iterations()) {
    checker.Range(absl::StrCat(field, ".iterations"), sharpness.iterations(), 1, kMaxIterations,
                  "the default is 20");
  }
}

void ValidateSurface(const std::string& field, const v1::LossSurface& surface, Checker& checker) {
  if (surface.has_dimensions()) {
    checker.Range(absl::StrCat(field, ".dimensions"), surface.dimensions(), 1, 2,
                  "use 1 for a curve, 2 for a surface");
  }
  if (surface.has_points()) {
    const bool curve = surface.has_dimensions() && surface.dimensions() == 1;
    checker.Range(absl::StrCat(field, ".points"), surface.points(), 3, curve ? 101 : 31,
                  "give the points along each direction; the default is 11");
    if (surface.points() % 2 == 0 && surface.points() > 0) {
      checker.Fail(absl::StrCat(field, ".points"),
                   absl::StrCat("is ", surface.points(),
                                ", but the middle point is the final weights; use an odd number"));
    }
  }
  if (surface.has_range()) {
    checker.Real(absl::StrCat(field, ".range"), surface.range(),
                 {.minimum = 0, .open_minimum = true, .maximum = 1e6},
                 "in norms of the weights; the default is 1");
  }
  if (surface.has_examples()) {
    checker.Range(absl::StrCat(field, ".examples"), surface.examples(), 1, kMaxProbeExamples,
                  "the default is 1024");
  }
}

void ValidateKind(const std::string& field,
                  const v1::Probe& probe,
                  const v1::JobSpec& spec,
                  Checker& checker) {
  switch (probe.kind_case()) {
    case v1::Probe::kLandscape:
      ValidateLandscape(absl::StrCat(field, ".landscape"), probe.landscape(), spec, checker);
      break;
    case v1::Probe::kGradientNoise:
      if (probe.gradient_noise().has_batches()) {
        checker.Range(absl::StrCat(field, ".gradient_noise.batches"),
                      probe.gradient_noise().batches(), 2, kMaxNoiseBatches,
                      "a variance needs at least 2; the default is 8");
      }
      break;
    case v1::Probe::kSharpness:
      ValidateSharpness(absl::StrCat(field, ".sharpness"), probe.sharpness(), checker);
      break;
    case v1::Probe::kLossSurface:
      ValidateSurface(absl::StrCat(field, ".loss_surface"), probe.loss_surface(), checker);
      break;
    case v1::Probe::KIND_NOT_SET:
      checker.Fail(field,
                   "names no probe; give one of activation_statistics, gradient_norms, "
                   "covariate_shift, landscape, gradient_noise, sharpness, scale_invariance, "
                   "normalizer_parameters and loss_surface, for example \"landscape\": {}");
      break;
    default:
      break;
  }
}

bool LooksAtLayers(v1::Probe::KindCase kind) {
  return kind == v1::Probe::kActivationStatistics || kind == v1::Probe::kGradientNorms ||
         kind == v1::Probe::kCovariateShift || kind == v1::Probe::kScaleInvariance;
}

}  // namespace

void ValidateProbes(const v1::JobSpec& spec, Checker& checker) {
  if (spec.probes_size() > kMaxProbes) {
    checker.Fail("probes", absl::StrCat("has ", spec.probes_size(), " entries, but at most ",
                                        kMaxProbes, " are allowed; remove some"));
    return;
  }
  std::set<v1::Probe::KindCase> kinds;
  for (int i = 0; i < spec.probes_size(); ++i) {
    const v1::Probe& probe = spec.probes(i);
    const std::string field = absl::StrCat("probes[", i, "]");
    ValidateKind(field, probe, spec, checker);
    if (probe.kind_case() != v1::Probe::KIND_NOT_SET && !kinds.insert(probe.kind_case()).second) {
      checker.Fail(field, "is of a kind that an earlier one has already; merge the two");
    }
    if (probe.has_every()) {
      checker.Range(absl::StrCat(field, ".every"), probe.every(), 1, kMaxEvery,
                    "give the steps from one run of the probe to the next; the default is 50");
      if (probe.has_loss_surface()) {
        checker.Fail(absl::StrCat(field, ".every"),
                     "is given, but the loss surface is computed once, at the end; leave it out");
      }
    }
    if (!probe.layers().empty() && !LooksAtLayers(probe.kind_case())) {
      checker.Fail(absl::StrCat(field, ".layers"),
                   "is given, but this probe does not look at single layers; leave it out");
    }
    if (probe.layers_size() > kMaxPatterns) {
      checker.Fail(absl::StrCat(field, ".layers"),
                   absl::StrCat("has ", probe.layers_size(), " patterns, but at most ",
                                kMaxPatterns, " are allowed; use wildcards such as features.*"));
    }
    for (int n = 0; n < probe.layers_size(); ++n) {
      checker.Text(absl::StrCat(field, ".layers[", n, "]"), probe.layers(n), kMaxTextCharacters);
    }
  }
}

}  // namespace normlab::engine
