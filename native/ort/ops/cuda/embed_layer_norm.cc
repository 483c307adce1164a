// EmbedLayerNormalization on CUDA.
#include "batch_invariant/cuda/embed.h"
#include "batch_invariant/cuda/norm.h"
#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/embed_layer_norm_kernel.h"

namespace batch_invariant::ort {
namespace {

struct Cuda {
  static std::vector<ElementType> Types() { return kCudaFloats; }
  static const char* Contract(const NodeInfo&) { return cuda::kNormContract; }
  static bool Keeps(const Tensor&) { return false; }

  static Status Run(OpContext& context, const EmbedLayerNormOperands& operands) {
    cuda::EmbedArgs embed;
    embed.type = CudaType(operands.y.type);
    embed.batch = operands.batch;
    embed.tokens = operands.tokens;
    embed.width = operands.hidden;
    for (size_t i = 0; i < kEmbeddings; ++i) {
      const Tensor& table = operands.tables[i];
      const Tensor& indices = operands.indices[i];
      if (!table.present) continue;
      embed.tables[i] = {table.data, table.shape[0], indices.Data<const int32_t>(),
                         indices.present && indices.shape[0] == 1};
    }
    embed.sum = operands.sum.present ? operands.sum.data : operands.y.data;
    BATCH_INVARIANT_RETURN_IF_ERROR(cuda::AddEmbeddings(embed, CudaStream(context)));
    cuda::NormArgs norm;
    norm.type = embed.type;
    norm.rows = operands.batch * operands.tokens;
    norm.width = operands.hidden;
    norm.epsilon = operands.epsilon;
    norm.x = embed.sum;
    norm.gamma = operands.gamma.data;
    norm.beta = operands.beta.data;
    norm.y = operands.y.data;
    return cuda::LayerNorm(norm, CudaStream(context));
  }

  static Status CountOnes(OpContext& context, const Tensor& mask, int64_t batch, int64_t tokens,
                          const Tensor& counts) {
    return cuda::CountOnes(mask.Data<const int32_t>(), batch, tokens, counts.Data<int32_t>(),
                           CudaStream(context));
  }
};

}  // namespace

void AppendCudaEmbedLayerNorm(std::vector<OpDefinition>& ops) {
  AppendEmbedLayerNormOps<Cuda>(ops);
}

}  // namespace batch_invariant::ort
