#pragma once

#include <cstdint>

namespace normlab::engine {

// Bounds of a specification. They are far above anything useful and low enough that no later
// arithmetic in 64 bits overflows: the largest convolution has (28 + 64*31)^2 * 4096 * 4096 * 32^2
// < 2^57 multiply-adds, times 64 of them, and the widest dense layer after it 2^34 * 2^16 weights.
inline constexpr int64_t kMaxDenseWidth = 65536;
inline constexpr int64_t kMaxDenseDepth = 1000;
inline constexpr int64_t kMaxBlocks = 64;
inline constexpr int64_t kMaxChannels = 4096;
inline constexpr int64_t kMaxKernel = 32;
inline constexpr int64_t kMaxStride = 1024;
inline constexpr int64_t kMaxWindow = 1024;
// Keeps the widest layer of a VGG (512 channels) at kMaxChannels.
inline constexpr double kMaxWidthMultiplier = 8;
inline constexpr int64_t kMaxCustomLayers = 2000;
inline constexpr int64_t kMaxInputs = 100;  // of one layer
inline constexpr int64_t kMaxOverrides = 100;
inline constexpr int64_t kMaxBatchSize = 131072;
inline constexpr int64_t kMaxSteps = 1000000000;
inline constexpr int64_t kMaxEpochs = 1000000;
inline constexpr int64_t kMaxThreads = 1024;
// More would talk more than compute on batches that train well.
inline constexpr int64_t kMaxRanks = 64;
inline constexpr int64_t kMaxPriority = 100;
inline constexpr int64_t kMaxRetries = 100;
inline constexpr int64_t kMaxLabels = 32;
inline constexpr int64_t kMaxLabelKeyBytes = 63;
inline constexpr int64_t kMaxTextCharacters = 200;
inline constexpr int64_t kMaxPathBytes = 4096;
// Labels are int32 in memory, but every class costs a column of the last layer.
inline constexpr int64_t kMaxClasses = 65536;
// Of a dense example, and real-valued targets of an example.
inline constexpr int64_t kMaxFeatures = 65536;
inline constexpr int64_t kMaxImageSide = 4096;
inline constexpr int64_t kMaxExamples = 1000000000;
// Of both parts of a decoded data set; and of a synthetic one, which has to be drawn while somebody
// waits for an answer (about 5 seconds).
inline constexpr int64_t kMaxDatasetBytes = int64_t{4} << 30;
inline constexpr int64_t kMaxSyntheticValues = int64_t{1} << 27;
inline constexpr int64_t kMaxSyntheticOperations = int64_t{1} << 33;
// A year.
inline constexpr int64_t kMaxTimeLimitSeconds = 366LL * 24 * 3600;
// A shorter interval would spend the run on writing; a week is longer than anybody wants to repeat.
inline constexpr int64_t kMinCheckpointSeconds = 1;
inline constexpr int64_t kMaxCheckpointSeconds = 7LL * 24 * 3600;
// Largest magnitude of a real-valued setting: representable as a float, with room for a product of
// two small ones.
inline constexpr double kMaxReal = 1e30;
// Smallest number that an optimizer may add to a root: still a float, so that 0/0 cannot happen.
inline constexpr double kMinOptimizerEpsilon = 1e-30;
inline constexpr int64_t kMaxIgnorePatterns = 100;
// A spec with more violations than this reports the first ones and their number.
inline constexpr int64_t kMaxViolations = 100;

}  // namespace normlab::engine
