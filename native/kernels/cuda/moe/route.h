// The parts of a mixture of experts that are no products: routing, activation, adding up.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MOE_ROUTE_H_
#define BATCH_INVARIANT_KERNELS_CUDA_MOE_ROUTE_H_

#include <cstdint>

#include "batch_invariant/cuda/moe.h"
#include "kernels/cuda/moe/grouped_kernels.h"

namespace batch_invariant::cuda {

// Where tokens and experts meet, on the device. Entry t * k + i is the i-th expert of token t,
// experts ascending.
struct Routing {
  std::int32_t* choice = nullptr;    // [entries] the experts of a token in the order of choice
  float* choice_weight = nullptr;    // [entries]
  std::int32_t* expert = nullptr;    // [entries] -1: its weight is 0 or less
  float* weight = nullptr;           // [entries]
  std::int32_t* position = nullptr;  // [entries] the sorted row of an entry
  std::int32_t* token = nullptr;     // [entries] the token of a sorted row
  std::int32_t* rows = nullptr;      // [1] sorted rows
  RowTile* tiles = nullptr;          // [max_tiles]
  std::int32_t* tile_count = nullptr;
};

// Experts, weights and the rows of each expert; a tile of rows holds at most tile_rows.
Status LaunchRouting(const MoeArgs& args, const Routing& routing, int tile_rows, Stream stream);

// gathered [sorted rows, hidden]: the tokens' input in sorted order.
Status LaunchGather(const MoeArgs& args, const Routing& routing, void* gathered, Stream stream);

// activated [sorted rows, inter] from first [sorted rows, fc1 columns].
Status LaunchActivation(const MoeArgs& args, const Routing& routing, const void* first,
                        void* activated, Stream stream);

// The output from second [sorted rows, hidden].
Status LaunchCombine(const MoeArgs& args, const Routing& routing, const void* second,
                     Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MOE_ROUTE_H_
