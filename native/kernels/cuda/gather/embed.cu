// The sum of embeddings (batch_invariant/cuda/embed.h): one thread an element, additions in the
// order of the tables. The grid is free.
#include <algorithm>
#include <limits>

#include "batch_invariant/cuda/embed.h"
#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTables = 3;

template <typename T>
__global__ void __launch_bounds__(kThreads) SumEmbeddings(const __grid_constant__ EmbedArgs args) {
  const std::int64_t count = args.batch * args.tokens * args.width;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t row = i / args.width, column = i - row * args.width;
    const std::int64_t token = row % args.tokens;
    float sum = 0.0f;
#pragma unroll
    for (int t = 0; t < kTables; ++t) {
      const EmbedArgs::Table& table = args.tables[t];
      if (table.data == nullptr) continue;
      const std::int64_t entry =
          table.indices == nullptr ? token : table.indices[table.shared ? token : row];
      const bool inside = entry >= 0 && entry < table.entries;
      const float x =
          inside ? ToFloat(static_cast<const T*>(table.data)[entry * args.width + column]) : 0.0f;
      sum = t == 0 ? x : __fadd_rn(sum, x);
    }
    static_cast<T*>(args.sum)[i] = FromFloat<T>(sum);
  }
}

// One block a row.
__global__ void __launch_bounds__(kThreads)
    CountRowOnes(const std::int32_t* mask, std::int64_t tokens, std::int32_t* counts) {
  __shared__ int total;
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  int ones = 0;
  for (std::int64_t i = threadIdx.x; mask != nullptr && i < tokens; i += kThreads) {
    ones += mask[std::int64_t{blockIdx.x} * tokens + i] == 1;
  }
  if (ones > 0) atomicAdd(&total, ones);
  __syncthreads();
  if (threadIdx.x == 0) counts[blockIdx.x] = total;
}

}  // namespace

Status AddEmbeddings(const EmbedArgs& args, Stream stream) {
  if (args.batch < 0 || args.tokens < 0 || args.width < 0) {
    return Status::InvalidArgument("embeddings: a size is negative");
  }
  const std::int64_t count = args.batch * args.tokens * args.width;
  if (count == 0) return Status::Ok();
  if (args.tables[0].data == nullptr || args.sum == nullptr) {
    return Status::InvalidArgument("embeddings: a missing operand");
  }
  const auto grid =
      static_cast<unsigned>(std::min<std::int64_t>(CeilDiv(count, kThreads), 1 << 20));
  switch (args.type) {
    case ElementType::kFloat16:
      SumEmbeddings<__half><<<grid, kThreads, 0, stream>>>(args);
      break;
    case ElementType::kBFloat16:
      SumEmbeddings<__nv_bfloat16><<<grid, kThreads, 0, stream>>>(args);
      break;
    default:
      SumEmbeddings<float><<<grid, kThreads, 0, stream>>>(args);
  }
  return LaunchStatus("SumEmbeddings");
}

Status CountOnes(const std::int32_t* mask, std::int64_t batch, std::int64_t tokens,
                 std::int32_t* counts, Stream stream) {
  if (batch < 0 || tokens < 0) return Status::InvalidArgument("mask: a size is negative");
  if (batch == 0) return Status::Ok();
  if (counts == nullptr || batch > std::numeric_limits<std::int32_t>::max()) {
    return Status::InvalidArgument("mask: no place for the counts, or more than 2^31 - 1 rows");
  }
  CountRowOnes<<<static_cast<unsigned>(batch), kThreads, 0, stream>>>(mask, tokens, counts);
  return LaunchStatus("CountRowOnes");
}

}  // namespace batch_invariant::cuda
