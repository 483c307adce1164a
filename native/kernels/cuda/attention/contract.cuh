// The fp32 arithmetic of the attention contract (batch_invariant/cuda/attention.h) and the geometry
// of rows and keys that every attention kernel shares.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_CONTRACT_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_CONTRACT_CUH_

#include <cstdint>

#include "kernels/cuda/attention/core_args.h"
#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/common/overlap.cuh"
#include "kernels/cuda/elementwise/math.cuh"

namespace batch_invariant::cuda {

constexpr float kMinusInf = -__builtin_huge_valf();

// max that keeps a NaN: a row with a NaN score must not look healthy.
__device__ __forceinline__ float MaxKeepNan(float a, float b) {
  float r;
  asm("max.NaN.f32 %0, %1, %2;\n" : "=f"(r) : "f"(a), "f"(b));
  return r;
}

// 2^(y - mb) of step 3 for fp32 tensors, and of step 6.
__device__ __forceinline__ float BlockExp2(float y, float mb) {
  return Exp2Reduced(MaxKeepNan(__fsub_rn(y, mb), -125.0f));
}

// 2^(y c - mb) of step 3 for fp16 and bf16.
__device__ __forceinline__ float BlockExp2Scaled(float y, float c, float mb) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(r) : "f"(__fmaf_rn(y, c, -mb)));
  return r;
}

// 2^d for an integer d <= 0; 0 below 2^-126.
__device__ __forceinline__ float PowerOfTwo(float d) {
  return d < -126.0f ? 0.0f : __int_as_float((static_cast<int>(d) + 127) << 23);
}

// Step 2 for one score; `bias` is 0 where there is none.
__device__ __forceinline__ float GeneralScore(const CoreArgs& args, float dot, float bias) {
  float z = __fmul_rn(dot, args.scale);
  if (args.softcap > 0.0f) z = __fmul_rn(args.softcap, Tanh(__fdiv_rn(z, args.softcap)));
  z = __fadd_rn(z, bias);
  return __fmul_rn(z, kLog2E);
}

// The running state of one row, without the accumulator.
struct RowState {
  float m = kMinusInf;
  float l = 0.0f;
};

struct MergeFactors {
  float a, b;
};

__device__ __forceinline__ float MergeElement(float acc, float block, MergeFactors f) {
  return __fmaf_rn(block, f.b, __fmul_rn(acc, f.a));
}

// Step 5: updates m by a block and returns the factors for l and the accumulator.
__device__ __forceinline__ MergeFactors MergeMaximum(float& m, float mb) {
  const float before = m;
  m = MaxKeepNan(before, mb);
  return {PowerOfTwo(__fsub_rn(before, m)), PowerOfTwo(__fsub_rn(mb, m))};
}

// The same, with l.
__device__ __forceinline__ MergeFactors Merge(RowState& state, float mb, float lb) {
  const MergeFactors f = MergeMaximum(state.m, mb);
  state.l = MergeElement(state.l, lb, f);
  return f;
}

// Step 6: out = (acc * a) * inverse.
struct FinishFactors {
  float a, inverse;
};

template <typename T>
__device__ __forceinline__ FinishFactors Finish(const CoreArgs& args, RowState state, int head) {
  FinishFactors f = {1.0f, 0.0f};
  if (args.head_sink != nullptr || args.smooth_softmax) {
    const float sink =
        args.head_sink == nullptr ? 0.0f : ToFloat(static_cast<const T*>(args.head_sink)[head]);
    if (sink != kMinusInf) {
      const float y = __fmul_rn(sink, kLog2E);
      const float mb = rintf(y);
      f.a = Merge(state, mb, BlockExp2(y, mb)).a;
    }
  }
  if (state.m == -kMinusInf || state.m != state.m) {
    f.inverse = __int_as_float(0x7fffffff);
  } else if (state.l != 0.0f) {
    f.inverse = __frcp_rn(state.l);
  }
  return f;
}

__device__ __forceinline__ float FinishElement(float acc, FinishFactors f) {
  return __fmul_rn(__fmul_rn(acc, f.a), f.inverse);
}

// Lengths of one sequence.
struct Sequence {
  int total;  // keys
  int past;   // position of query token 0
  int valid;  // query tokens that are not padding
};

__device__ __forceinline__ Sequence SequenceOf(const CoreArgs& args, int b) {
  int total = args.key_capacity;
  if (args.last_key != nullptr) total = min(max(args.last_key[b], -1) + 1, total);
  if (args.from_start) return {total, 0, min(args.tokens, total)};
  return {total, total - args.tokens, args.tokens};
}

// Keys [low, high) that query token i of a sequence sees; both grow with i.
__device__ __forceinline__ int LowKey(const CoreArgs& args, const Sequence& s, int i) {
  return args.window < 0 ? 0 : max(s.past + i - args.window + 1, 0);
}
__device__ __forceinline__ int HighKey(const CoreArgs& args, const Sequence& s, int i) {
  if (i >= s.valid || s.past + i < 0) return 0;
  return args.causal ? min(s.past + i + 1, s.total) : s.total;
}

// Blocks [first, last) that hold the keys of rows [row, row + count) of one KV head.
struct BlockRange {
  int first, last;
};

// A tile of rows of one KV head: row r is token r / group, query head kv_head * group + r % group.
struct RowTile {
  int first_token, last_token;  // last_token: the last one that is not padding
  int low, high;                // keys that some row sees lie in [low, high)
  int all_low, all_high;        // keys in [all_low, all_high) are seen by every row but padding
};

__device__ __forceinline__ RowTile TileOf(const CoreArgs& args, const Sequence& s, int row,
                                          int count) {
  RowTile t;
  t.first_token = max(row / args.group, -s.past);
  t.last_token = min(min((row + count - 1) / args.group, args.tokens - 1), s.valid - 1);
  if (t.first_token > t.last_token) return {t.first_token, t.last_token, 0, 0, 0, 0};
  t.low = LowKey(args, s, t.first_token);
  t.high = HighKey(args, s, t.last_token);
  t.all_low = LowKey(args, s, t.last_token);
  t.all_high = HighKey(args, s, t.first_token);
  return t;
}

__device__ __forceinline__ BlockRange BlocksOf(int low, int high) {
  if (high <= low) return {0, 0};
  return {low / kBlockKeys, (high + kBlockKeys - 1) / kBlockKeys};
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_CONTRACT_CUH_
