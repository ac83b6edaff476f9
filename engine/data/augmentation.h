#pragma once

#include <cstdint>

#include "common/random.h"
#include "engine/spec/run_length.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// What happens to one image: pixel (y, x) of the result is pixel (y + dy, x + dx) of the original, or
// 0 outside of it; then the rows are mirrored when `flip`; then a rectangle is set to 0.
struct ImageChange {
  int64_t dy = 0;
  int64_t dx = 0;
  bool flip = false;
  // [cut_top, cut_bottom) x [cut_left, cut_right), clipped to the image; empty: nothing is cut.
  int64_t cut_top = 0;
  int64_t cut_bottom = 0;
  int64_t cut_left = 0;
  int64_t cut_right = 0;
};

// Draws the changes of training images. Those of an example in an epoch are a pure function of (seed
// of the job, epoch, index of the example in the training set), so that any step can be loaded at any
// time, in any order of steps. Formulas and the use of random bits: docs/numerics.md.
//
// Thread-safe: immutable.
class Augmentation {
 public:
  // `resolved`: valid for a set of this shape.
  Augmentation(const v1::JobSpec& resolved, const DatasetShape& shape);

  // False: Draw never changes anything.
  bool active() const { return pad_ > 0 || flip_ || cutout_ > 0; }

  ImageChange Draw(int64_t epoch, int64_t example) const;

 private:
  const common::RandomStream random_;
  const int64_t height_;
  const int64_t width_;
  const int64_t pad_;
  const bool flip_;
  const int64_t cutout_;
};

}  // namespace normlab::engine
