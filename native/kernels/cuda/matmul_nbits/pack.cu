// Rewrites MatMulNBits weights into records (packed_layout.h); with g_idx, writes them out.
#include <cstdint>

#include "batch_invariant/cuda/matmul_nbits.h"
#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/matmul_nbits/packed_layout.h"

namespace batch_invariant::cuda {
namespace {

struct Source {
  const std::uint8_t* b;
  const void* scales;
  const void* zeros;
  std::int64_t k, n, blocks;
  int bits;  // of the source
  int block_size;
  ZeroPoints zero_points;
};

// One matrix, or two whose rows alternate in groups of eight.
struct Sources {
  Source of[2];
  bool alternate;

  // The matrix of packed row n, and the row there.
  __device__ const Source& Locate(std::int64_t* n) const {
    if (!alternate) return of[0];
    const Source& source = of[*n / 8 % 2];
    *n = *n / 16 * 8 + *n % 8;
    return source;
  }
};

__device__ std::uint32_t Code(const Source& s, std::int64_t n, std::int64_t k) {
  if (n >= s.n || k >= s.k) return 0;
  const std::int64_t row_bytes = s.blocks * s.block_size * s.bits / 8;
  const std::int64_t bit = k * s.bits;
  return (s.b[n * row_bytes + bit / 8] >> (bit % 8)) & ((1u << s.bits) - 1);
}

// The packed zero point of a row and block.
__device__ std::uint32_t PackedZero(const Source& s, std::int64_t n, std::int64_t block) {
  const std::int64_t row_bytes = (s.blocks * s.bits + 7) / 8, bit = block * s.bits;
  const std::uint8_t byte = static_cast<const std::uint8_t*>(s.zeros)[n * row_bytes + bit / 8];
  return (byte >> (bit % 8)) & ((1u << s.bits) - 1);
}

// w [n, k].
template <typename T>
__global__ void DequantizeGroups(Source s, const std::int32_t* group_index, T* w) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= s.n * s.k) return;
  const std::int64_t n = i / s.k, k = i % s.k, group = group_index[k];
  const std::int64_t at = n * s.blocks + group;
  float zero = static_cast<float>(1 << (s.bits - 1));
  if (s.zero_points == ZeroPoints::kPacked) zero = static_cast<float>(PackedZero(s, n, group));
  if (s.zero_points == ZeroPoints::kElement) zero = ToFloat(static_cast<const T*>(s.zeros)[at]);
  const float scale = ToFloat(static_cast<const T*>(s.scales)[at]);
  w[i] = FromFloat<T>(__fmul_rn(__fsub_rn(static_cast<float>(Code(s, n, k)), zero), scale));
}

// One block a record, one thread a word of codes or a scale at a time.
template <typename T>
__global__ void PackRecords(Sources sources, PackedLayout layout, float zero_offset,
                            unsigned char* packed) {
  const int record_n = blockIdx.x / layout.records_k, record_k = blockIdx.x % layout.records_k;
  const std::int64_t n0 = std::int64_t{record_n} * kRecordRows;
  const std::int64_t k0 = std::int64_t{record_k} * kRecordK;
  unsigned char* out = packed + layout.Position(record_n, record_k) * layout.record_bytes();

  const int words = layout.code_bytes() / 4;
  const int words_per_step = layout.bits / 4;
  for (int w = threadIdx.x; w < words; w += blockDim.x) {
    // Word w: group of 4 words a lane; a lane's words ascend over groups.
    const int group = w / 128, lane = w / 4 % 32;
    const int ordinal = group * 4 + w % 4;
    const int step = ordinal / words_per_step, part = ordinal % words_per_step;
    const int g = lane / 4, t = lane % 4;
    std::uint32_t word = 0;
    for (int e = 0; e < 32 / layout.bits; ++e) {
      int i, half;  // element `half` of fragment register a[i]
      if (layout.bits == 4) {
        i = e % 4;
        half = e / 4;
      } else {
        i = 2 * part + e / 2;
        half = e % 2;
      }
      std::int64_t n = n0 + g + 8 * (i % 2);
      const Source& s = sources.Locate(&n);
      const std::int64_t k = k0 + 16 * step + 2 * t + 8 * (i / 2) + half;
      word |= Code(s, n, k) << (e * layout.bits);
    }
    reinterpret_cast<std::uint32_t*>(out)[w] = word;
  }

  T* scales = reinterpret_cast<T*>(out + layout.code_bytes());
  T* zeros = reinterpret_cast<T*>(out + layout.code_bytes() + layout.scale_bytes());
  for (int i = threadIdx.x; i < layout.parts * kRecordRows; i += blockDim.x) {
    const int part = i / kRecordRows, row = i % kRecordRows / 2 + i % 2 * 8;
    std::int64_t n = n0 + row;
    const std::int64_t k = k0 + (std::int64_t{part} << layout.part_shift);
    const Source& s = sources.Locate(&n);
    const bool inside = n < s.n && k < s.k;
    const std::int64_t block = k / s.block_size;
    scales[i] = inside ? static_cast<const T*>(s.scales)[n * s.blocks + block] : T(0.0f);
    if (!layout.has_zeros) continue;
    if (s.zero_points == ZeroPoints::kElement) {
      zeros[i] = inside ? static_cast<const T*>(s.zeros)[n * s.blocks + block] : T(0.0f);
    } else {
      const std::uint32_t zero = inside ? PackedZero(s, n, block) : 0;
      zeros[i] = FromFloat<T>(zero_offset + static_cast<float>(zero));
    }
  }
}

}  // namespace

std::size_t PackedMatMulNBitsBytes(const MatMulNBitsPlan& plan) {
  if (plan.has_group_index)
    return static_cast<std::size_t>(plan.n * plan.k) * ElementSize(plan.type);
  const PackedLayout layout = LayoutOf(plan);
  return std::size_t(layout.records_n) * layout.records_k * layout.record_bytes();
}

namespace {

Status MakeSource(const MatMulNBitsPlan& plan, const NBitsTensors& weights, Source* source) {
  if (weights.b == nullptr || weights.scales == nullptr ||
      (plan.zero_points != ZeroPoints::kDefault && weights.zero_points == nullptr)) {
    return Status::InvalidArgument("MatMulNBits weights: a missing buffer");
  }
  *source = {static_cast<const std::uint8_t*>(weights.b),
             weights.scales,
             weights.zero_points,
             plan.k,
             plan.n,
             plan.blocks(),
             plan.bits,
             static_cast<int>(plan.block_size),
             plan.zero_points};
  return Status::Ok();
}

// `plan` is that of the packed matrix.
Status Pack(const MatMulNBitsPlan& plan, const Sources& sources, void* packed, Stream stream) {
  if (packed == nullptr) {
    return Status::InvalidArgument("MatMulNBits weights: a missing buffer");
  }
  const PackedLayout layout = LayoutOf(plan);
  const std::int64_t records = std::int64_t{layout.records_n} * layout.records_k;
  if (records > 0x7fffffff) {
    return Status::Unsupported("MatMulNBits weights: more than 2^42 elements");
  }
  const float offset = ZeroOffset(plan.type, layout.bits);
  auto* out = static_cast<unsigned char*>(packed);
  const auto grid = static_cast<unsigned>(records);
  switch (plan.type) {
    case ElementType::kFloat16:
      PackRecords<__half><<<grid, 128, 0, stream>>>(sources, layout, offset, out);
      break;
    case ElementType::kBFloat16:
      PackRecords<__nv_bfloat16><<<grid, 128, 0, stream>>>(sources, layout, offset, out);
      break;
    default:
      PackRecords<float><<<grid, 128, 0, stream>>>(sources, layout, offset, out);
  }
  return LaunchStatus("PackMatMulNBits");
}

Status Dequantize(const MatMulNBitsPlan& plan, const Source& source,
                  const std::int32_t* group_index, void* w, Stream stream) {
  if (group_index == nullptr || w == nullptr) {
    return Status::InvalidArgument("MatMulNBits weights: a missing buffer");
  }
  constexpr int kThreads = 256;
  const std::int64_t blocks = CeilDiv(plan.n * plan.k, kThreads);
  if (blocks > 0x7fffffff) {
    return Status::Unsupported("MatMulNBits weights: more than 2^39 elements");
  }
  const auto launch = [&](auto kernel, auto* to) {
    kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(source, group_index, to);
  };
  switch (plan.type) {
    case ElementType::kFloat16:
      launch(DequantizeGroups<__half>, static_cast<__half*>(w));
      break;
    case ElementType::kBFloat16:
      launch(DequantizeGroups<__nv_bfloat16>, static_cast<__nv_bfloat16*>(w));
      break;
    default:
      launch(DequantizeGroups<float>, static_cast<float*>(w));
  }
  return LaunchStatus("PackMatMulNBits with g_idx");
}

}  // namespace

Status PackMatMulNBits(const MatMulNBitsPlan& plan, const void* b, const void* scales,
                       const void* zero_points, void* packed, Stream stream,
                       const std::int32_t* group_index) {
  if (plan.n == 0 || plan.k == 0) return Status::Ok();
  Sources sources = {};
  BATCH_INVARIANT_RETURN_IF_ERROR(MakeSource(plan, {b, scales, zero_points}, &sources.of[0]));
  if (plan.has_group_index) return Dequantize(plan, sources.of[0], group_index, packed, stream);
  return Pack(plan, sources, packed, stream);
}

Status PackGatedMatMulNBits(const MatMulNBitsPlan& plan, const NBitsTensors& gate,
                            const NBitsTensors& up, void* packed, Stream stream) {
  if (plan.n < 1 || plan.k < 1 || plan.n % 8 != 0 || plan.has_group_index) {
    return Status::InvalidArgument(
        "gated MatMulNBits weights: N is no multiple of 8, K is 0, or there is a g_idx");
  }
  Sources sources = {};
  sources.alternate = true;
  BATCH_INVARIANT_RETURN_IF_ERROR(MakeSource(plan, gate, &sources.of[0]));
  BATCH_INVARIANT_RETURN_IF_ERROR(MakeSource(plan, up, &sources.of[1]));
  return Pack(GatedPlan(plan), sources, packed, stream);
}

}  // namespace batch_invariant::cuda
