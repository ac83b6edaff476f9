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

// A tensor of the network, by its position, and where its values are.
struct Match {
  size_t target = 0;
  const SafetensorsEntry* entry = nullptr;
  FloatFormat format = FloatFormat::kF32;
};

// Pairs tensors of network and file by name, and collects what does not fit.
class Matcher {
 public:
  Matcher(const InitialWeightsSource& source, const WeightsFile& file)
      : source_(source), file_(file), used_(source.ignore.size(), false) {}

  void MatchNetwork(absl::Span<const WeightShape> network) {
    for (size_t i = 0; i < network.size(); ++i) {
      const WeightShape& shape = network[i];
      known_.insert(shape.name);
      const auto found = file_.entries().find(shape.name);
      const bool missing = found == file_.entries().end();
      if (IsIgnored(shape.name) || (missing && IsRunningStatistic(shape.role))) {
        kept_.push_back(shape.name);
      } else if (missing) {
        problems_.push_back(absl::StrCat("has no tensor ", Shown(shape.name), ", which is ",
                                         DimsToString(shape.dims), " in this network"));
      } else {
        MatchOne(i, shape, found->second);
      }
    }
    for (const auto& [name, entry] : file_.entries()) {
      if (!known_.contains(name) && !IsIgnored(name) && !IsBatchCounter(name)) {
        problems_.push_back(absl::StrCat("has tensor ", Shown(name), " of ",
                                         DimsToString(entry.dims),
                                         ", which this network does not have"));
      }
    }
  }

  // Without the field's name.
  absl::Status status() const {
    if (problems_.empty()) {
      return absl::OkStatus();
    }
    const size_t shown = std::min(problems_.size(), kShownProblems);
    std::string text = absl::StrJoin(problems_.begin(), problems_.begin() + shown, "; it ");
    if (shown < problems_.size()) {
      absl::StrAppend(&text, "; and ", problems_.size() - shown, " more tensors do not fit");
    }
    return absl::FailedPreconditionError(
        absl::StrCat("names ", file_.path(), ", which ", text,
                     "; list what is meant to differ in initial_weights.ignore (for example "
                     "\"head.*\"), or name a file of this network's own names and shapes"));
  }

  const std::vector<Match>& matches() const { return matches_; }
  const std::vector<std::string>& kept() const { return kept_; }
  std::vector<std::string> unused() const {
    std::vector<std::string> patterns;
    for (size_t i = 0; i < used_.size(); ++i) {
      if (!used_[i]) {
        patterns.push_back(source_.ignore[i]);
      }
    }
    return patterns;
  }

 private:
  bool IsIgnored(absl::string_view name) {
    bool ignored = false;
    for (size_t i = 0; i < used_.size(); ++i) {
      if (common::WildcardMatch(source_.ignore[i], name)) {
        used_[i] = true;
        ignored = true;
      }
    }
    return ignored;
  }

  void MatchOne(size_t position, const WeightShape& shape, const SafetensorsEntry& entry) {
    const std::optional<FloatFormat> format = FloatFormatOf(entry.dtype);
    if (!SameShape(entry.dims, shape.dims)) {
      problems_.push_back(absl::StrCat("has tensor ", Shown(shape.name), " of ",
                                       DimsToString(entry.dims), ", but in this network it is ",
                                       DimsToString(shape.dims)));
    } else if (!format.has_value()) {
      problems_.push_back(absl::StrCat("has tensor ", Shown(shape.name), " of ",
                                       DimsToString(entry.dims), " in dtype ", Shown(entry.dtype),
                                       ", of which only F32, F16, BF16 and F64 are read"));
    } else if (entry.end - entry.begin != BytesOf(*format) * ElementCount(shape.dims)) {
      problems_.push_back(absl::StrCat("has tensor ", Shown(shape.name), " of ",
                                       DimsToString(entry.dims), ", but ", entry.end - entry.begin,
                                       " bytes of values for it"));
    } else {
      matches_.push_back({position, &entry, *format});
    }
  }

  const InitialWeightsSource& source_;
  const WeightsFile& file_;
  std::set<std::string> known_;
  std::vector<Match> matches_;
  std::vector<std::string> kept_;
  std::vector<std::string> problems_;
  std::vector<bool> used_;  // patterns of `ignore`
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

absl::Status ReadTensor(const WeightsFile& file,
                        const WeightTarget& target,
                        const Match& match,
                        std::vector<char>& buffer) {
  const MutableTensor& tensor = target.tensor;
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
      if (target.role == ParameterRole::kRunningVar && value < 0) {
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
  std::vector<WeightShape> network;
  network.reserve(targets.size());
  for (const WeightTarget& target : targets) {
    network.push_back({target.tensor.name, target.tensor.dims, target.role});
  }
  Matcher matcher(source, *file);
  matcher.MatchNetwork(network);
  if (const absl::Status status = matcher.status(); !status.ok()) {
    return OfField(status);
  }
  std::vector<char> buffer(static_cast<size_t>(kPieceValues * BytesOf(FloatFormat::kF64)));
  for (const Match& match : matcher.matches()) {
    NORMLAB_RETURN_IF_ERROR(ReadTensor(*file, targets[match.target], match, buffer));
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

absl::Status CheckInitialWeights(const InitialWeightsSource& source,
                                 absl::Span<const WeightShape> network,
                                 std::vector<std::string>& unused) {
  NORMLAB_ASSIGN_OR_RETURN(const WeightsFile file,
                           WeightsFile::Open(source.path, source.data_roots));
  Matcher matcher(source, file);
  matcher.MatchNetwork(network);
  unused = matcher.unused();
  return matcher.status();
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
