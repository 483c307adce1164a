// Spreads rows of work over threads in ranges that are worth a task. Scheduling only: which rows
// share a range changes no result.
#ifndef BATCH_INVARIANT_KERNELS_CPU_DISPATCH_PARALLEL_ROWS_H_
#define BATCH_INVARIANT_KERNELS_CPU_DISPATCH_PARALLEL_ROWS_H_

#include <algorithm>
#include <cstdint>

#include "batch_invariant/cpu/context.h"

namespace batch_invariant::cpu {

// Calls function(begin, end) for ranges that cover [0, rows). `row_cost` is the work of one row in
// elements touched.
template <typename Function>
void ParallelRows(const Parallel& parallel, int64_t rows, int64_t row_cost, Function&& function) {
  constexpr int64_t kWorthATask = 16384;
  constexpr int64_t kTasksPerThread = 4;
  if (rows <= 0) return;
  const int64_t tasks = kTasksPerThread * std::max(parallel.threads, 1);
  const int64_t per_task = std::max(
      {int64_t{1}, kWorthATask / std::max<int64_t>(row_cost, 1), (rows + tasks - 1) / tasks});
  const int64_t items = (rows + per_task - 1) / per_task;
  ParallelFor(parallel, items, [&](int64_t item) {
    function(item * per_task, std::min(rows, (item + 1) * per_task));
  });
}

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_DISPATCH_PARALLEL_ROWS_H_
