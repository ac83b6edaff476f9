// Random bits in bulk: the generator of random.cc, several indices at a time in vector registers.
#include "common/random.h"
#include "common/vectorize.h"

namespace normlab::common {
namespace {

struct Words {
  uint32_t* word[4];
};

NORMLAB_VECTORIZE void PhiloxMany(uint32_t key0,
                                  uint32_t key1,
                                  uint64_t step,
                                  int64_t count,
                                  const uint64_t* __restrict indices,
                                  const Words& out) {
  uint32_t* __restrict word0 = out.word[0];
  uint32_t* __restrict word1 = out.word[1];
  uint32_t* __restrict word2 = out.word[2];
  uint32_t* __restrict word3 = out.word[3];
  const auto step_low = static_cast<uint32_t>(step);
  const auto step_high = static_cast<uint32_t>(step >> 32);
  for (int64_t i = 0; i < count; ++i) {
    // 64-bit lanes whose upper halves are 0: then each product is one vector instruction.
    uint64_t x0 = indices[i] & 0xFFFFFFFFU;
    uint64_t x1 = indices[i] >> 32;
    uint64_t x2 = step_low;
    uint64_t x3 = step_high;
    uint32_t round_key0 = key0;
    uint32_t round_key1 = key1;
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      const uint64_t product0 = uint64_t{0xD2511F53U} * x0;
      const uint64_t product1 = uint64_t{0xCD9E8D57U} * x2;
      x0 = (product1 >> 32) ^ x1 ^ round_key0;
      x1 = product1 & 0xFFFFFFFFU;
      x2 = (product0 >> 32) ^ x3 ^ round_key1;
      x3 = product0 & 0xFFFFFFFFU;
      round_key0 += 0x9E3779B9U;
      round_key1 += 0xBB67AE85U;
    }
    word0[i] = static_cast<uint32_t>(x0);
    word1[i] = static_cast<uint32_t>(x1);
    word2[i] = static_cast<uint32_t>(x2);
    word3[i] = static_cast<uint32_t>(x3);
  }
}

}  // namespace

void RandomStream::FillBits(uint64_t step,
                            absl::Span<const uint64_t> indices,
                            const std::array<uint32_t*, 4>& words) const {
  PhiloxMany(key_[0], key_[1], step, static_cast<int64_t>(indices.size()), indices.data(),
             Words{{words[0], words[1], words[2], words[3]}});
}

}  // namespace normlab::common
