#include "engine/layers/normalization/row_normalizer.h"

namespace normlab::engine {
namespace {

size_t Size(int64_t count) {
  return static_cast<size_t>(count);
}

}  // namespace

RowNormalizer::RowNormalizer(int64_t rows,
                             int64_t columns,
                             const RowNormalizerOptions& options,
                             const NormalizerTensors& tensors)
    : shape_{rows, columns, options.groups},
      options_(options),
      tensors_(tensors),
      statistics_(Size(rows * options.groups)),
      ones_(tensors.gamma == nullptr ? Size(columns) : 0, 1.0F),
      zeros_(tensors.beta == nullptr ? Size(columns) : 0, 0.0F) {}

RowNormalizer::Tables RowNormalizer::CutTables(ScratchCutter& cutter) const {
  const int64_t sets = shape_.rows * shape_.groups;
  Tables tables = {};
  for (double*& sums : tables.sums) {
    sums = cutter.Cut<double>(sets);
  }
  for (float** table : {&tables.shift, &tables.inverse, &tables.offset, &tables.q, &tables.r}) {
    *table = cutter.Cut<float>(sets);
  }
  return tables;
}

int64_t RowNormalizer::scratch_bytes() const {
  ScratchCutter cutter(nullptr);
  CutTables(cutter);
  return cutter.bytes();
}

RowAffine RowNormalizer::MakeAffine(const Tables& tables) const {
  const bool centred = options_.formula.centred;
  for (size_t i = 0; i < statistics_.size(); ++i) {
    const SetStatistics& set = statistics_[i];
    const double inverse = 1 / ScaleOf(options_.formula, set.magnitude);
    tables.shift[i] = centred ? static_cast<float>(set.mean) : 0.0F;
    tables.inverse[i] = static_cast<float>(inverse);
    // What rounding the shift to float leaves of the mean.
    const double left = static_cast<double>(tables.shift[i]) - set.mean;
    tables.offset[i] = centred ? static_cast<float>(inverse * left) : 0.0F;
  }
  return {tables.shift,
          tables.inverse,
          tables.offset,
          tensors_.gamma == nullptr ? ones_.data() : tensors_.gamma,
          tensors_.beta == nullptr ? zeros_.data() : tensors_.beta,
          options_.relu};
}

void RowNormalizer::Forward(const float* x, float* y, std::byte* scratch) {
  ScratchCutter cutter(scratch);
  const Tables tables = CutTables(cutter);
  // A row's groups look like channels whose images lie one after the other.
  const ChannelBlocking sets = {shape_.rows, shape_.groups, shape_.group_size(), 1};
  ComputeMoments(
      sets,
      options_.formula.centred ? ChannelStatistic::kCentredSquares : ChannelStatistic::kSquares, x,
      tables.sums[0], tables.sums[1]);
  for (size_t i = 0; i < statistics_.size(); ++i) {
    statistics_[i] = {tables.sums[0][i],
                      tables.sums[1][i] / static_cast<double>(shape_.group_size())};
  }
  ApplyRowAffine(shape_, MakeAffine(tables), x, y);
}

void RowNormalizer::Backward(const float* x, const float* d_y, float* d_x, std::byte* scratch) {
  ScratchCutter cutter(scratch);
  const Tables tables = CutTables(cutter);
  const RowAffine affine = MakeAffine(tables);
  double* sum_g = tables.sums[0];
  double* sum_gx = tables.sums[1];
  SumRowGradients(shape_, affine, x, d_y, sum_g, sum_gx);
  if (tensors_.d_gamma != nullptr || tensors_.d_beta != nullptr) {
    SumColumnGradients(shape_, affine, x, d_y, tensors_.d_gamma, tensors_.d_beta);
  }
  for (size_t i = 0; i < statistics_.size(); ++i) {
    const SetStatistics& set = statistics_[i];
    const double left =
        options_.formula.centred ? set.mean - static_cast<double>(tables.shift[i]) : 0;
    const SetGradient gradient = GradientOfSet(options_.formula, set, {}, shape_.group_size(),
                                               sum_g[i], sum_gx[i] - left * sum_g[i]);
    tables.q[i] = static_cast<float>(gradient.q);
    tables.r[i] = static_cast<float>(gradient.offset - gradient.q * left);
  }
  ApplyRowGradient(shape_, affine, tables.q, tables.r, x, d_y, d_x);
}

}  // namespace normlab::engine
