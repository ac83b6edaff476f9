#pragma once

// NORMLAB_VECTORIZE before a function: compiled once for AVX-512, once for AVX2 and once for any
// x86-64; the loader picks by CPU. Helpers that it calls must be NORMLAB_INLINE, or they keep the
// plain code. The engine is compiled with -ffp-contract=off, so all clones give the same bits.
//
// Sanitizers are not initialized yet when the loader resolves such functions, so they get the plain
// code only.
#if defined(__x86_64__) && defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define NORMLAB_VECTORIZE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define NORMLAB_VECTORIZE
#endif

#define NORMLAB_INLINE inline __attribute__((always_inline))
