#include "engine/data/example_loader.h"

#include <algorithm>

#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

constexpr double kLargestByte = 255;

// to[i] = from[i] * scale + shift. A table of 256 floats would give the same bits, but loads one
// value at a time; this converts 16 at a time.
NORMLAB_VECTORIZE void ScaleBytes(
    const uint8_t* from, int64_t count, float scale, float shift, float* __restrict to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = static_cast<float>(from[i]) * scale + shift;
  }
}

NORMLAB_VECTORIZE void ScaleByteFeatures(const uint8_t* from,
                                         int64_t count,
                                         const float* scales,
                                         const float* shifts,
                                         float* __restrict to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = static_cast<float>(from[i]) * scales[i] + shifts[i];
  }
}

NORMLAB_VECTORIZE void ScaleFloats(
    const float* from, int64_t count, double mean, double scale, float* __restrict to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = static_cast<float>((static_cast<double>(from[i]) - mean) * scale);
  }
}

NORMLAB_VECTORIZE void ScaleFloatFeatures(const float* from,
                                          int64_t count,
                                          const double* means,
                                          const double* scales,
                                          float* __restrict to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = static_cast<float>((static_cast<double>(from[i]) - means[i]) * scales[i]);
  }
}

struct ConvertByte {
  float scale;
  float shift;
  NORMLAB_INLINE float operator()(uint8_t value) const {
    return static_cast<float>(value) * scale + shift;
  }
};

struct ConvertFloat {
  double mean;
  double scale;
  NORMLAB_INLINE float operator()(float value) const {
    return static_cast<float>((static_cast<double>(value) - mean) * scale);
  }
};

struct Plane {
  int64_t height;
  int64_t width;
};

NORMLAB_INLINE void Zero(float* from, float* to) {
  for (float* value = from; value < to; ++value) {
    *value = 0;
  }
}

template <typename Stored, typename Convert>
NORMLAB_INLINE void ChangePlane(const Stored* from,
                                Plane plane,
                                const ImageChange& change,
                                Convert convert,
                                float* __restrict to) {
  // Columns of the shifted image that are inside of the original.
  const int64_t first = std::max<int64_t>(-change.dx, 0);
  const int64_t last = std::min(plane.width - change.dx, plane.width);
  const int64_t count = last - first;
  // Where they lie in the result.
  const int64_t left = change.flip ? plane.width - last : first;
  for (int64_t y = 0; y < plane.height; ++y) {
    float* __restrict row = to + y * plane.width;
    const int64_t from_y = y + change.dy;
    if (from_y < 0 || from_y >= plane.height) {
      Zero(row, row + plane.width);
      continue;
    }
    const Stored* source = from + from_y * plane.width + first + change.dx;
    Zero(row, row + left);
    if (change.flip) {
      for (int64_t i = 0; i < count; ++i) {
        row[left + i] = convert(source[count - 1 - i]);
      }
    } else {
      for (int64_t i = 0; i < count; ++i) {
        row[left + i] = convert(source[i]);
      }
    }
    Zero(row + left + count, row + plane.width);
  }
  for (int64_t y = change.cut_top; y < change.cut_bottom; ++y) {
    float* row = to + y * plane.width;
    Zero(row + change.cut_left, row + change.cut_right);
  }
}

NORMLAB_VECTORIZE void ChangeBytes(const uint8_t* from,
                                   Plane plane,
                                   const ImageChange& change,
                                   ConvertByte convert,
                                   float* __restrict to) {
  ChangePlane(from, plane, change, convert, to);
}

NORMLAB_VECTORIZE void ChangeFloats(const float* from,
                                    Plane plane,
                                    const ImageChange& change,
                                    ConvertFloat convert,
                                    float* __restrict to) {
  ChangePlane(from, plane, change, convert, to);
}

}  // namespace

ByteTransform MakeByteTransform(v1::Scaling::Kind scaling, double mean, double deviation) {
  double scale = 1;
  double shift = 0;
  switch (scaling) {
    case v1::Scaling::UNIT:
      scale = 1 / kLargestByte;
      break;
    case v1::Scaling::SYMMETRIC:
      scale = 2 / kLargestByte;
      shift = -1;
      break;
    case v1::Scaling::NONE:
      break;
    default: {  // STANDARDIZE; a resolved spec has no other value
      const double divisor = deviation > 0 ? deviation : 1;
      scale = 1 / (kLargestByte * divisor);
      shift = -mean / divisor;
    }
  }
  return {static_cast<float>(scale), static_cast<float>(shift)};
}

FloatTransform MakeFloatTransform(v1::Scaling::Kind scaling, double mean, double deviation) {
  if (scaling == v1::Scaling::NONE) {
    return {};
  }
  return {mean, 1 / (deviation > 0 ? deviation : 1)};
}

ExampleLoader::ExampleLoader(v1::Scaling::Kind scaling, const MappedDataset& data)
    : shape_(data.shape()),
      values_(shape_.example_values()),
      plane_(int64_t{shape_.height} * shape_.width),
      as_stored_(shape_.floats && scaling == v1::Scaling::NONE) {
  for (size_t channel = 0; channel < static_cast<size_t>(shape_.channels); ++channel) {
    const double mean = data.channel_means()[channel];
    const double deviation = data.channel_deviations()[channel];
    if (shape_.floats) {
      const FloatTransform transform = MakeFloatTransform(scaling, mean, deviation);
      float_means_.push_back(transform.mean);
      float_scales_.push_back(transform.scale);
    } else {
      const ByteTransform transform = MakeByteTransform(scaling, mean, deviation);
      scales_.push_back(transform.scale);
      shifts_.push_back(transform.shift);
    }
  }
}

void ExampleLoader::Load(const MappedPart& part, int64_t index, float* to) const {
  if (as_stored_) {
    std::copy_n(part.floats.data() + index * values_, values_, to);
  } else if (shape_.floats) {
    const float* from = part.floats.data() + index * values_;
    if (shape_.dense) {
      ScaleFloatFeatures(from, values_, float_means_.data(), float_scales_.data(), to);
      return;
    }
    for (size_t channel = 0; channel < float_means_.size(); ++channel) {
      ScaleFloats(from, plane_, float_means_[channel], float_scales_[channel], to);
      from += plane_;
      to += plane_;
    }
  } else {
    const uint8_t* from = part.bytes.data() + index * values_;
    if (shape_.dense) {
      ScaleByteFeatures(from, values_, scales_.data(), shifts_.data(), to);
      return;
    }
    for (size_t channel = 0; channel < scales_.size(); ++channel) {
      ScaleBytes(from, plane_, scales_[channel], shifts_[channel], to);
      from += plane_;
      to += plane_;
    }
  }
}

void ExampleLoader::LoadChanged(const MappedPart& part,
                                int64_t index,
                                const ImageChange& change,
                                float* to) const {
  const Plane plane = {shape_.height, shape_.width};
  for (size_t channel = 0; channel < static_cast<size_t>(shape_.channels); ++channel) {
    const int64_t offset = index * values_ + static_cast<int64_t>(channel) * plane_;
    if (shape_.floats) {
      ChangeFloats(part.floats.data() + offset, plane, change,
                   {float_means_[channel], float_scales_[channel]}, to);
    } else {
      ChangeBytes(part.bytes.data() + offset, plane, change, {scales_[channel], shifts_[channel]},
                  to);
    }
    to += plane_;
  }
}

}  // namespace normlab::engine
