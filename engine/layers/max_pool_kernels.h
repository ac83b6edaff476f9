#pragma once

#include <cstdint>

#include "engine/layers/plan.h"

namespace normlab::engine {

// Maxima over windows of 2x2 pixels side by side, for activations whose channels lie in blocks; a
// last odd row or column is dropped. Such pooling only moves data, and these loops read and write
// every byte once. oneDNN's kernels, called for every row and block of channels, take three times
// as long on images of 8x8, ten times on those of 2x2.
//
// Loops with OpenMP threads that compute alike with any number of them; they never allocate or lock.
struct MaxPoolShape {
  ChannelBlocking x;
  int64_t height = 0;  // of x
  int64_t width = 0;

  int64_t out_height() const { return height / 2; }
  int64_t out_width() const { return width / 2; }
};

// Where to use them: blocks of at least so many channels, images of at most so many pixels. On
// larger ones, where all wait for the memory, a step of VGG-16 would gain another 1%, but would spend
// 6% of its time outside of oneDNN's primitives instead of 4.4%.
inline constexpr int64_t kLeastMaxPoolBlock = 8;
inline constexpr int64_t kLargestMaxPoolArea = 256;

// y, in x's type and blocks. `winner`, unless null: which pixel of its window each y was, row by row,
// in the order of y; of equal ones the first. NaN stays NaN, and wins.
void MaxPoolForward(const MaxPoolShape& shape, const View& x, const View& y, uint8_t* winner);

// d_x from d_y, both as x and y were.
void MaxPoolBackward(const MaxPoolShape& shape,
                     const View& d_y,
                     const uint8_t* winner,
                     const View& d_x);

}  // namespace normlab::engine
