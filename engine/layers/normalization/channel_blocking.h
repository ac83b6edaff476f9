#pragma once

#include <cstdint>

namespace normlab::engine {

// How the activations [batch, channels, area] lie in memory: [batch][blocks][area][block], channel c
// in block c / block at place c % block, the last block padded with zeros. Plain nchw has block 1,
// nChw16c 16, nhwc block = channels; dense [N, D] has area 1 and block D.
struct ChannelBlocking {
  int64_t batch = 0;
  int64_t channels = 0;
  int64_t area = 0;
  int64_t block = 1;

  int64_t blocks() const { return (channels + block - 1) / block; }
  // Floats in memory, padding included.
  int64_t floats() const { return batch * blocks() * area * block; }
};

}  // namespace normlab::engine
