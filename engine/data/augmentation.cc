#include "engine/data/augmentation.h"

#include <algorithm>

namespace normlab::engine {
namespace {

// Uniform in [0, bound), up to a bias of bound / 2^32.
int64_t Scale(uint32_t bits, int64_t bound) {
  return static_cast<int64_t>((uint64_t{bits} * static_cast<uint64_t>(bound)) >> 32);
}

}  // namespace

Augmentation::Augmentation(const v1::JobSpec& resolved, const DatasetShape& shape)
    : random_(resolved.seed(), "augment"),
      height_(shape.height),
      width_(shape.width),
      pad_(resolved.data().augmentation().pad_and_crop()),
      flip_(resolved.data().augmentation().flip()),
      cutout_(resolved.data().augmentation().cutout()) {}

ImageChange Augmentation::Draw(int64_t epoch, int64_t example) const {
  // Two blocks of four words an example; every change has words of its own, so that it is the same
  // whichever others are chosen.
  const auto step = static_cast<uint64_t>(epoch);
  const auto index = 2 * static_cast<uint64_t>(example);
  ImageChange change;
  if (pad_ > 0 || flip_) {
    const auto bits = random_.Bits(step, index);
    change.dy = Scale(bits[0], 2 * pad_ + 1) - pad_;
    change.dx = Scale(bits[1], 2 * pad_ + 1) - pad_;
    change.flip = flip_ && (bits[2] >> 31) != 0;
  }
  if (cutout_ > 0) {
    // The centre is anywhere in the image; what lies beyond its border is clipped.
    const auto bits = random_.Bits(step, index + 1);
    const int64_t top = Scale(bits[0], height_) - cutout_ / 2;
    const int64_t left = Scale(bits[1], width_) - cutout_ / 2;
    change.cut_top = std::max<int64_t>(top, 0);
    change.cut_left = std::max<int64_t>(left, 0);
    change.cut_bottom = std::min(top + cutout_, height_);
    change.cut_right = std::min(left + cutout_, width_);
  }
  return change;
}

}  // namespace normlab::engine
