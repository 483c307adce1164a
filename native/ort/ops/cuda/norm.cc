// The norms on CUDA.
#include "batch_invariant/cuda/norm.h"

#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/norm_kernel.h"

namespace batch_invariant::ort {
namespace {

struct Cuda {
  using Args = cuda::NormArgs;
  static std::vector<ElementType> Types() { return kCudaFloats; }
  static const char* Contract(const NodeInfo&) { return cuda::kNormContract; }
  static Status Run(OpContext& context, ElementType type, const std::string& op,
                    Statistic statistic, Args args) {
    args.type = CudaType(type);
    // The ONNX op casts the normalised value to the input's type before it multiplies.
    args.round_before_scale = op == "RMSNormalization";
    return statistic == Statistic::kRootMeanSquare ? cuda::RmsNorm(args, CudaStream(context))
                                                   : cuda::LayerNorm(args, CudaStream(context));
  }
};

}  // namespace

void AppendCudaNorm(std::vector<OpDefinition>& ops) { AppendNormOps<Cuda>(ops); }

}  // namespace batch_invariant::ort
