#include "engine/layers/observed_statistics.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <variant>

namespace normlab::engine {
namespace {

// Sets are `examples` examples of `channels` neighbouring channels, numbered row by row.
struct Sets {
  int64_t examples = 1;
  int64_t channels = 1;
  Dims dims;
};

// Sums over the values of every set; a function object over NodeKind says which sets.
class Observer {
 public:
  Observer(const Dims& in, int64_t batch, absl::Span<const float> x)
      : batch_(batch), channels_(in.front()), area_(ElementCount(in) / in.front()), x_(x) {}

  using Result = std::vector<ObservedStatistic>;

  Result operator()(const BatchNormNode&) const { return MeanAndVariance(Batch()); }
  Result operator()(const NoisyBatchNormNode& node) const {
    return node.normalize ? MeanAndVariance(Batch()) : Result{};
  }
  Result operator()(const BatchRenormNode&) const { return MeanAndVariance(Batch()); }
  Result operator()(const GhostBatchNormNode& node) const {
    return MeanAndVariance({node.size, 1, {batch_ / node.size, channels_}});
  }
  Result operator()(const GroupNormNode& node) const {
    const Dims dims = node.groups == 1 ? Dims{batch_} : Dims{batch_, node.groups};
    return MeanAndVariance({1, channels_ / node.groups, dims});
  }
  Result operator()(const RmsNormNode&) const {
    return {{"mean_square", {batch_}, MeanOf({1, channels_, {batch_}}, Square)}};
  }
  Result operator()(const FilterResponseNode&) const {
    const Dims dims = {batch_, channels_};
    return {{"mean_square", dims, MeanOf({1, 1, dims}, Square)}};
  }
  Result operator()(const LpBatchNormNode& node) const {
    return {{"mean", {channels_}, MeanOf(Batch(), Itself)},
            {"scale", {channels_}, Scale(node.power)}};
  }
  Result operator()(const MeanOnlyBatchNormNode&) const {
    return {{"mean", {channels_}, MeanOf(Batch(), Itself)}};
  }
  template <typename Other>
  Result operator()(const Other&) const {
    return {};
  }

 private:
  static double Itself(double x, size_t /*set*/) { return x; }
  static double Square(double x, size_t /*set*/) { return x * x; }
  static double Magnitude(double x, size_t /*set*/) { return std::abs(x); }

  Sets Batch() const { return {batch_, 1, {channels_}}; }

  // Calls visit(set, value) for every value, set by set in the same order of its values.
  template <typename Visit>
  void ForEach(const Sets& sets, const Visit& visit) const {
    const int64_t columns = channels_ / sets.channels;
    size_t at = 0;
    for (int64_t n = 0; n < batch_; ++n) {
      for (int64_t c = 0; c < channels_; ++c) {
        const auto set = static_cast<size_t>(n / sets.examples * columns + c / sets.channels);
        for (int64_t pixel = 0; pixel < area_; ++pixel) {
          visit(set, static_cast<double>(x_[at++]));
        }
      }
    }
  }

  // The mean of f(value, set) over every set.
  template <typename Function>
  std::vector<double> MeanOf(const Sets& sets, const Function& f) const {
    std::vector<double> sums(static_cast<size_t>(ElementCount(sets.dims)));
    ForEach(sets, [&](size_t set, double value) { sums[set] += f(value, set); });
    const auto count = static_cast<double>(sets.examples * sets.channels * area_);
    for (double& sum : sums) {
      sum /= count;
    }
    return sums;
  }

  Result MeanAndVariance(const Sets& sets) const {
    std::vector<double> mean = MeanOf(sets, Itself);
    std::vector<double> var = MeanOf(sets, [&mean](double value, size_t set) {
      return (value - mean[set]) * (value - mean[set]);
    });
    return {{"mean", sets.dims, std::move(mean)}, {"var", sets.dims, std::move(var)}};
  }

  std::vector<double> Scale(LpBatchNormNode::Power power) const {
    switch (power) {
      case LpBatchNormNode::Power::kOne:
        return MeanOf(Batch(), Magnitude);
      case LpBatchNormNode::Power::kTwo: {
        std::vector<double> scale = MeanOf(Batch(), Square);
        for (double& value : scale) {
          value = std::sqrt(value);
        }
        return scale;
      }
      case LpBatchNormNode::Power::kInfinity:
        break;
    }
    std::vector<double> largest(static_cast<size_t>(channels_));
    ForEach(Batch(), [&largest](size_t set, double value) {
      // Keeps a NaN, whichever side it is on.
      const double magnitude = std::abs(value);
      if (!(magnitude <= largest[set])) {
        largest[set] = std::isnan(largest[set]) ? largest[set] : magnitude;
      }
    });
    return largest;
  }

  const int64_t batch_;
  const int64_t channels_;
  const int64_t area_;
  const absl::Span<const float> x_;
};

}  // namespace

std::vector<ObservedStatistic> ObserveStatistics(const NodeKind& kind,
                                                 const Dims& in,
                                                 int64_t batch,
                                                 absl::Span<const float> x) {
  return std::visit(Observer(in, batch, x), kind);
}

}  // namespace normlab::engine
