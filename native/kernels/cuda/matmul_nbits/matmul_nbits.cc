#include "batch_invariant/cuda/matmul_nbits.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cuda/gemm/gemm_kernels.h"
#include "kernels/cuda/matmul_nbits/nbits_args.h"
#include "kernels/cuda/matmul_nbits/nbits_kernels.h"
#include "kernels/cuda/matmul_nbits/nbits_sm90_table.h"
#include "kernels/cuda/matmul_nbits/nbits_tile.h"

namespace batch_invariant::cuda {
namespace {

template <typename T>
void AppendTileKernels(ElementType type, std::vector<NBitsKernel>* kernels) {
  const bool f32 = type == ElementType::kFloat32;
  kernels->push_back({f32 ? "nbits_f32_16x32" : "nbits_tile_16x64", type, 0, false, 16,
                      f32 ? 32 : 64, 0, 0, &NBitsTile<T>::Small});
  kernels->push_back({f32 ? "nbits_f32_64x64" : "nbits_tile_64x64", type, 0, false, 64, 64, 0, 0,
                      &NBitsTile<T>::Large});
}

std::vector<NBitsKernel> MakeTable() {
  std::vector<NBitsKernel> kernels;
  AppendTileKernels<float>(ElementType::kFloat32, &kernels);
  AppendTileKernels<__half>(ElementType::kFloat16, &kernels);
  AppendTileKernels<__nv_bfloat16>(ElementType::kBFloat16, &kernels);
  for (const NBitsKernel& kernel : Sm90NBitsKernels<__half>()) kernels.push_back(kernel);
  for (const NBitsKernel& kernel : Sm90NBitsKernels<__nv_bfloat16>()) kernels.push_back(kernel);
  for (const NBitsKernel& kernel : Sm90NBitsRunKernels<__half>()) kernels.push_back(kernel);
  for (const NBitsKernel& kernel : Sm90NBitsRunKernels<__nv_bfloat16>()) kernels.push_back(kernel);
  return kernels;
}

// Rows and K are filled up to whole records.
constexpr std::int64_t kMaxPadding = 256;

int StoredBits(const MatMulNBitsPlan& plan) { return plan.bits == 8 ? 8 : 4; }

}  // namespace

std::span<const NBitsKernel> NBitsKernels() {
  static const std::vector<NBitsKernel> kernels = MakeTable();
  return kernels;
}

bool Serves(const NBitsKernel& kernel, const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
            const DeviceInfo& device) {
  if (kernel.type != plan.type || device.compute_capability < 80) return false;
  if (plan.has_group_index || (args.silu_gated && !kernel.needs_sm90)) return false;
  if (kernel.stored_bits != 0 && kernel.stored_bits != StoredBits(plan)) return false;
  if (kernel.runs != 0 && kernel.runs != plan.runs()) return false;
  if (!kernel.needs_sm90) return true;
  return device.compute_capability == 90 && plan.k > 0 &&
         plan.zero_points != ZeroPoints::kElement && args.a_row_stride % 8 == 0 &&
         args.a_row_stride > 0 && reinterpret_cast<std::uintptr_t>(args.a) % 16 == 0;
}

const char* MatMulNBitsPlan::contract() const {
  return type == ElementType::kFloat32 ? "gemm.nbits.f32.v1" : "gemm.nbits.tc16.v3";
}

Status MakeMatMulNBitsPlan(ElementType type, std::int64_t k, std::int64_t n, std::int64_t bits,
                           std::int64_t block_size, ZeroPoints zero_points, MatMulNBitsPlan* plan,
                           bool has_group_index) {
  constexpr std::int64_t kLimit = std::numeric_limits<std::int32_t>::max() - kMaxPadding;
  if (k < 0 || n < 0) return Status::InvalidArgument("MatMulNBits: a negative K or N");
  if (k > kLimit || n > kLimit) {
    return Status::Unsupported("MatMulNBits: K or N above 2^31 - 256");
  }
  if (bits != 2 && bits != 4 && bits != 8) {
    return Status::InvalidArgument("MatMulNBits: bits is " + std::to_string(bits) +
                                   "; it must be 2, 4 or 8");
  }
  if (block_size < 16 || (block_size & (block_size - 1)) != 0 || block_size > kLimit) {
    return Status::InvalidArgument("MatMulNBits: block_size is " + std::to_string(block_size) +
                                   "; it must be a power of two from 16");
  }
  *plan = {type, k, n, static_cast<int>(bits), block_size, zero_points, 1, has_group_index};
  return Status::Ok();
}

namespace {

// With g_idx: the weights as they were written out, [n, k].
Status MultiplyDequantized(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                           Stream stream) {
  GemmArgs gemm = AsGemm(plan, args);
  gemm.b = {args.packed, 1, plan.k};
  return Gemm(gemm, stream);
}

bool GatesByItself(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                   const DeviceInfo& device) {
  const std::span<const NBitsKernel> kernels = NBitsKernels();
  return std::any_of(kernels.begin(), kernels.end(),
                     [&](const NBitsKernel& kernel) { return Serves(kernel, plan, args, device); });
}

}  // namespace

Status GatedMatMulNBitsWorkspaceBytes(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                                      std::size_t* bytes) {
  *bytes = 0;
  DeviceInfo device;
  BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device));
  if (!GatesByItself(plan, args, device)) *bytes = AlternatingBytes(plan.type, args.m, plan.n);
  return Status::Ok();
}

Status GatedMatMulNBits(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args, void* workspace,
                        Stream stream) {
  if (!args.silu_gated || plan.matrices != 2 || plan.has_group_index || plan.n % 16 != 0 ||
      args.bias != nullptr || args.a == nullptr || args.packed == nullptr || args.y == nullptr) {
    return Status::InvalidArgument(
        "gated MatMulNBits: N is no multiple of 16, there is a bias, or an operand is missing");
  }
  if (args.m == 0) return Status::Ok();
  DeviceInfo device;
  BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device));
  if (GatesByItself(plan, args, device)) {
    return ChooseNBitsKernel(plan, args, device).launch(plan, args, device, stream);
  }
  if (workspace == nullptr) {
    return Status::InvalidArgument("gated MatMulNBits: a missing workspace");
  }
  MatMulNBitsArgs plain = args;
  plain.silu_gated = false;
  plain.y = workspace;
  plain.y_row_stride = plan.n;
  BATCH_INVARIANT_RETURN_IF_ERROR(MatMulNBits(plan, plain, stream));
  return GateAlternating(plan.type, args.m, plan.n, workspace, args.y, args.y_row_stride, stream);
}

Status MatMulNBits(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args, Stream stream) {
  if (args.silu_gated) {
    return Status::InvalidArgument("MatMulNBits: GatedMatMulNBits serves silu_gated");
  }
  if (args.m < 0) return Status::InvalidArgument("MatMulNBits: a negative row count");
  if (args.m > std::numeric_limits<std::int32_t>::max()) {
    return Status::Unsupported("MatMulNBits: more than 2^31 - 1 rows");
  }
  if (args.m == 0 || plan.n == 0) return Status::Ok();
  if (args.y == nullptr || (plan.k > 0 && (args.a == nullptr || args.packed == nullptr))) {
    return Status::InvalidArgument("MatMulNBits: a missing operand");
  }
  if (plan.has_group_index) return MultiplyDequantized(plan, args, stream);
  DeviceInfo device;
  BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device));
  if (device.compute_capability < 80) {
    return Status::Unsupported(
        "MatMulNBits: CUDA device " + std::to_string(device.ordinal) + " has compute capability " +
        std::to_string(device.compute_capability / 10) + "." +
        std::to_string(device.compute_capability % 10) + "; 8.0 or newer is needed");
  }
  return ChooseNBitsKernel(plan, args, device).launch(plan, args, device, stream);
}

}  // namespace batch_invariant::cuda
