// Pow on CUDA.
#include "batch_invariant/cuda/elementwise.h"
#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/pow_kernel.h"

namespace batch_invariant::ort {
namespace {

struct Cuda {
  using Args = cuda::PowArgs;
  static std::vector<ElementType> Types() {
    return {kFloat, kFloat16, kBFloat16, kDouble, kInt32, kInt64};
  }
  static Status Accept(const NodeInfo&) { return Status::Ok(); }
  static cuda::DataType TypeOf(ElementType type) { return CudaDataType(type); }
  static Status Run(OpContext& context, const Args& args) {
    return cuda::Pow(args, CudaStream(context));
  }
};

}  // namespace

void AppendCudaPow(std::vector<OpDefinition>& ops) { AppendPowOps<Cuda>(ops); }

}  // namespace batch_invariant::ort
