#include "engine/checkpoint/initial_weights.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/status_macros.h"
#include "common/wildcard.h"
#include "engine/checkpoint/float_conversion.h"
#include "engine/checkpoint/weights_file.h"

namespace normlab::engine {
namespace {

constexpr char kField[] = "initial_weights.path ";
constexpr absl::string_view kBatchCounter = "num_batches_tracked";
constexpr size_t kShownProblems = 10;
constexpr size_t kShownNameBytes = 100;
// Values that are converted at a time.
constexpr int64_t kPieceValues = int64_t{1} << 17;

// With the field's name in front.
absl::Status OfField(const absl::Status& status) {
  return {status.code(), absl::StrCat(kField, status.message())};
}

std::string Shown(absl::string_view name) {
  return absl::StrCat("\"", absl::CHexEscape(name.substr(0, kShownNameBytes)), "\"");
}

bool IsIgnored(const std::vector<std::string>& patterns, absl::string_view name) {
  return std::any_of(patterns.begin(), patterns.end(), [name](const std::string& pattern) {
    return common::WildcardMatch(pattern, name);
  });
}

// Not a parameter: how many batches PyTorch's batch norm has seen.
bool IsBatchCounter(absl::string_view name) {
  return name == kBatchCounter || absl::EndsWith(name, absl::StrCat(".", kBatchCounter));
}

bool IsRunningStatistic(ParameterRole role) {
  return role == ParameterRole::kRunningMean || role == ParameterRole::kRunningVar;
}

bool SameShape(const Dims& a, const Dims& b) {
  const Dims single = {1};
  return a == b || (a.empty() && b == single) || (b.empty() && a == single);
}

// A target and where its values are.
struct Match {
  const WeightTarget* target = nullptr;
  const SafetensorsEntry* entry = nullptr;
  FloatFormat format = FloatFormat::kF32;
};

// Pairs targets and tensors by name, and collects what does not fit.
class Matcher {
 public:
  Matcher(const InitialWeightsSource& source, const WeightsFile& file)
      : source_(source), file_(file) {}

  void MatchTargets(absl::Span<const WeightTarget> targets) {
    for (const WeightTarget& target : targets) {
      const MutableTensor& tensor = target.tensor;
      known_.insert(tensor.name);
      const auto found = file_.entries().find(tensor.name);
      const bool missing = found == file_.entries().end();
      if (IsIgnored(source_.ignore, tensor.name) || (missing && IsRunningStatistic(target.role))) {
        kept_.push_back(tensor.name);
      } else if (missing) {
        problems_.push_back(absl::StrCat("has no tensor ", Shown(tensor.name), ", which is ",
                                         DimsToString(tensor.dims), " in this network"));
      } else {
        MatchOne(target, found->second);
      }
    }
  }

  void FindForeigners() {
    for (const auto& [name, entry] : file_.entries()) {
      if (!known_.contains(name) && !IsBatchCounter(name) && !IsIgnored(source_.ignore, name)) {
        problems_.push_back(absl::StrCat("has tensor ", Shown(name), " of ",
                                         DimsToString(entry.dims),
                                         ", which this network does not have"));
      }
    }
  }

  absl::Status status() const {
    if (problems_.empty()) {
      return absl::OkStatus();
    }
    const size_t shown = std::min(problems_.size(), kShownProblems);
    std::string text = absl::StrJoin(problems_.begin(), problems_.begin() + shown, "; it ");
    if (shown < problems_.size()) {
      absl::StrAppend(&text, "; and ", problems_.size() - shown, " more tensors do not fit");
    }
    return absl::FailedPreconditionError(absl::StrCat(
        kField, "names ", file_.path(), ", which ", text,
        "; list what is meant to differ in initial_weights.ignore (for example \"head.*\"), or "
        "name a file of this network's own names and shapes"));
  }

  const std::vector<Match>& matches() const { return matches_; }
  const std::vector<std::string>& kept() const { return kept_; }

 private:
  void MatchOne(const WeightTarget& target, const SafetensorsEntry& entry) {
    const MutableTensor& tensor = target.tensor;
    const std::optional<FloatFormat> format = FloatFormatOf(entry.dtype);
    if (!SameShape(entry.dims, tensor.dims)) {
      problems_.push_back(absl::StrCat("has tensor ", Shown(tensor.name), " of ",
                                       DimsToString(entry.dims), ", but in this network it is ",
                                       DimsToString(tensor.dims)));
    } else if (!format.has_value()) {
      problems_.push_back(absl::StrCat("has tensor ", Shown(tensor.name), " of ",
                                       DimsToString(entry.dims), " in dtype ", Shown(entry.dtype),
                                       ", of which only F32, F16, BF16 and F64 are read"));
    } else if (entry.end - entry.begin !=
               BytesOf(*format) * static_cast<int64_t>(tensor.values.size())) {
      problems_.push_back(absl::StrCat("has tensor ", Shown(tensor.name), " of ",
                                       DimsToString(entry.dims), ", but ", entry.end - entry.begin,
                                       " bytes of values for it"));
    } else {
      matches_.push_back({&target, &entry, *format});
    }
  }

  const InitialWeightsSource& source_;
  const WeightsFile& file_;
  std::set<std::string> known_;
  std::vector<Match> matches_;
  std::vector<std::string> kept_;
  std::vector<std::string> problems_;
};

absl::Status BadValue(const WeightsFile& file,
                      const MutableTensor& tensor,
                      int64_t index,
                      absl::string_view what) {
  return absl::DataLossError(absl::StrCat(kField, "names ", file.path(), ", in which value ", index,
                                          " of tensor ", Shown(tensor.name), " (",
                                          DimsToString(tensor.dims), ") is ", what,
                                          "; use another file, or list this tensor in "
                                          "initial_weights.ignore to initialize it"));
}

absl::Status ReadTensor(const WeightsFile& file, const Match& match, std::vector<char>& buffer) {
  const MutableTensor& tensor = match.target->tensor;
  const auto count = static_cast<int64_t>(tensor.values.size());
  const int64_t value_bytes = BytesOf(match.format);
  for (int64_t first = 0; first < count; first += kPieceValues) {
    const int64_t size = std::min(kPieceValues, count - first);
    const absl::Span<char> bytes =
        absl::MakeSpan(buffer.data(), static_cast<size_t>(size * value_bytes));
    const absl::Status status = file.Read(*match.entry, first * value_bytes, bytes);
    if (!status.ok()) {
      return OfField(status);
    }
    const absl::Span<float> values =
        tensor.values.subspan(static_cast<size_t>(first), static_cast<size_t>(size));
    ConvertToFloat(match.format, {bytes.data(), bytes.size()}, values);
    for (int64_t i = 0; i < size; ++i) {
      const float value = values[static_cast<size_t>(i)];
      if (!std::isfinite(value)) {
        return BadValue(file, tensor, first + i, "not a finite float");
      }
      if (match.target->role == ParameterRole::kRunningVar && value < 0) {
        return BadValue(file, tensor, first + i, absl::StrCat("a negative variance, ", value));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<InitialWeightsSummary> ReadInitialWeights(const InitialWeightsSource& source,
                                                         absl::Span<const WeightTarget> targets) {
  const absl::StatusOr<WeightsFile> file = WeightsFile::Open(source.path, source.data_roots);
  if (!file.ok()) {
    return OfField(file.status());
  }
  Matcher matcher(source, *file);
  matcher.MatchTargets(targets);
  matcher.FindForeigners();
  NORMLAB_RETURN_IF_ERROR(matcher.status());
  std::vector<char> buffer(static_cast<size_t>(kPieceValues * BytesOf(FloatFormat::kF64)));
  for (const Match& match : matcher.matches()) {
    NORMLAB_RETURN_IF_ERROR(ReadTensor(*file, match, buffer));
  }
  InitialWeightsSummary summary;
  // Last: it also tells whether the file changed while its tensors were read.
  absl::StatusOr<std::string> sha256 = file->Sha256();
  if (!sha256.ok()) {
    return OfField(sha256.status());
  }
  summary.sha256 = *std::move(sha256);
  summary.path = file->path();
  summary.read = static_cast<int>(matcher.matches().size());
  summary.kept = matcher.kept();
  return summary;
}

absl::Status CheckWeightsFile(const std::string& path, absl::Span<const std::string> data_roots) {
  NORMLAB_ASSIGN_OR_RETURN(const WeightsFile file, WeightsFile::Open(path, data_roots));
  const bool any = std::any_of(file.entries().begin(), file.entries().end(), [](const auto& entry) {
    return FloatFormatOf(entry.second.dtype).has_value();
  });
  if (!any) {
    return absl::InvalidArgumentError(
        absl::StrCat("names ", file.path(),
                     ", which has no tensor of F32, F16, BF16 or F64; name a file with weights"));
  }
  return absl::OkStatus();
}

}  // namespace normlab::engine
