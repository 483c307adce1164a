// Codes to fragment registers: a = (q - zero) * scale, rounded once to the element type.
//
// q is put into the mantissa of a power of two (1024 for fp16, 128 for bf16 with 4 bits, 2^23 for
// bf16 with 8 bits in fp32), so that one exact subtraction of offset + zero gives q - zero. Then
// one multiplication rounds.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_DEQUANTIZE_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_DEQUANTIZE_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/common/convert.cuh"

namespace batch_invariant::cuda {

// Scales and zeros arrive as pairs in one word: row g in the low half, row g + 8 in the high half.
// Step takes the kWords words of one step of 16 (packed_layout.h) to the A fragment a.
template <typename T, int kBits>
struct Dequantizer;

__device__ __forceinline__ std::uint32_t BroadcastLow(std::uint32_t pair) {
  return __byte_perm(pair, pair, 0x1010);
}
__device__ __forceinline__ std::uint32_t BroadcastHigh(std::uint32_t pair) {
  return __byte_perm(pair, pair, 0x3232);
}

template <typename Pair>
__device__ __forceinline__ Pair AsPair(std::uint32_t word) {
  return *reinterpret_cast<Pair*>(&word);
}
template <typename Pair>
__device__ __forceinline__ std::uint32_t AsWord(Pair pair) {
  return *reinterpret_cast<std::uint32_t*>(&pair);
}

// (word & kMask) | magic in one instruction; the compiler makes two of two constants.
template <std::uint32_t kMask>
__device__ __forceinline__ std::uint32_t NibblesOr(std::uint32_t word, std::uint32_t magic) {
  std::uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;\n" : "=r"(result) : "r"(word), "n"(kMask), "r"(magic));
  return result;
}

// Both halves in the element type.
template <typename Pair>
struct PairDequantizer {
  std::uint32_t scale[2], zero[2];

  __device__ __forceinline__ void Set(std::uint32_t scales, std::uint32_t zeros) {
    scale[0] = BroadcastLow(scales);
    scale[1] = BroadcastHigh(scales);
    zero[0] = BroadcastLow(zeros);
    zero[1] = BroadcastHigh(zeros);
  }
  __device__ __forceinline__ std::uint32_t Finish(std::uint32_t offset_code, int row) const {
    const Pair difference = __hsub2(AsPair<Pair>(offset_code), AsPair<Pair>(zero[row]));
    return AsWord(__hmul2(difference, AsPair<Pair>(scale[row])));
  }
};

// Codes of row g lie in bits 0 to 3 of the mantissa of 1024, those of row g + 8 in bits 4 to 7,
// which spares their shift: (1024 + 16 q) / 16 - (64 + zero) is exact too, and one instruction.
template <>
struct Dequantizer<__half, 4> {
  static constexpr int kWords = 1;
  std::uint32_t scale[2], zero[2];

  __device__ __forceinline__ void Set(std::uint32_t scales, std::uint32_t zeros) {
    scale[0] = AsWord(__low2half2(AsPair<__half2>(scales)));
    scale[1] = AsWord(__high2half2(AsPair<__half2>(scales)));
    zero[0] = BroadcastLow(zeros);
    const __half2 k960 = __half2half2(__ushort_as_half(0x6380));
    zero[1] = AsWord(__hsub2(k960, AsPair<__half2>(BroadcastHigh(zeros))));  // -(64 + zero)
  }
  __device__ __forceinline__ void Step(const std::uint32_t* q, std::uint32_t (&a)[4]) const {
    const __half2 sixteenth = __half2half2(__ushort_as_half(0x2c00));  // 1 / 16
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      const std::uint32_t word = q[0] >> (4 * i);
      const __half2 low = AsPair<__half2>(NibblesOr<0x000f000fu>(word, 0x64006400u));
      const __half2 high = AsPair<__half2>(NibblesOr<0x00f000f0u>(word, 0x64006400u));
      const __half2 difference[2] = {__hsub2(low, AsPair<__half2>(zero[0])),
                                     __hfma2(high, sixteenth, AsPair<__half2>(zero[1]))};
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        a[i + row] = AsWord(__hmul2(difference[row], AsPair<__half2>(scale[row])));
      }
    }
  }
};

template <>
struct Dequantizer<__nv_bfloat16, 4> : PairDequantizer<__nv_bfloat162> {
  static constexpr int kWords = 1;
  __device__ __forceinline__ void Step(const std::uint32_t* q, std::uint32_t (&a)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a[i] = Finish(NibblesOr<0x000f000fu>(q[0] >> (4 * i), 0x43004300u), i % 2);
    }
  }
};

template <>
struct Dequantizer<__half, 8> : PairDequantizer<__half2> {
  static constexpr int kWords = 2;
  __device__ __forceinline__ void Step(const std::uint32_t* q, std::uint32_t (&a)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a[i] = Finish(__byte_perm(q[i / 2], 0x64646464u, i % 2 ? 0x4342 : 0x4140), i % 2);
    }
  }
};

template <>
struct Dequantizer<__nv_bfloat16, 8> {
  static constexpr int kWords = 2;
  float scale[2], zero[2];

  __device__ __forceinline__ void Set(std::uint32_t scales, std::uint32_t zeros) {
    scale[0] = __uint_as_float(scales << 16);
    scale[1] = __uint_as_float(scales & 0xffff0000u);
    zero[0] = __fadd_rn(__uint_as_float(zeros << 16), 0x1p23f);
    zero[1] = __fadd_rn(__uint_as_float(zeros & 0xffff0000u), 0x1p23f);
  }
  __device__ __forceinline__ void Step(const std::uint32_t* q, std::uint32_t (&a)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float w[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // The product is exact in fp32 (9 bits by 8), so the conversion is the only rounding.
        const float code =
            __uint_as_float(__byte_perm(q[i / 2], 0x4b000000u, 0x7650 + i % 2 * 2 + half));
        w[half] = __fmul_rn(__fsub_rn(code, zero[i % 2]), scale[i % 2]);
      }
      a[i] = PackPair<__nv_bfloat16>(w[0], w[1]);
    }
  }
};

// The default zero point as a pair in the form that Set expects.
template <typename T>
__device__ __forceinline__ std::uint32_t DefaultZeros(float offset_zero) {
  return PackPair<T>(offset_zero, offset_zero);
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_DEQUANTIZE_CUH_
