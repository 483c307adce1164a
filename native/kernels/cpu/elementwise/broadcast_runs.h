// Two operands broadcast to one shape, as runs along which each is contiguous or one element.
#ifndef BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_BROADCAST_RUNS_H_
#define BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_BROADCAST_RUNS_H_

#include <algorithm>
#include <cstdint>
#include <span>

#include "batch_invariant/status.h"
#include "kernels/cpu/dispatch/parallel_rows.h"

namespace batch_invariant::cpu {

// Elements mean the same wherever they stand, so that runs are cut to pieces of this length.
inline constexpr int64_t kRunElements = 4096;

struct BroadcastRuns {
  std::span<const int64_t> shape;
  std::span<const int64_t> a_strides;
  std::span<const int64_t> b_strides;
  int64_t count = 1;      // elements of the shape
  int64_t run = 1;        // elements of a run
  size_t outer_rank = 0;  // axes before the runs
  bool a_is_run = false;  // else one element for the whole run
  bool b_is_run = false;
};

// Strides are in elements, 0 where an operand is broadcast. kInvalidArgument: a negative extent,
// strides of another rank than the shape's.
inline Status MakeBroadcastRuns(std::span<const int64_t> shape, std::span<const int64_t> a_strides,
                                std::span<const int64_t> b_strides, BroadcastRuns* runs) {
  *runs = {shape, a_strides, b_strides};
  if (a_strides.size() != shape.size() || b_strides.size() != shape.size()) {
    return Status::InvalidArgument(
        "elementwise op: the strides must have as many entries as the shape");
  }
  for (const int64_t extent : shape) {
    if (extent < 0) return Status::InvalidArgument("elementwise op: no extent may be negative");
    runs->count *= extent;
  }
  runs->outer_rank = shape.size();
  for (; runs->outer_rank > 0; --runs->outer_rank) {
    const size_t axis = runs->outer_rank - 1;
    const int64_t extent = shape[axis];
    if (extent == 1) continue;
    const int64_t a = a_strides[axis], b = b_strides[axis];
    if (runs->run == 1) {
      if ((a != 0 && a != 1) || (b != 0 && b != 1)) break;
      runs->a_is_run = a == 1;
      runs->b_is_run = b == 1;
    } else if (a != (runs->a_is_run ? runs->run : 0) || b != (runs->b_is_run ? runs->run : 0)) {
      break;
    }
    runs->run *= extent;
  }
  return Status::Ok();
}

// each(a, b, y, length): offsets of the operands and of the output, for every piece of every run.
// `cost` is that of an element, as ParallelRows counts.
template <typename Each>
void ForEachRun(const Parallel& parallel, const BroadcastRuns& runs, int64_t cost, Each&& each) {
  const int64_t pieces_per_run = (runs.run + kRunElements - 1) / kRunElements;
  const int64_t pieces = runs.count / runs.run * pieces_per_run;
  ParallelRows(parallel, pieces, cost * std::min(runs.run, kRunElements),
               [&](int64_t begin, int64_t end) {
                 for (int64_t piece = begin; piece < end; ++piece) {
                   int64_t rest = piece / pieces_per_run;
                   const int64_t first = piece % pieces_per_run * kRunElements;
                   const int64_t y = rest * runs.run + first;
                   int64_t a = runs.a_is_run ? first : 0, b = runs.b_is_run ? first : 0;
                   for (size_t axis = runs.outer_rank; axis-- > 0;) {
                     const int64_t index = rest % runs.shape[axis];
                     rest /= runs.shape[axis];
                     a += index * runs.a_strides[axis];
                     b += index * runs.b_strides[axis];
                   }
                   each(a, b, y, std::min(kRunElements, runs.run - first));
                 }
               });
}

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_BROADCAST_RUNS_H_
