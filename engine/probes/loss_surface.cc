#include "engine/probes/loss_surface.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/random.h"
#include "engine/probes/vector_math.h"

namespace normlab::engine {

LossSurfaceProbe::LossSurfaceProbe(ProbeWorkspace& workspace, const LossSurfaceOptions& options)
    : workspace_(workspace), options_(options) {
  const int rows = options_.dimensions == 2 ? options_.points : 1;
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < options_.points; ++column) {
      std::string name = absl::StrFormat("loss_surface/%.4g", Coordinate(column));
      if (options_.dimensions == 2) {
        absl::StrAppendFormat(&name, ",%.4g", Coordinate(row));
      }
      series_.push_back(std::move(name));
    }
  }
}

double LossSurfaceProbe::Coordinate(int index) const {
  const int middle = options_.points / 2;
  return options_.range * (index - middle) / middle;  // exactly 0 in the middle
}

Arena LossSurfaceProbe::Direction(int number, absl::Span<const float> parameters) const {
  Arena direction(static_cast<int64_t>(parameters.size()));
  const common::RandomStream random(options_.seed, "probes/surface");
  for (const ParameterSpec& spec : workspace_.graph().parameters()) {
    if (spec.role != ParameterRole::kWeight) {
      continue;
    }
    const int64_t filters = spec.dims.front();
    const int64_t size = spec.count / filters;
    for (int64_t filter = 0; filter < filters; ++filter) {
      const auto first = static_cast<size_t>(spec.offset + filter * size);
      const absl::Span<float> d = direction.span().subspan(first, static_cast<size_t>(size));
      for (size_t i = 0; i < d.size(); ++i) {
        d[i] = static_cast<float>(random.Normal(static_cast<uint64_t>(number), first + i));
      }
      const double norm = std::sqrt(SquaredNorm(d));
      const double wanted = std::sqrt(SquaredNorm(parameters.subspan(first, d.size())));
      for (float& value : d) {
        value = norm > 0 ? static_cast<float>(value * wanted / norm) : 0;
      }
    }
  }
  return direction;
}

bool LossSurfaceProbe::AtEnd(absl::Span<const float> parameters,
                             absl::Span<const float> statistics,
                             const std::stop_token& stop,
                             absl::Span<double> values) {
  std::copy(statistics.begin(), statistics.end(), workspace_.statistics().begin());
  const Arena x = Direction(0, parameters);
  const Arena y = Direction(1, parameters);
  const absl::Span<float> at = workspace_.parameters();
  for (size_t i = 0; i < values.size(); ++i) {
    if (stop.stop_requested()) {
      return false;
    }
    const int column = static_cast<int>(i) % options_.points;
    AddScaled(parameters, Coordinate(column), x.span(), at);
    if (options_.dimensions == 2) {
      AddScaled(at, Coordinate(static_cast<int>(i) / options_.points), y.span(), at);
    }
    double sum = 0;
    for (int batch = 0; batch < options_.batches; ++batch) {
      sum += workspace_.EvaluationLossOnFixedBatch(batch);
    }
    const double loss = sum / options_.batches;
    values[i] = std::isfinite(loss) ? loss : std::numeric_limits<double>::infinity();
  }
  return true;
}

}  // namespace normlab::engine
