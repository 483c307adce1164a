// The definition of softmax.f32 in plain loops.
#ifndef BATCH_INVARIANT_KERNELS_REFERENCE_SOFTMAX_H_
#define BATCH_INVARIANT_KERNELS_REFERENCE_SOFTMAX_H_

#include <cstdint>
#include <limits>
#include <vector>

#include "batch_invariant/cpu/softmax.h"
#include "kernels/reference/elementwise.h"
#include "kernels/reference/log.h"
#include "kernels/reference/norm.h"

namespace batch_invariant::reference {

inline void Softmax(const cpu::SoftmaxArgs& args, bool logarithm) {
  std::vector<float> e(args.length);
  for (int64_t o = 0; o < args.outer; ++o) {
    for (int64_t j = 0; j < args.inner; ++j) {
      const int64_t base = o * args.length * args.inner + j;
      const auto at = [&](int64_t i) { return base + i * args.inner; };
      float max = -std::numeric_limits<float>::infinity();
      for (int64_t i = 0; i < args.length; ++i) max = args.x[at(i)] > max ? args.x[at(i)] : max;
      for (int64_t i = 0; i < args.length; ++i) e[i] = Exp(args.x[at(i)] - max);
      const float sum = TreeSum(e.data(), args.length);
      const float log_sum = logarithm ? Log(sum) : 0.0f;
      for (int64_t i = 0; i < args.length; ++i) {
        args.y[at(i)] = logarithm ? (args.x[at(i)] - max) - log_sum : e[i] * (1.0f / sum);
      }
    }
  }
}

}  // namespace batch_invariant::reference

#endif  // BATCH_INVARIANT_KERNELS_REFERENCE_SOFTMAX_H_
