// What MultiHeadAttention prepares for the attention core.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_JOIN_H_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_JOIN_H_

#include "batch_invariant/cuda/multi_head_attention.h"

namespace batch_invariant::cuda {

// joined [batch, heads, past + added, width]: past tokens, then x + bias rounded to the element
// type (x itself without a bias); zeros from `size` on.
struct JoinArgs {
  ElementType type = ElementType::kFloat32;
  int batch = 0;
  int heads = 0;
  int past_tokens = 0;
  int added_tokens = 0;
  int size = 0;
  int width = 0;
  const void* past = nullptr;  // [batch, heads, past_tokens, size]
  HeadTensor added;
  const void* bias = nullptr;  // [heads * size], optional
  void* joined = nullptr;
};
Status LaunchJoin(const JoinArgs& args, Stream stream);

// The sizes of the bias that hides keys: 1 where an axis makes no difference.
struct BiasShape {
  int batch = 1;
  int heads = 1;
  int queries = 1;
};
BiasShape BiasShapeOf(const MultiHeadAttentionArgs& args);

// bias [shape.batch, shape.heads, shape.queries, total] in the element type, as the contract says.
Status LaunchBias(const MultiHeadAttentionArgs& args, const BiasShape& shape, void* bias,
                  Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_JOIN_H_
