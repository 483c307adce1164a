// Reductions on CUDA, floating-point and whole numbers.
#include "batch_invariant/cuda/reduce.h"

#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/reduce_kernel.h"

namespace batch_invariant::ort {
namespace {

struct Cuda {
  using Op = cuda::ReduceOp;
  static std::vector<ElementType> Types() { return {kFloat, kFloat16, kBFloat16, kInt32, kInt64}; }
  static const char* Contract(const NodeInfo&) { return cuda::kReduceContract; }
  static Status Run(OpContext& context, Op op, int64_t outer, int64_t length, int64_t inner,
                    const Tensor& x, const Tensor& y) {
    cuda::ReduceArgs args;
    args.op = op;
    args.type = CudaDataType(x.type);
    args.outer = outer;
    args.length = length;
    args.inner = inner;
    args.x = x.data;
    args.y = y.data;
    return cuda::Reduce(args, CudaStream(context));
  }
};

}  // namespace

void AppendCudaReduce(std::vector<OpDefinition>& ops) { AppendReduceOps<Cuda>(ops); }

}  // namespace batch_invariant::ort
