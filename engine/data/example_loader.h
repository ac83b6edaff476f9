#pragma once

#include <cstdint>
#include <vector>

#include "engine/data/augmentation.h"
#include "engine/data/mapped_dataset.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// How a byte of a channel becomes an input: byte * scale + shift, rounded after each of the two.
struct ByteTransform {
  float scale = 1;
  float shift = 0;
};

// How a stored float becomes an input: (value - mean) * scale in double, then rounded once. (In
// float the subtraction of a large mean would cost digits.)
struct FloatTransform {
  double mean = 0;
  double scale = 1;
};

// One per channel (of a dense set: per feature). STANDARDIZE of a channel that never changes only
// subtracts its mean. FloatTransform: only STANDARDIZE and NONE are for floats (CheckData).
ByteTransform MakeByteTransform(v1::Scaling::Kind scaling, double mean, double deviation);
FloatTransform MakeFloatTransform(v1::Scaling::Kind scaling, double mean, double deviation);

// Turns stored examples into the inputs of a network: scaling, and in the same pass the changes of
// an image. Padding and cut pixels are 0 after scaling. Allocates nothing.
//
// Thread-safe: immutable. Does not own the data set, which must outlive it.
class ExampleLoader {
 public:
  // `scaling`: resolved, valid for this data set.
  ExampleLoader(v1::Scaling::Kind scaling, const MappedDataset& data);

  // Writes example `index` of `part` of the data set to `to` [C, H, W].
  void Load(const MappedPart& part, int64_t index, float* to) const;
  // The same of an image with `change`.
  void LoadChanged(const MappedPart& part,
                   int64_t index,
                   const ImageChange& change,
                   float* to) const;

 private:
  const DatasetShape shape_;
  const int64_t values_;       // of an example
  const int64_t plane_;        // of a channel
  const bool as_stored_;       // floats without scaling
  std::vector<float> scales_;  // bytes, [C] each
  std::vector<float> shifts_;
  std::vector<double> float_means_;  // floats, [C] each
  std::vector<double> float_scales_;
};

}  // namespace normlab::engine
