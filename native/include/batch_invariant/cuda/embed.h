// The sum of embeddings of EmbedLayerNormalization (com.microsoft) on CUDA.
#ifndef BATCH_INVARIANT_CUDA_EMBED_H_
#define BATCH_INVARIANT_CUDA_EMBED_H_

#include <cstdint>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

// sum[r] = (word[input_ids[r]] + position[p]) + segment[segment_ids[r]] in fp32, each addition
// rounded, then rounded to the element type once. An index outside its table counts as a row of
// zeros, as in Gather, since the device cannot say that it is wrong.
struct EmbedArgs {
  struct Table {
    const void* data = nullptr;  // [entries, width]; null: none
    std::int64_t entries = 0;
    const std::int32_t* indices = nullptr;  // null: the token's place in its row
    bool shared = false;                    // indices are [tokens], for every row
  };
  ElementType type = ElementType::kFloat32;
  std::int64_t batch = 0;
  std::int64_t tokens = 0;
  std::int64_t width = 0;
  Table tables[3];      // word, position, segment; indices [batch, tokens]
  void* sum = nullptr;  // [batch, tokens, width]
};

// Both enqueue on `stream`, allocate nothing, wait for nothing and can be captured in a graph.
// kInvalidArgument: a negative size or a missing operand. kDeviceError: the launch failed.
Status AddEmbeddings(const EmbedArgs& args, Stream stream);

// counts[b] = how many of mask[b, 0..tokens) are 1; 0 without a mask.
Status CountOnes(const std::int32_t* mask, std::int64_t batch, std::int64_t tokens,
                 std::int32_t* counts, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_EMBED_H_
