// Pow on CUDA.
#include "batch_invariant/cuda/elementwise.h"
#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/pow_kernel.h"

namespace batch_invariant::ort {
namespace {

struct Cuda {
  static std::vector<ElementType> Types() {
    return {kFloat, kFloat16, kBFloat16, kDouble, kInt32, kInt64};
  }
  static Status Accept(const NodeInfo&) { return Status::Ok(); }
  static Status Run(OpContext& context, std::span<const int64_t> shape, const Tensor& base,
                    std::span<const int64_t> base_strides, const Tensor& exponent,
                    std::span<const int64_t> exponent_strides, const Tensor& y) {
    cuda::PowArgs args;
    args.shape = shape;
    args.base_type = CudaDataType(base.type);
    args.base = base.data;
    args.base_strides = base_strides;
    args.exponent_type = CudaDataType(exponent.type);
    args.exponent = exponent.data;
    args.exponent_strides = exponent_strides;
    args.y = y.data;
    return cuda::Pow(args, CudaStream(context));
  }
};

}  // namespace

void AppendCudaPow(std::vector<OpDefinition>& ops) { AppendPowOps<Cuda>(ops); }

}  // namespace batch_invariant::ort
