#include "engine/spec/validate.h"

#include <algorithm>
#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

bool IsLabelKey(absl::string_view key) {
  return !key.empty() && static_cast<int64_t>(key.size()) <= kMaxLabelKeyBytes &&
         absl::ascii_islower(static_cast<unsigned char>(key[0])) &&
         std::all_of(key.begin(), key.end(), [](char c) {
           const auto byte = static_cast<unsigned char>(c);
           return absl::ascii_islower(byte) || absl::ascii_isdigit(byte) || c == '_' || c == '-';
         });
}

void ValidateLabels(const v1::JobSpec& spec, Checker& checker) {
  if (spec.labels_size() > kMaxLabels) {
    checker.Fail("labels", absl::StrCat("has ", spec.labels_size(), " entries, but at most ",
                                        kMaxLabels, " are allowed; remove some"));
  }
  // The order of a protobuf map is random; violations come in the order of keys.
  const std::map<std::string, std::string> labels(spec.labels().begin(), spec.labels().end());
  for (const auto& [key, value] : labels) {
    const std::string field = absl::StrCat("labels[", Quoted(key), "]");
    if (!IsLabelKey(key)) {
      checker.Fail(field,
                   absl::StrCat("has a key that is not a lower-case letter followed by at most ",
                                kMaxLabelKeyBytes - 1,
                                " lower-case letters, digits, '_' or '-'; rename it"));
    }
    checker.Text(field, value, kMaxTextCharacters);
  }
}

void ValidateTimeLimit(const google::protobuf::Duration& limit, Checker& checker) {
  const bool positive = limit.seconds() > 0 || (limit.seconds() == 0 && limit.nanos() > 0);
  const bool well_formed = limit.nanos() >= 0 && limit.nanos() < 1000000000;
  if (!positive || !well_formed || limit.seconds() > kMaxTimeLimitSeconds) {
    checker.Fail("time_limit",
                 absl::StrCat("is ", limit.seconds(), " s and ", limit.nanos(),
                              " ns, but must be more than 0 and at most ", kMaxTimeLimitSeconds,
                              " s; give for example \"3600s\", or leave it out for no limit"));
  }
}

}  // namespace

void ValidateJob(const v1::JobSpec& spec, Checker& checker) {
  if (spec.has_threads()) {
    checker.Range("threads", spec.threads(), 1, kMaxThreads, "give the number of cores to use");
  }
  checker.Range("priority", spec.priority(), -kMaxPriority, kMaxPriority,
                "larger runs earlier; the default is 0");
  ValidateLabels(spec, checker);
  checker.Range("max_retries", spec.max_retries(), 0, kMaxRetries,
                "give how often a failed worker may be started again");
  if (spec.has_time_limit()) {
    ValidateTimeLimit(spec.time_limit(), checker);
  }
  if (spec.has_slurm()) {
    ValidateSlurm(spec.slurm(), checker);
  }
  checker.Enum("precision", spec.precision(), v1::Precision::Kind_descriptor());
  checker.Enum("convolution_algorithm", spec.convolution_algorithm(),
               v1::ConvolutionAlgorithm::Kind_descriptor());
  ValidateNormalizationOverrides(spec, checker);
  ValidateDataParallel(spec, checker);
}

std::vector<Violation> Validate(const v1::JobSpec& spec) {
  Checker checker;
  checker.Text("display_name", spec.display_name(), kMaxTextCharacters);
  ValidateModel(spec, checker);
  ValidateNormalization(spec, checker);
  ValidateData(spec, checker);
  ValidateTraining(spec, checker);
  ValidateJob(spec, checker);
  ValidateProbes(spec, checker);
  ValidateUnknownFields(spec, checker);
  return checker.Take();
}

}  // namespace normlab::engine
