#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/self_test/data.h"

namespace batch_invariant::cuda {
namespace {

constexpr int kThreads = 256;

unsigned GridSize(std::int64_t count) { return static_cast<unsigned>(CeilDiv(count, kThreads)); }

__device__ std::uint32_t Hash(std::uint32_t seed, std::int64_t i) {
  auto x = seed * 0x9e3779b9u + static_cast<std::uint32_t>(i) * 0x85ebca6bu;
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// Sum of four uniform numbers, of variance 1: close to normal, and exact in fp32.
__device__ float Normal(std::uint32_t seed, std::int64_t i) {
  const std::uint32_t a = Hash(seed, 2 * i), b = Hash(seed, 2 * i + 1);
  const auto sum = static_cast<float>((a & 0xffff) + (a >> 16) + (b & 0xffff) + (b >> 16));
  return (sum - 131070.0f) * 0x1.bb67aep-16f;
}

__device__ void Store(ElementType type, void* data, std::int64_t i, float x) {
  switch (type) {
    case ElementType::kFloat32:
      static_cast<float*>(data)[i] = x;
      break;
    case ElementType::kFloat16:
      static_cast<__half*>(data)[i] = FromFloat<__half>(x);
      break;
    case ElementType::kBFloat16:
      static_cast<__nv_bfloat16*>(data)[i] = FromFloat<__nv_bfloat16>(x);
      break;
  }
}

__global__ void FillKernel(CancellingMatrix m) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= m.rows * m.columns) return;
  const std::int64_t row = i / m.columns, column = i % m.columns;
  const bool mirrored = column >= m.period && column < 2 * m.period;
  const bool cancels = m.cancels && row % 2 == 0;
  float x = m.scale * Normal(m.seed, row * m.columns + (mirrored ? column - m.period : column));
  if (cancels) x = mirrored ? -x : column < m.period ? x : 0.0f;
  Store(m.type, m.data, row * m.row_stride + column * m.column_stride, x);
}

struct NBitsWeights {
  MatMulNBitsPlan plan;
  std::int64_t period;
  float scale;
  std::uint32_t seed;
  std::uint8_t* b;
  void* scales;
  std::uint8_t* zero_points;

  __device__ std::int64_t Blocks() const {
    return (plan.k + plan.block_size - 1) / plan.block_size;
  }
  // A mirrored block has the scale and the zero point of its twin.
  __device__ std::int64_t Twin(std::int64_t block) const {
    const std::int64_t period_blocks = period / plan.block_size;
    return block >= period_blocks && block < 2 * period_blocks ? block - period_blocks : block;
  }
  __device__ int Zero(std::int64_t n, std::int64_t block) const {
    const int middle = 1 << (plan.bits - 1);
    if (zero_points == nullptr) return middle;
    const std::uint32_t random = Hash(seed + 1, n * Blocks() + Twin(block));
    return middle / 2 + static_cast<int>(random % static_cast<std::uint32_t>(middle));
  }
  __device__ unsigned Code(std::int64_t n, std::int64_t k) const {
    const bool mirrored = k >= period && k < 2 * period;
    const bool cancels = n % 2 == 0;
    const int zero = Zero(n, k / plan.block_size);
    const int limit = min(zero, (1 << plan.bits) - 1 - zero);
    const std::uint32_t random = Hash(seed, n * plan.k + (mirrored ? k - period : k));
    int difference = static_cast<int>(random % static_cast<std::uint32_t>(2 * limit + 1)) - limit;
    if (cancels) difference = mirrored ? -difference : k < period ? difference : 0;
    return static_cast<unsigned>(zero + difference);
  }
};

// A thread a byte of b; the first ones also write what belongs to a block.
__global__ void FillNBitsKernel(NBitsWeights w) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t blocks = w.Blocks();
  const std::int64_t block_bytes = w.plan.block_size * w.plan.bits / 8;
  if (i >= w.plan.n * blocks * block_bytes) return;
  const std::int64_t n = i / (blocks * block_bytes), byte = i % (blocks * block_bytes);
  const int codes = 8 / w.plan.bits;
  unsigned packed = 0;
  for (int code = 0; code < codes; ++code) {
    packed |= w.Code(n, byte * codes + code) << (code * w.plan.bits);
  }
  w.b[i] = static_cast<std::uint8_t>(packed);
  if (i < w.plan.n * blocks) {
    const std::int64_t row = i / blocks, block = i % blocks;
    const float x = Normal(w.seed + 2, row * blocks + w.Twin(block));
    Store(w.plan.type, w.scales, i, w.scale * (x < 0 ? x - 1.0f : x + 1.0f));
  }
  const std::int64_t zero_bytes = (blocks * w.plan.bits + 7) / 8;
  if (w.zero_points != nullptr && i < w.plan.n * zero_bytes) {
    unsigned zeros = 0;
    for (int code = 0; code < codes; ++code) {
      const std::int64_t block = i % zero_bytes * codes + code;
      if (block < blocks) {
        zeros |= static_cast<unsigned>(w.Zero(i / zero_bytes, block)) << (code * w.plan.bits);
      }
    }
    w.zero_points[i] = static_cast<std::uint8_t>(zeros);
  }
}

__global__ void FillSequenceKernel(std::int32_t* out, int count, int first, int step) {
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (i < count) out[i] = first + i * step;
}

template <typename Word>
__global__ void CountKernel(const Word* x, const Word* y, std::int64_t count,
                            std::uint32_t* different) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const unsigned votes = __ballot_sync(0xffffffffu, i < count && x[i] != y[i]);
  if (threadIdx.x % 32 == 0 && votes != 0) {
    atomicAdd(different, static_cast<std::uint32_t>(__popc(votes)));
  }
}

}  // namespace

Status Fill(const CancellingMatrix& matrix, Stream stream) {
  FillKernel<<<GridSize(matrix.rows * matrix.columns), kThreads, 0, stream>>>(matrix);
  return LaunchStatus("self-test data");
}

Status FillNBits(const MatMulNBitsPlan& plan, std::int64_t period, float scale, std::uint32_t seed,
                 void* b, void* scales, void* zero_points, Stream stream) {
  const NBitsWeights weights{plan,
                             period,
                             scale,
                             seed,
                             static_cast<std::uint8_t*>(b),
                             scales,
                             static_cast<std::uint8_t*>(zero_points)};
  const std::int64_t bytes = plan.n * plan.blocks() * plan.block_size * plan.bits / 8;
  FillNBitsKernel<<<GridSize(bytes), kThreads, 0, stream>>>(weights);
  return LaunchStatus("self-test data");
}

Status FillSequence(std::int32_t* out, int count, int first, int step, Stream stream) {
  FillSequenceKernel<<<GridSize(count), kThreads, 0, stream>>>(out, count, first, step);
  return LaunchStatus("self-test data");
}

Status CountDifferent(const void* x, const void* y, std::int64_t count, std::size_t element_bytes,
                      std::uint32_t* different, Stream stream) {
  if (element_bytes == 2) {
    CountKernel<<<GridSize(count), kThreads, 0, stream>>>(static_cast<const std::uint16_t*>(x),
                                                          static_cast<const std::uint16_t*>(y),
                                                          count, different);
  } else {
    CountKernel<<<GridSize(count), kThreads, 0, stream>>>(static_cast<const std::uint32_t*>(x),
                                                          static_cast<const std::uint32_t*>(y),
                                                          count, different);
  }
  return LaunchStatus("self-test comparison");
}

}  // namespace batch_invariant::cuda
