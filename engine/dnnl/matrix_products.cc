#include "engine/dnnl/factory.h"

namespace normlab::engine {
namespace {

// Of `count` matrices [rows,columns].
Desc Matrices(int64_t count, int64_t rows, int64_t columns, bool transposed) {
  using Tag = dnnl::memory::format_tag;
  return Desc({count, rows, columns}, dnnl::memory::data_type::f32,
              transposed ? Tag::acb : Tag::abc);
}

}  // namespace

absl::StatusOr<Op> MakeMatrixProducts(const Runtime& runtime, const MatrixProducts& products) {
  return Build(runtime, "products of matrices", [&](const describe::Context& context) {
    const auto description = describe::MatrixProducts(
        context, Matrices(products.count, products.rows, products.inner, products.transposed_a),
        Matrices(products.count, products.inner, products.columns, products.transposed_b),
        Matrices(products.count, products.rows, products.columns, /*transposed=*/false));
    return Finish<dnnl::matmul>(runtime, description,
                                {{Arg::kSource, description.src_desc()},
                                 {Arg::kWeights, description.weights_desc()},
                                 {Arg::kDestination, description.dst_desc()}});
  });
}

}  // namespace normlab::engine
