// Lets a test call the operations of each SIMD header: one row of function pointers for each set.
#ifndef BATCH_INVARIANT_TESTS_NATIVE_CPU_SIMD_PROBE_H_
#define BATCH_INVARIANT_TESTS_NATIVE_CPU_SIMD_PROBE_H_

#include <cstdint>
#include <span>

#include "batch_invariant/cpu/context.h"

namespace batch_invariant::cpu {

// Each works on sixteen lanes.
struct SimdProbe {
  InstructionSet instruction_set;

  using Unary = void (*)(const float* x, float* y);
  Unary exp, exp2, sigmoid, tanh, erf;
  Unary round_nearest_even, sqrt, canonical, to_i32_and_back;
  Unary is_negative;  // 1 or 0

  using Binary = void (*)(const float* a, const float* b, float* y);
  Binary add, sub, mul, div, max, min, less, less_equal, equal, copy_sign;
  void (*fma)(const float* a, const float* b, const float* c, float* y);

  float (*reduce_add)(const float* x);
  float (*reduce_max)(const float* x);
  void (*transpose)(const float* x, float* y);                // [16, 16]
  void (*copy_partial)(const float* x, float* y, int count);  // LoadPartial, then StorePartial
  void (*load_partial)(const float* x, float* y, int count);  // all lanes of LoadPartial

  void (*load_f16)(const uint16_t* x, float* y);
  void (*load_bf16)(const uint16_t* x, float* y);
  void (*store_f16)(const float* x, uint16_t* y);
  void (*store_bf16)(const float* x, uint16_t* y);
  void (*load_u8)(const uint8_t* x, int32_t* y);
  void (*store_i8)(const int32_t* x, int8_t* y);
  void (*integers)(const int32_t* a, const int32_t* b, int32_t* y);  // [10, 16]: every operation

  // y[lane] = sum over steps of four products; u and s are [steps, 64].
  void (*dot_u4)(const uint8_t* u, const int8_t* s, int steps, int32_t* y);
  void (*dot_u8)(const uint8_t* u, const int8_t* s, int steps, int32_t* y);  // offset added back
};

std::span<const SimdProbe* const> SimdProbeTable();

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_TESTS_NATIVE_CPU_SIMD_PROBE_H_
