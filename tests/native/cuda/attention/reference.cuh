// Attention as plainly as it can be written: the contract with one warp a row, and float64.
#ifndef BATCH_INVARIANT_TESTS_CUDA_ATTENTION_REFERENCE_CUH_
#define BATCH_INVARIANT_TESTS_CUDA_ATTENTION_REFERENCE_CUH_

#include <cstdint>

#include "kernels/cuda/attention/contract.cuh"
#include "kernels/cuda/common/mma.cuh"

namespace batch_invariant::cuda::test {

template <typename T>
__device__ float BiasOf(const CoreArgs& args, int b, int head, int token, int key) {
  if (args.bias == nullptr || key >= args.bias_keys) return 0.0f;
  return ToFloat(
      static_cast<const T*>(args.bias)[b * args.bias_batch_stride + head * args.bias_head_stride +
                                       token * args.bias_token_stride + key]);
}

__device__ inline std::uint32_t RawPair(const std::uint16_t low, const std::uint16_t high) {
  return low | static_cast<std::uint32_t>(high) << 16;
}

// attention.tc16 for one row: a fragment whose other 15 rows are zero, straight from global memory.
// `block_keys` is 128 in the contract; anything else is another arithmetic.
template <typename T>
__global__ void ReferenceContract(CoreArgs args, int block_keys) {
  __shared__ float y[256];
  __shared__ float sums[256];
  __shared__ std::uint16_t p[256];
  __shared__ bool use[256];
  const int row = blockIdx.x % (args.tokens * args.heads),
            b = blockIdx.x / (args.tokens * args.heads);
  const int token = row / args.heads, head = row % args.heads, kv_head = head / args.group;
  const Sequence sequence = SequenceOf(args, b);
  const int low = LowKey(args, sequence, token), high = HighKey(args, sequence, token);
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const auto* q = static_cast<const std::uint16_t*>(args.query.data) + b * args.query.batch_stride +
                  head * args.query.head_stride + token * args.query.token_stride;
  const auto* k = static_cast<const std::uint16_t*>(args.key.data) + b * args.key.batch_stride +
                  kv_head * args.key.head_stride;
  const auto* v = static_cast<const std::uint16_t*>(args.value.data) + b * args.value.batch_stride +
                  kv_head * args.value.head_stride;
  const std::uint16_t one = sizeof(T) == 2 && std::is_same_v<T, __half> ? 0x3c00 : 0x3f80;
  __shared__ float acc[256];
  for (int d = lane; d < args.head_size; d += 32) acc[d] = 0.0f;
  RowState state;
  for (int first = 0; first < high; first += block_keys) {
    __syncwarp();
    for (int tile = 0; tile < block_keys; tile += 8) {
      float c[4] = {};
      for (int d = 0; d < args.head_size; d += 16) {
        const auto read_q = [&](int e) -> std::uint16_t {
          return g == 0 && e < args.head_size ? q[e] : 0;
        };
        const auto read_k = [&](int e) -> std::uint16_t {
          const int key = first + tile + g;
          return key >= low && key < high && e < args.head_size ? k[key * args.key.token_stride + e]
                                                                : 0;
        };
        const int e = d + 2 * t;
        const std::uint32_t a[4] = {RawPair(read_q(e), read_q(e + 1)), 0,
                                    RawPair(read_q(e + 8), read_q(e + 9)), 0};
        MmaStep<T>(c, a, RawPair(read_k(e), read_k(e + 1)), RawPair(read_k(e + 8), read_k(e + 9)));
      }
      if (g == 0) {
        for (int i = 0; i < 2; ++i) {
          const int j = tile + 2 * t + i, key = first + j;
          bool counts = key >= low && key < high;
          float score = c[i];
          if (args.general) {
            const float bias = counts ? BiasOf<T>(args, b, head, token, key) : 0.0f;
            counts = counts && bias != kMinusInf;
            score = GeneralScore(args, c[i], bias);
          }
          use[j] = counts;
          y[j] = counts ? score : kMinusInf;
        }
      }
    }
    __syncwarp();
    float mb = kMinusInf;
    bool touched = false;
    for (int j = 0; j < block_keys; ++j) {
      mb = MaxKeepNan(mb, y[j]);
      touched = touched || use[j];
    }
    const float factor = args.general ? 1.0f : args.plain_scale;
    mb = rintf(__fmul_rn(mb, factor));
    for (int j = lane; j < block_keys; j += 32) {
      const T rounded = FromFloat<T>(use[j] ? BlockExp2Scaled(y[j], factor, mb) : 0.0f);
      p[j] = *reinterpret_cast<const std::uint16_t*>(&rounded);
    }
    __syncwarp();
    if (!touched) continue;
    float lb = 0.0f;
    for (int column = -8; column < args.head_size; column += 8) {  // -8: the column of ones
      float c[4] = {};
      for (int j = 0; j < block_keys; j += 16) {
        const auto read_p = [&](int i) -> std::uint16_t { return g == 0 ? p[j + i] : 0; };
        const auto read_v = [&](int i) -> std::uint16_t {
          if (column < 0) return one;
          return use[j + i] ? v[(first + j + i) * args.value.token_stride + column + g] : 0;
        };
        const std::uint32_t a[4] = {RawPair(read_p(2 * t), read_p(2 * t + 1)), 0,
                                    RawPair(read_p(2 * t + 8), read_p(2 * t + 9)), 0};
        MmaStep<T>(c, a, RawPair(read_v(2 * t), read_v(2 * t + 1)),
                   RawPair(read_v(2 * t + 8), read_v(2 * t + 9)));
      }
      if (column < 0) {
        lb = __shfl_sync(0xffffffffu, c[0], 0);
      } else if (g == 0) {
        sums[column + 2 * t] = c[0];
        sums[column + 2 * t + 1] = c[1];
      }
    }
    __syncwarp();
    const MergeFactors factors = Merge(state, mb, lb);
    for (int d = lane; d < args.head_size; d += 32) acc[d] = MergeElement(acc[d], sums[d], factors);
  }
  const FinishFactors finish = Finish<T>(args, state, head);
  for (int d = lane; d < args.head_size; d += 32) {
    static_cast<T*>(
        args.output)[b * args.output_strides.batch_stride + head * args.output_strides.head_stride +
                     token * args.output_strides.token_stride + d] =
        FromFloat<T>(high > low ? FinishElement(acc[d], finish) : 0.0f);
  }
}

// In double from the same tensors; [batch, tokens, heads, head_size]. One thread a row.
template <typename T>
__global__ void ReferenceDouble(CoreArgs args, double* output) {
  const std::int64_t rows = std::int64_t{args.batch} * args.tokens * args.heads;
  const std::int64_t row = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  const int head = row % args.heads, token = row / args.heads % args.tokens;
  const int b = row / args.heads / args.tokens, kv_head = head / args.group;
  const Sequence sequence = SequenceOf(args, b);
  const int low = LowKey(args, sequence, token), high = HighKey(args, sequence, token);
  const T* q = static_cast<const T*>(args.query.data) + b * args.query.batch_stride +
               head * args.query.head_stride + token * args.query.token_stride;
  const T* k = static_cast<const T*>(args.key.data) + b * args.key.batch_stride +
               kv_head * args.key.head_stride;
  const T* v = static_cast<const T*>(args.value.data) + b * args.value.batch_stride +
               kv_head * args.value.head_stride;
  double* out = output + row * args.head_size;
  for (int d = 0; d < args.head_size; ++d) out[d] = 0.0;
  const auto score = [&](int key) {
    double dot = 0.0;
    for (int d = 0; d < args.head_size; ++d) {
      dot += static_cast<double>(ToFloat(q[d])) * ToFloat(k[key * args.key.token_stride + d]);
    }
    dot *= args.scale;
    if (args.softcap > 0.0f) dot = args.softcap * tanh(dot / args.softcap);
    return dot + BiasOf<T>(args, b, head, token, key);
  };
  const bool has_sink = args.head_sink != nullptr || args.smooth_softmax;
  const double sink =
      args.head_sink == nullptr ? 0.0 : ToFloat(static_cast<const T*>(args.head_sink)[head]);
  double m = has_sink ? sink : -INFINITY;
  double sum = has_sink ? 1.0 : 0.0;
  for (int key = low; key < high; ++key) {
    const double s = score(key);
    if (s == -INFINITY) continue;
    const double next = fmax(m, s), old = exp(m - next), p = exp(s - next);
    sum = sum * old + p;
    for (int d = 0; d < args.head_size; ++d) {
      out[d] = out[d] * old + p * ToFloat(v[key * args.value.token_stride + d]);
    }
    m = next;
  }
  for (int d = 0; d < args.head_size; ++d) out[d] = sum > 0.0 ? out[d] / sum : 0.0;
}

}  // namespace batch_invariant::cuda::test

#endif  // BATCH_INVARIANT_TESTS_CUDA_ATTENTION_REFERENCE_CUH_
