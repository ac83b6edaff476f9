#include <algorithm>

#include "absl/strings/str_cat.h"

#include "engine/spec/defaults.h"
#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

// The settings that several kinds share, at the same names.
class Settings {
 public:
  Settings(std::string field, Checker& checker) : field_(std::move(field)), checker_(checker) {}

  // From `minimum` on.
  void Real(const char* name, bool is_set, double value, double minimum, const char* hint) {
    if (is_set) {
      checker_.Real(Path(name), value, {.minimum = minimum, .maximum = kMaxReal}, hint);
    }
  }
  template <typename Message>
  void Epsilon(const Message& message, const char* hint = "the default is 1e-5") {
    Real("epsilon", message.has_epsilon(), message.epsilon(), 0, hint);
  }
  template <typename Message>
  void Rate(const Message& message) {
    if (message.has_running_update_rate()) {
      checker_.Real(
          Path("running_update_rate"), message.running_update_rate(),
          {.minimum = 0, .open_minimum = true, .maximum = 1},
          "it is the weight of the new batch in the running statistics; the default is 0.1");
    }
  }
  template <typename Message>
  void Batch(const Message& message) {
    Epsilon(message);
    Rate(message);
  }
  template <typename Message>
  void Groups(const Message& message) {
    Epsilon(message);
    if (message.has_groups()) {
      checker_.Range(Path("groups"), message.groups(), 1, kMaxDenseWidth,
                     "give a number that divides the channels of every layer, or leave it out");
    }
  }

  std::string Path(const char* name) const { return absl::StrCat(field_, ".", name); }

 private:
  const std::string field_;
  Checker& checker_;
};

void CheckGhostSize(const std::string& field,
                    const v1::GhostBatchNorm& ghost,
                    int64_t batch_size,
                    Checker& checker) {
  if (ghost.has_ghost_size()) {
    checker.Range(field, ghost.ghost_size(), 1, kMaxBatchSize,
                  "give the examples that are normalized together; the default is 32");
  }
  const int64_t size =
      ghost.has_ghost_size() ? ghost.ghost_size() : std::min(kDefaultGhostSize, batch_size);
  if (batch_size < 1 || size < 1 || size > kMaxBatchSize || batch_size % size == 0) {
    return;
  }
  int64_t divisor = std::min(size, batch_size);
  while (batch_size % divisor != 0) {
    --divisor;
  }
  checker.Fail(field, absl::StrCat("is ", size, ghost.has_ghost_size() ? "" : " (the default)",
                                   ", which does not divide the batch size of ", batch_size,
                                   "; use for example ", divisor, ", or another batch_size"));
}

// Fixup and SkipInit are about residual branches.
void ValidateResidualScheme(const v1::JobSpec& spec, Checker& checker) {
  const v1::Normalizer& normalizer = spec.normalization();
  if (!normalizer.has_fixup() && !normalizer.has_skip_init()) {
    return;
  }
  const std::string field =
      absl::StrCat("normalization.", normalizer.has_fixup() ? "fixup" : "skip_init");
  const v1::ResNet& resnet = spec.model().resnet();
  if (!spec.model().has_resnet() || (resnet.has_skip_connections() && !resnet.skip_connections())) {
    checker.Fail(
        field, absl::StrCat("is for residual networks only, but the model ",
                            spec.model().has_resnet() ? "has no skip connections" : "is no resnet",
                            "; use a resnet with skip_connections, or another normalizer"));
  }
  if (normalizer.has_fixup() && spec.normalization_overrides_size() > 0) {
    checker.Fail("normalization_overrides",
                 "cannot go with fixup, whose initial weights are right only where there is no "
                 "normalizer at all; remove them, or use skip_init");
  }
}

}  // namespace

void ValidateNormalizer(const std::string& field,
                        const v1::Normalizer& normalizer,
                        int64_t batch_size,
                        Checker& checker) {
  const auto at = [&](const char* kind) {
    return Settings(absl::StrCat(field, ".", kind), checker);
  };
  switch (normalizer.kind_case()) {
    case v1::Normalizer::kBatch:
      at("batch").Batch(normalizer.batch());
      break;
    case v1::Normalizer::kNoisyBatch: {
      const v1::NoisyBatchNorm& noisy = normalizer.noisy_batch();
      Settings settings = at("noisy_batch");
      settings.Batch(noisy);
      settings.Real("mean_range", noisy.has_mean_range(), noisy.mean_range(), 0,
                    "the default is 0.5");
      settings.Real("deviation_range", noisy.has_deviation_range(), noisy.deviation_range(), 1,
                    "deviations are drawn from 1 up to it; the default is 1.25");
      settings.Real("mean_jitter", noisy.has_mean_jitter(), noisy.mean_jitter(), 0,
                    "the default is 0.1");
      settings.Real("deviation_jitter", noisy.has_deviation_jitter(), noisy.deviation_jitter(), 0,
                    "the default is 0.1");
      break;
    }
    case v1::Normalizer::kLayer:
      at("layer").Epsilon(normalizer.layer());
      break;
    case v1::Normalizer::kGroup:
      at("group").Groups(normalizer.group());
      break;
    case v1::Normalizer::kInstance:
      at("instance").Epsilon(normalizer.instance());
      break;
    case v1::Normalizer::kRms:
      at("rms").Epsilon(normalizer.rms());
      break;
    case v1::Normalizer::kWeightStandardization:
      at("weight_standardization").Groups(normalizer.weight_standardization());
      break;
    case v1::Normalizer::kBatchRenorm: {
      const v1::BatchRenorm& renorm = normalizer.batch_renorm();
      Settings settings = at("batch_renorm");
      settings.Batch(renorm);
      settings.Real("r_max", renorm.has_r_max(), renorm.r_max(), 1,
                    "it is the largest correction of the scale; the default is 3");
      settings.Real("d_max", renorm.has_d_max(), renorm.d_max(), 0,
                    "it is the largest correction of the shift; the default is 5");
      break;
    }
    case v1::Normalizer::kGhostBatch: {
      Settings settings = at("ghost_batch");
      settings.Batch(normalizer.ghost_batch());
      CheckGhostSize(settings.Path("ghost_size"), normalizer.ghost_batch(), batch_size, checker);
      break;
    }
    case v1::Normalizer::kL1Batch:
      at("l1_batch").Batch(normalizer.l1_batch());
      break;
    case v1::Normalizer::kL2Batch:
      at("l2_batch").Batch(normalizer.l2_batch());
      break;
    case v1::Normalizer::kLinfBatch:
      at("linf_batch").Batch(normalizer.linf_batch());
      break;
    case v1::Normalizer::kFilterResponse:
      at("filter_response").Epsilon(normalizer.filter_response(), "the default is 1e-6");
      break;
    case v1::Normalizer::kDyt:
      at("dyt").Real("initial_alpha", normalizer.dyt().has_initial_alpha(),
                     normalizer.dyt().initial_alpha(), -kMaxReal, "the default is 0.5");
      break;
    case v1::Normalizer::kMeanOnlyBatch:
      at("mean_only_batch").Rate(normalizer.mean_only_batch());
      break;
    case v1::Normalizer::kFrozenBatch:
      at("frozen_batch").Epsilon(normalizer.frozen_batch());
      break;
    case v1::Normalizer::kSkipInit:
      at("skip_init")
          .Real("initial_scale", true, normalizer.skip_init().initial_scale(), -kMaxReal,
                "the default is 0");
      break;
    case v1::Normalizer::kNone:
    case v1::Normalizer::kWeight:
    case v1::Normalizer::kFixup:
    case v1::Normalizer::KIND_NOT_SET:
      break;
  }
  checker.Enum(absl::StrCat(field, ".placement"), normalizer.placement(),
               v1::Placement::Kind_descriptor());
}

void ValidateNormalization(const v1::JobSpec& spec, Checker& checker) {
  const int64_t batch_size = spec.has_batch_size() ? spec.batch_size() : kDefaultBatchSize;
  ValidateNormalizer("normalization", spec.normalization(), batch_size, checker);
  ValidateResidualScheme(spec, checker);
}

void ValidateNormalizationOverrides(const v1::JobSpec& spec, Checker& checker) {
  const int size = spec.normalization_overrides_size();
  if (size > kMaxOverrides) {
    checker.Fail("normalization_overrides",
                 absl::StrCat("has ", size, " entries, but at most ", kMaxOverrides,
                              " are allowed; let one pattern match several layers ('*' stands for "
                              "any characters)"));
  }
  const int64_t batch_size = spec.has_batch_size() ? spec.batch_size() : kDefaultBatchSize;
  const int checked = static_cast<int>(std::min<int64_t>(size, kMaxOverrides));
  for (int i = 0; i < checked; ++i) {
    const v1::NormalizationOverride& override = spec.normalization_overrides(i);
    const std::string field = absl::StrCat("normalization_overrides[", i, "]");
    if (override.layers().empty()) {
      checker.Fail(absl::StrCat(field, ".layers"),
                   "is missing; name a weight layer, for example \"conv1\" or \"layer2.*\"");
    }
    checker.Text(absl::StrCat(field, ".layers"), override.layers(), kMaxTextCharacters);
    const v1::Normalizer& normalizer = override.normalization();
    const std::string path = absl::StrCat(field, ".normalization");
    if (normalizer.kind_case() == v1::Normalizer::KIND_NOT_SET) {
      checker.Fail(path, "is missing; name a normalizer, for example {\"none\": {}}");
    } else if (normalizer.has_fixup() || normalizer.has_skip_init()) {
      checker.Fail(path, absl::StrCat("is ", normalizer.has_fixup() ? "fixup" : "skip_init",
                                      ", which is for a whole network; set it in normalization"));
    }
    ValidateNormalizer(path, normalizer, batch_size, checker);
  }
}

}  // namespace normlab::engine
