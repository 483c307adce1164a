// Softmax and LogSoftmax on CUDA.
#include "batch_invariant/cuda/softmax.h"

#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/softmax_kernel.h"

namespace batch_invariant::ort {
namespace {

struct Cuda {
  using Args = cuda::SoftmaxArgs;
  static std::vector<ElementType> Types() { return kCudaFloats; }
  static const char* Contract(const NodeInfo&) { return cuda::kSoftmaxContract; }
  static Status Run(OpContext& context, ElementType type, bool logarithm, Args args) {
    args.type = CudaType(type);
    return logarithm ? cuda::LogSoftmax(args, CudaStream(context))
                     : cuda::Softmax(args, CudaStream(context));
  }
};

}  // namespace

void AppendCudaSoftmax(std::vector<OpDefinition>& ops) { AppendSoftmaxOps<Cuda>(ops); }

}  // namespace batch_invariant::ort
