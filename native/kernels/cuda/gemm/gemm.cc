#include "batch_invariant/cuda/gemm.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "batch_invariant/cuda/elementwise.h"
#include "kernels/cuda/gemm/gemm_f32.h"
#include "kernels/cuda/gemm/gemm_kernels.h"
#include "kernels/cuda/gemm/gemm_sm90_table.h"
#include "kernels/cuda/gemm/gemm_tile_table.h"

namespace batch_invariant::cuda {
namespace {

// Rows of `outer` stride with contiguous elements, every row 16-byte aligned.
bool AreVectors(const void* data, std::int64_t inner, std::int64_t outer, std::int64_t batch_stride,
                ElementType type) {
  const std::int64_t per_vector = 16 / static_cast<std::int64_t>(ElementSize(type));
  return inner == 1 && outer % per_vector == 0 && batch_stride % per_vector == 0 &&
         reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}

template <typename T>
void AppendTileKernels(ElementType type, std::vector<GemmKernel>* kernels) {
  using Table = GemmTileTable<T>;
  const auto add = [&](const char* name, GemmNeeds needs, int m, int n, auto launch) {
    kernels->push_back({name, type, needs, m, n, 1, 1, launch});
  };
  add("tile_k_16x64", GemmNeeds::kKVectors, 16, 64,
      [](const GemmArgs& g, const DeviceInfo&, Stream s) {
        return Table::KVectors(TileSize::kSmall, g, s);
      });
  add("tile_k_64x64", GemmNeeds::kKVectors, 64, 64,
      [](const GemmArgs& g, const DeviceInfo&, Stream s) {
        return Table::KVectors(TileSize::kMedium, g, s);
      });
  add("tile_k_128x128", GemmNeeds::kKVectors, 128, 128,
      [](const GemmArgs& g, const DeviceInfo&, Stream s) {
        return Table::KVectors(TileSize::kLarge, g, s);
      });
  add("tile_n_16x64", GemmNeeds::kNVectors, 16, 64,
      [](const GemmArgs& g, const DeviceInfo&, Stream s) {
        return Table::NVectors(TileSize::kSmall, g, s);
      });
  add("tile_n_64x64", GemmNeeds::kNVectors, 64, 64,
      [](const GemmArgs& g, const DeviceInfo&, Stream s) {
        return Table::NVectors(TileSize::kMedium, g, s);
      });
  add("tile_n_128x128", GemmNeeds::kNVectors, 128, 128,
      [](const GemmArgs& g, const DeviceInfo&, Stream s) {
        return Table::NVectors(TileSize::kLarge, g, s);
      });
  add("tile_elements_64x64", GemmNeeds::kAnything, 64, 64,
      [](const GemmArgs& g, const DeviceInfo&, Stream s) { return Table::Elements(g, s); });
  for (const GemmKernel& kernel : Sm90FewRows<T>()) kernels->push_back(kernel);
  for (const GemmKernel& kernel : Sm90ManyRows<T>()) kernels->push_back(kernel);
}

std::vector<GemmKernel> MakeTable() {
  std::vector<GemmKernel> kernels;
  const auto add_f32 = [&](const char* name, int m, int n, auto launch) {
    kernels.push_back({name, ElementType::kFloat32, GemmNeeds::kAnything, m, n, 1, 1, launch});
  };
  add_f32("f32_16x32", 16, 32,
          [](const GemmArgs& g, const DeviceInfo&, Stream s) { return GemmF32Small(g, s); });
  add_f32("f32_64x64", 64, 64,
          [](const GemmArgs& g, const DeviceInfo&, Stream s) { return GemmF32Large(g, s); });
  AppendTileKernels<__half>(ElementType::kFloat16, &kernels);
  AppendTileKernels<__nv_bfloat16>(ElementType::kBFloat16, &kernels);
  return kernels;
}

Status CheckGemmArgs(const GemmArgs& g) {
  if (g.m < 0 || g.n < 0 || g.k < 0 || g.batch < 0) {
    return Status::InvalidArgument("MatMul: a negative size");
  }
  constexpr std::int64_t kLimit = std::numeric_limits<std::int32_t>::max();
  if (g.m > kLimit || g.n > kLimit || g.k > kLimit || g.batch > kLimit) {
    return Status::Unsupported("MatMul: a size above 2^31 - 1");
  }
  const bool empty = g.m == 0 || g.n == 0 || g.batch == 0;
  const bool no_b = g.b.data == nullptr && g.packed_b == nullptr;
  if (!empty && (g.y == nullptr || (g.k > 0 && (g.a.data == nullptr || no_b)))) {
    return Status::InvalidArgument("MatMul: a missing operand");
  }
  if (g.b.data != nullptr && g.packed_b != nullptr) {
    return Status::InvalidArgument("MatMul: both b and packed_b are given");
  }
  return Status::Ok();
}

}  // namespace

std::span<const GemmKernel> GemmKernels() {
  static const std::vector<GemmKernel> kernels = MakeTable();
  return kernels;
}

bool Serves(const GemmKernel& kernel, const GemmArgs& g, const DeviceInfo& device) {
  if (kernel.type != g.type || device.compute_capability < 80) return false;
  if (g.silu_gated && kernel.needs != GemmNeeds::kKVectorsSm90) return false;
  if (kernel.needs == GemmNeeds::kAnything) return true;
  if (!AreVectors(g.a.data, g.a.column_stride, g.a.row_stride, g.a_batch_stride, g.type)) {
    return false;
  }
  const bool packed = g.packed_b != nullptr;
  if (kernel.needs == GemmNeeds::kNVectors) {
    return !packed &&
           AreVectors(g.b.data, g.b.column_stride, g.b.row_stride, g.b_batch_stride, g.type);
  }
  if (!packed &&
      !AreVectors(g.b.data, g.b.row_stride, g.b.column_stride, g.b_batch_stride, g.type)) {
    return false;
  }
  // A tensor map has no dimension of size 0 and no stride of 0.
  return kernel.needs == GemmNeeds::kKVectors ||
         (device.compute_capability == 90 && g.k > 0 && g.a.row_stride > 0 &&
          (packed || g.b.column_stride > 0));
}

const char* GemmContract(ElementType type) {
  return type == ElementType::kFloat32 ? "gemm.f32.v1" : "gemm.tc16.v1";
}

namespace {

bool GatesByItself(const GemmArgs& args, const DeviceInfo& device) {
  const std::span<const GemmKernel> kernels = GemmKernels();
  return std::any_of(kernels.begin(), kernels.end(), [&](const GemmKernel& kernel) {
    return Serves(kernel, args, device);
  });
}

}  // namespace

Status GatedGemmWorkspaceBytes(const GemmArgs& args, std::size_t* bytes) {
  *bytes = 0;
  BATCH_INVARIANT_RETURN_IF_ERROR(CheckGemmArgs(args));
  DeviceInfo device;
  BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device));
  if (!GatesByItself(args, device)) *bytes = AlternatingBytes(args.type, args.m, args.n);
  return Status::Ok();
}

Status GatedGemm(const GemmArgs& args, void* workspace, Stream stream) {
  BATCH_INVARIANT_RETURN_IF_ERROR(CheckGemmArgs(args));
  if (!args.silu_gated || args.n % 16 != 0 || args.batch != 1 || args.alpha != 1.0f ||
      args.c.data != nullptr) {
    return Status::InvalidArgument(
        "gated MatMul: N is no multiple of 16, or there is more than one product, a scale or a c");
  }
  if (args.m == 0 || args.n == 0) return Status::Ok();
  DeviceInfo device;
  BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device));
  if (GatesByItself(args, device)) {
    return ChooseGemmKernel(args, device).launch(args, device, stream);
  }
  if (workspace == nullptr) return Status::InvalidArgument("gated MatMul: a missing workspace");
  GemmArgs plain = args;
  plain.silu_gated = false;
  plain.y = workspace;
  plain.y_row_stride = args.n;
  BATCH_INVARIANT_RETURN_IF_ERROR(Gemm(plain, stream));
  return GateAlternating(args.type, args.m, args.n, workspace, args.y, args.y_row_stride, stream);
}

Status GateAlternating(ElementType type, std::int64_t rows, std::int64_t n, const void* products,
                       void* y, std::int64_t y_row_stride, Stream stream) {
  GatedArgs gated;
  gated.type = type;
  gated.round_between = true;
  gated.interleaved = true;
  gated.rows = rows;
  gated.width = n / 2;
  gated.gate = products;
  gated.up = static_cast<const char*>(products) + 8 * ElementSize(type);
  gated.gate_stride = gated.up_stride = n;
  gated.y = y;
  gated.y_stride = y_row_stride;
  return Gated(gated, stream);
}

Status Gemm(const GemmArgs& args, Stream stream) {
  BATCH_INVARIANT_RETURN_IF_ERROR(CheckGemmArgs(args));
  if (args.silu_gated) return Status::InvalidArgument("MatMul: GatedGemm serves silu_gated");
  if (args.m == 0 || args.n == 0 || args.batch == 0) return Status::Ok();
  DeviceInfo device;
  BATCH_INVARIANT_RETURN_IF_ERROR(CurrentDevice(&device));
  if (device.compute_capability < 80) {
    return Status::Unsupported(
        "MatMul: CUDA device " + std::to_string(device.ordinal) + " has compute capability " +
        std::to_string(device.compute_capability / 10) + "." +
        std::to_string(device.compute_capability % 10) + "; 8.0 or newer is needed");
  }
  return ChooseGemmKernel(args, device).launch(args, device, stream);
}

}  // namespace batch_invariant::cuda
