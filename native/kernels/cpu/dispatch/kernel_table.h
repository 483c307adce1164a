// How an op lists its kernels: one row for each instruction set that was compiled. Selection, tests
// and benchmarks all walk the same rows.
//
// The body of op Foo, which every set's file includes, defines in namespace BI_SIMD
//   extern const FooKernels kFooKernels;
//   const FooKernels kFooKernels = {kInstructionSet, ...function pointers...};
// and foo.cc writes, in namespace batch_invariant::cpu,
//   BI_DEFINE_KERNEL_TABLE(FooKernels, kFooKernels, FooKernelTable)
// which defines std::span<const FooKernels* const> FooKernelTable(), slowest set first.
#ifndef BATCH_INVARIANT_KERNELS_CPU_DISPATCH_KERNEL_TABLE_H_
#define BATCH_INVARIANT_KERNELS_CPU_DISPATCH_KERNEL_TABLE_H_

#include <span>

#include "batch_invariant/cpu/context.h"

#if defined(__x86_64__) || defined(_M_X64)
#define BI_KERNEL_ROWS(kRow) &scalar::kRow, &avx2::kRow, &avx512::kRow
#elif defined(__aarch64__) || defined(_M_ARM64)
#define BI_KERNEL_ROWS(kRow) &scalar::kRow, &neon::kRow
#else
#define BI_KERNEL_ROWS(kRow) &scalar::kRow
#endif

#define BI_DEFINE_KERNEL_TABLE(Row, kRow, Table)                  \
  namespace scalar {                                              \
  extern const Row kRow;                                          \
  }                                                               \
  namespace avx2 {                                                \
  extern const Row kRow;                                          \
  }                                                               \
  namespace avx512 {                                              \
  extern const Row kRow;                                          \
  }                                                               \
  namespace neon {                                                \
  extern const Row kRow;                                          \
  }                                                               \
  std::span<const Row* const> Table() {                           \
    static constexpr const Row* kRows[] = {BI_KERNEL_ROWS(kRow)}; \
    return kRows;                                                 \
  }

namespace batch_invariant::cpu {

// Null when the table has no such row.
template <typename Row>
const Row* FindKernels(std::span<const Row* const> table, InstructionSet instruction_set) {
  for (const Row* row : table) {
    if (row->instruction_set == instruction_set) return row;
  }
  return nullptr;
}

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_DISPATCH_KERNEL_TABLE_H_
