// Routing, activation and sum of a mixture of experts (batch_invariant/cuda/moe.h).
//
// Order: one warp chooses a token's experts and weighs them, each sum in the contract's order; rows
//   of an expert are sorted by token, which decides no byte; one thread adds up an element of a
//   token, experts ascending.
// May vary freely: the grid, the size of a tile of rows.
#include <algorithm>
#include <limits>

#include "kernels/cuda/common/by_type.cuh"
#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/elementwise/functions.cuh"
#include "kernels/cuda/moe/route.h"

namespace batch_invariant::cuda {
namespace {

constexpr int kRouteWarps = 4;
constexpr int kSortThreads = 512;
constexpr int kThreads = 256;
constexpr unsigned kAll = 0xffffffffu;

// A router value and its expert; expert -1 comes after all.
struct Candidate {
  float value;
  int expert;
};

// Whether a is chosen before b: a total order, NaN first, of equal values the later expert.
__device__ __forceinline__ bool Before(Candidate a, Candidate b) {
  if (a.expert < 0 || b.expert < 0) return a.expert >= 0 && b.expert < 0;
  const bool nan_a = a.value != a.value, nan_b = b.value != b.value;
  if (nan_a != nan_b) return nan_a;
  if (!nan_a && a.value != b.value) return a.value > b.value;
  return a.expert > b.expert;
}

__device__ __forceinline__ float MaxKeepNan(float a, float b) { return a != a || a > b ? a : b; }

// The sum over the lanes, in halves.
__device__ __forceinline__ float FoldSum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = __fadd_rn(x, __shfl_xor_sync(kAll, x, step));
  return x;
}

// Maximum and sum of exponentials of value(0), ..., value(count - 1).
struct Softmax32 {
  float maximum, sum;
};
template <typename Value>
__device__ __forceinline__ Softmax32 FoldSoftmax(int count, int lane, const Value& value) {
  Softmax32 s{-__builtin_huge_valf(), 0.0f};
  for (int i = lane; i < count; i += 32) s.maximum = MaxKeepNan(s.maximum, value(i));
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    s.maximum = MaxKeepNan(s.maximum, __shfl_xor_sync(kAll, s.maximum, step));
  }
  for (int i = lane; i < count; i += 32) {
    s.sum = __fadd_rn(s.sum, Exp(__fsub_rn(value(i), s.maximum)));
  }
  s.sum = FoldSum(s.sum);
  return s;
}
__device__ __forceinline__ float Weight(const Softmax32& s, float value) {
  return __fdiv_rn(Exp(__fsub_rn(value, s.maximum)), s.sum);
}

// One warp a token.
template <typename T>
__global__ void __launch_bounds__(32 * kRouteWarps)
    RouteTokens(const __grid_constant__ MoeArgs args, const __grid_constant__ Routing routing) {
  const int lane = threadIdx.x % 32;
  const std::int64_t token = std::int64_t{blockIdx.x} * kRouteWarps + threadIdx.x / 32;
  if (token >= args.tokens) return;
  const int experts = static_cast<int>(args.experts), k = static_cast<int>(args.k);
  const T* router = static_cast<const T*>(args.router) + token * experts;
  std::int32_t* choice = routing.choice + token * k;
  float* choice_weight = routing.choice_weight + token * k;

  // The order is total: what comes next is the first of those behind the last one chosen.
  Candidate last{0.0f, -1};
  for (int i = 0; i < k; ++i) {
    Candidate best{0.0f, -1};
    for (int e = lane; e < experts; e += 32) {
      const Candidate candidate{ToFloat(router[e]), e};
      if (i > 0 && !Before(last, candidate)) continue;
      if (Before(candidate, best)) best = candidate;
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      const Candidate other{__shfl_xor_sync(kAll, best.value, step),
                            __shfl_xor_sync(kAll, best.expert, step)};
      if (Before(other, best)) best = other;
    }
    last = best;
    if (lane == 0) choice[i] = best.expert;
  }
  __syncwarp();

  if (args.weights == RouterWeights::kGiven) {
    const T* given = static_cast<const T*>(args.router_weights) + token * experts;
    for (int i = lane; i < k; i += 32) choice_weight[i] = ToFloat(given[choice[i]]);
  } else {
    const bool of_chosen = args.weights == RouterWeights::kSoftmaxOfChosen;
    const Softmax32 s = FoldSoftmax(of_chosen ? k : experts, lane, [&](int i) {
      return ToFloat(router[of_chosen ? choice[i] : i]);
    });
    for (int i = lane; i < k; i += 32) choice_weight[i] = Weight(s, ToFloat(router[choice[i]]));
  }
  __syncwarp();

  float sum = 0.0f;
  if (args.normalize) {
    for (int i = 0; i < k; ++i) sum = __fadd_rn(sum, choice_weight[i]);
  }
  for (int i = lane; i < k; i += 32) {
    float weight = choice_weight[i];
    if (args.normalize) weight = sum == 0.0f ? 0.0f : __fdiv_rn(weight, sum);
    int rank = 0;
    for (int j = 0; j < k; ++j) rank += choice[j] < choice[i];
    routing.expert[token * k + rank] = weight <= 0.0f ? -1 : choice[i];
    routing.weight[token * k + rank] = weight;
  }
}

// One block an expert, which counts the rows of all experts up to its own and then places its own,
// by ascending token.
__global__ void __launch_bounds__(kSortThreads)
    SortRows(const __grid_constant__ Routing routing, int entries, int k, int tile_rows) {
  extern __shared__ std::int32_t counts[];  // [experts]
  __shared__ std::int32_t before_rows, before_tiles;
  __shared__ std::int32_t warp_rows[kSortThreads / 32];
  const int expert = blockIdx.x, experts = gridDim.x;
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  for (int e = thread; e < experts; e += kSortThreads) counts[e] = 0;
  if (thread == 0) before_rows = before_tiles = 0;
  __syncthreads();
  for (int i = thread; i < entries; i += kSortThreads) {
    const int e = routing.expert[i];
    if (e >= 0) atomicAdd(&counts[e], 1);
  }
  __syncthreads();
  int rows = 0, tiles = 0;
  for (int e = thread; e < expert; e += kSortThreads) {
    rows += counts[e];
    tiles += (counts[e] + tile_rows - 1) / tile_rows;
  }
  if (rows > 0) {
    atomicAdd(&before_rows, rows);
    atomicAdd(&before_tiles, tiles);
  }
  __syncthreads();

  const int count = counts[expert], first = before_rows;
  const int own_tiles = (count + tile_rows - 1) / tile_rows;
  for (int i = thread; i < own_tiles; i += kSortThreads) {
    routing.tiles[before_tiles + i] = {expert, first + i * tile_rows,
                                       min(tile_rows, count - i * tile_rows)};
  }
  if (expert == experts - 1 && thread == 0) {
    *routing.rows = first + count;
    *routing.tile_count = before_tiles + own_tiles;
  }
  if (count == 0) return;
  int next = first;
  for (int base = 0; base < entries; base += kSortThreads) {
    const int i = base + thread;
    const bool own = i < entries && routing.expert[i] == expert;
    const unsigned votes = __ballot_sync(kAll, own);
    if (lane == 0) warp_rows[warp] = __popc(votes);
    __syncthreads();
    int at = next + __popc(votes & ((1u << lane) - 1));
    int all = 0;
#pragma unroll
    for (int w = 0; w < kSortThreads / 32; ++w) {
      if (w < warp) at += warp_rows[w];
      all += warp_rows[w];
    }
    if (own) {
      routing.position[i] = at;
      routing.token[at] = i / k;
    }
    next += all;
    __syncthreads();
  }
}

// One word of 16 bytes a thread.
__global__ void __launch_bounds__(kThreads)
    GatherRows(const __grid_constant__ Routing routing, std::int64_t words, const uint4* input,
               uint4* gathered) {
  const std::int64_t count = *routing.rows * words;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t row = i / words;
    gathered[i] = input[routing.token[row] * words + i - row * words];
  }
}

__device__ __forceinline__ float Activate(ExpertActivation activation, float x) {
  switch (activation) {
    case ExpertActivation::kRelu:
      return ApplyUnary(UnaryOp::kRelu, x, 0.0f);
    case ExpertActivation::kGelu:
      return ApplyUnary(UnaryOp::kGeluTanh, x, 0.0f);
    case ExpertActivation::kSilu:
      return ApplyUnary(UnaryOp::kSilu, x, 0.0f);
    default:
      return x;
  }
}

// G * sigmoid(alpha G) * (L + beta), products and sum rounded; NaN passes the limits.
__device__ __forceinline__ float SwiGlu(const MoeArgs& args, float g, float l) {
  g = g > args.limit ? args.limit : g;
  l = l > args.limit ? args.limit : l;
  l = l < -args.limit ? -args.limit : l;
  return __fmul_rn(ApplyUnary(UnaryOp::kQuickGelu, g, args.alpha), __fadd_rn(l, args.beta));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    ActivateRows(const __grid_constant__ MoeArgs args, const std::int32_t* rows, const T* first,
                 T* activated) {
  const std::int64_t inter = args.inter, count = *rows * inter;
  const bool gated = args.activation == ExpertActivation::kSwiGlu;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * kThreads) {
    if (!gated) {
      activated[i] = FromFloat<T>(Activate(args.activation, ToFloat(first[i])));
      continue;
    }
    const std::int64_t row = i / inter, column = i - row * inter;
    const T* from = first + row * 2 * inter + (args.interleaved ? 2 * column : column);
    const float g = ToFloat(from[0]), l = ToFloat(from[args.interleaved ? 1 : inter]);
    activated[i] = FromFloat<T>(SwiGlu(args, g, l));
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    CombineRows(const __grid_constant__ MoeArgs args, const __grid_constant__ Routing routing,
                const T* second) {
  const std::int64_t hidden = args.hidden, count = args.tokens * hidden;
  const int k = static_cast<int>(args.k);
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t token = i / hidden, column = i - token * hidden;
    float y = 0.0f;
    for (std::int64_t entry = token * k; entry < (token + 1) * k; ++entry) {
      if (routing.expert[entry] < 0) continue;
      const float z = ToFloat(second[routing.position[entry] * hidden + column]);
      y = __fadd_rn(y, __fmul_rn(routing.weight[entry], z));
    }
    if (sizeof(T) == 4 && y != y) y = __uint_as_float(0x7fc00000u);
    static_cast<T*>(args.output)[i] = FromFloat<T>(y);
  }
}

__global__ void __launch_bounds__(kThreads)
    UnpackZeros(std::int64_t count, std::int64_t n, int bits, const std::uint8_t* packed,
                std::uint8_t* out) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const std::int64_t expert = i / n, bit = (i - expert * n) * bits;
  const std::uint8_t byte = packed[expert * ((n * bits + 7) / 8) + bit / 8];
  out[i] = static_cast<std::uint8_t>((byte >> (bit % 8)) & ((1u << bits) - 1));
}

// Enough blocks for every element, at most so many that each has some.
unsigned GridOf(std::int64_t elements) {
  return static_cast<unsigned>(std::min<std::int64_t>(CeilDiv(elements, kThreads), 1 << 20));
}

}  // namespace

Status LaunchRouting(const MoeArgs& args, const Routing& routing, int tile_rows, Stream stream) {
  const auto blocks = static_cast<unsigned>(CeilDiv(args.tokens, kRouteWarps));
  BATCH_INVARIANT_RETURN_IF_ERROR(ByType(args.type, [&](auto zero) {
    RouteTokens<decltype(zero)><<<blocks, 32 * kRouteWarps, 0, stream>>>(args, routing);
    return LaunchStatus("RouteTokens");
  }));
  SortRows<<<static_cast<unsigned>(args.experts), kSortThreads,
             static_cast<std::size_t>(args.experts) * sizeof(std::int32_t), stream>>>(
      routing, static_cast<int>(args.tokens * args.k), static_cast<int>(args.k), tile_rows);
  return LaunchStatus("SortRows");
}

Status LaunchGather(const MoeArgs& args, const Routing& routing, void* gathered, Stream stream) {
  const std::int64_t words =
      args.hidden * static_cast<std::int64_t>(ElementSize(args.type)) / std::int64_t{sizeof(uint4)};
  GatherRows<<<GridOf(args.tokens * args.k * words), kThreads, 0, stream>>>(
      routing, words, static_cast<const uint4*>(args.input), static_cast<uint4*>(gathered));
  return LaunchStatus("GatherRows");
}

Status LaunchActivation(const MoeArgs& args, const Routing& routing, const void* first,
                        void* activated, Stream stream) {
  return ByType(args.type, [&](auto zero) {
    using T = decltype(zero);
    ActivateRows<T><<<GridOf(args.tokens * args.k * args.inter), kThreads, 0, stream>>>(
        args, routing.rows, static_cast<const T*>(first), static_cast<T*>(activated));
    return LaunchStatus("ActivateRows");
  });
}

Status LaunchCombine(const MoeArgs& args, const Routing& routing, const void* second,
                     Stream stream) {
  return ByType(args.type, [&](auto zero) {
    using T = decltype(zero);
    CombineRows<T><<<GridOf(args.tokens * args.hidden), kThreads, 0, stream>>>(
        args, routing, static_cast<const T*>(second));
    return LaunchStatus("CombineRows");
  });
}

Status UnpackRowZeroPoints(std::int64_t experts, std::int64_t n, int bits, const void* packed,
                           void* out, Stream stream) {
  const std::int64_t count = experts * n, blocks = CeilDiv(count, kThreads);
  if (blocks > std::numeric_limits<std::int32_t>::max()) {
    return Status::Unsupported("QMoE: more than 2^39 rows of weights");
  }
  if (count == 0) return Status::Ok();
  UnpackZeros<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
      count, n, bits, static_cast<const std::uint8_t*>(packed), static_cast<std::uint8_t*>(out));
  return LaunchStatus("UnpackZeros");
}

}  // namespace batch_invariant::cuda
