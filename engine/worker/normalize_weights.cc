#include "engine/worker/normalize_weights.h"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "engine/graph/graph.h"
#include "engine/layers/normalization/weight_normalization.h"
#include "engine/worker/normalize_tensors.h"

namespace normlab::engine {
namespace {

constexpr char kGain[] = "weight_g";

// The weights of a request as a matrix [outputs, fan_in], and what is made from them.
struct Matrix {
  Dims dims;
  int64_t outputs = 0;
  int64_t fan_in = 0;
  const float* v = nullptr;
};

// Mean and sum of squared differences from it (of squares, without `centred`) of every output, in
// double.
struct RowMoments {
  std::vector<double> mean;
  std::vector<double> squares;
};

RowMoments MomentsOf(const Matrix& matrix, bool centred) {
  RowMoments moments;
  const float* row = matrix.v;
  for (int64_t output = 0; output < matrix.outputs; ++output, row += matrix.fan_in) {
    double mean = 0;
    for (int64_t i = 0; i < matrix.fan_in && centred; ++i) {
      mean += row[i];
    }
    mean /= static_cast<double>(matrix.fan_in);
    double squares = 0;
    for (int64_t i = 0; i < matrix.fan_in; ++i) {
      squares += (row[i] - mean) * (row[i] - mean);
    }
    moments.mean.push_back(mean);
    moments.squares.push_back(squares);
  }
  return moments;
}

void RunWeightNorm(const v1::NormalizeRequest& request,
                   const Matrix& matrix,
                   v1::NormalizeResult& result) {
  Dims gain_dims(matrix.dims.size(), 1);
  gain_dims[0] = matrix.outputs;
  std::vector<float> gain(static_cast<size_t>(matrix.outputs));
  WeightNormalization norm(matrix.outputs, matrix.fan_in);
  norm.Norms(matrix.v, gain.data());
  if (const auto given = request.parameters().find(kGain); given != request.parameters().end()) {
    if (!CheckShape(kGain, given->second, gain_dims, "weight", result)) {
      return;
    }
    Take(given->second, absl::MakeSpan(gain));
  }
  v1::NormalizeResponse& response = *result.mutable_response();
  std::vector<float> w(static_cast<size_t>(matrix.outputs * matrix.fan_in));
  norm.Forward(matrix.v, gain.data(), w.data());
  Put(matrix.dims, absl::MakeConstSpan(w), *response.mutable_output());
  if (request.has_output_gradient()) {
    std::vector<float> d_gain(gain.size());
    std::vector<float>& d_v = w;
    norm.Backward(matrix.v, gain.data(), request.output_gradient().values().data(), d_v.data(),
                  d_gain.data());
    Put(matrix.dims, absl::MakeConstSpan(d_v), *response.mutable_input_gradient());
    Put(gain_dims, absl::MakeConstSpan(d_gain), (*response.mutable_parameter_gradients())[kGain]);
  }
  std::vector<double> norms = MomentsOf(matrix, /*centred=*/false).squares;
  for (double& value : norms) {
    value = std::sqrt(value);
  }
  Put({matrix.outputs}, absl::MakeConstSpan(norms), (*response.mutable_statistics())["norm"]);
  response.set_implementation("normlab:weight_normalization");
}

void RunStandardization(const v1::NormalizeRequest& request,
                        const Matrix& matrix,
                        v1::NormalizeResult& result) {
  WeightStandardizer standardizer(matrix.outputs, matrix.fan_in);
  v1::NormalizeResponse& response = *result.mutable_response();
  std::vector<float> w(static_cast<size_t>(matrix.outputs * matrix.fan_in));
  standardizer.Forward(matrix.v, w.data());
  Put(matrix.dims, absl::MakeConstSpan(w), *response.mutable_output());
  if (request.has_output_gradient()) {
    std::vector<float>& d_v = w;
    standardizer.Backward(matrix.v, request.output_gradient().values().data(), d_v.data());
    Put(matrix.dims, absl::MakeConstSpan(d_v), *response.mutable_input_gradient());
  }
  RowMoments moments = MomentsOf(matrix, /*centred=*/true);
  for (double& value : moments.squares) {
    // Of one weight there is no deviation.
    value = matrix.fan_in > 1 ? std::sqrt(value / static_cast<double>(matrix.fan_in - 1)) : 0;
  }
  Put({matrix.outputs}, absl::MakeConstSpan(moments.mean),
      (*response.mutable_statistics())["mean"]);
  Put({matrix.outputs}, absl::MakeConstSpan(moments.squares),
      (*response.mutable_statistics())["std"]);
  response.set_implementation("normlab:weight_standardization");
}

}  // namespace

v1::NormalizeResult NormalizeWeights(const v1::NormalizeRequest& request,
                                     WeightTransform transform) {
  const bool has_gain = transform == WeightTransform::kWeightNorm;
  v1::NormalizeResult result;
  // In the order of names; that of a protobuf map is random.
  const std::map<std::string, v1::Tensor> given(request.parameters().begin(),
                                                request.parameters().end());
  for (const auto& [name, tensor] : given) {
    if (!has_gain || name != kGain) {
      FailUnknown(name, has_gain ? "weight" : "weight_standardization", has_gain ? kGain : "",
                  result);
    }
  }
  if (result.violations_size() > 0) {
    return result;
  }
  Matrix matrix;
  matrix.dims = Dims(request.input().dims().begin(), request.input().dims().end());
  matrix.outputs = matrix.dims[0];
  matrix.fan_in = ElementCount(matrix.dims) / matrix.outputs;
  matrix.v = request.input().values().data();
  has_gain ? RunWeightNorm(request, matrix, result) : RunStandardization(request, matrix, result);
  return result;
}

}  // namespace normlab::engine
