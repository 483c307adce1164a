// Mixture of experts in fp32 (MoE and QMoE of com.microsoft), contracts moe.f32, moe.nbits.f32 and
// moe.nbits.s8: what a token gets does not depend on the tokens that share its experts.
#ifndef BATCH_INVARIANT_CPU_MOE_H_
#define BATCH_INVARIANT_CPU_MOE_H_

#include <cstdint>
#include <limits>

#include "batch_invariant/cpu/context.h"
#include "batch_invariant/cpu/matmul_nbits.h"
#include "batch_invariant/expert_routing.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cpu {

using batch_invariant::ExpertActivation;
using batch_invariant::RouterWeights;

// One linear layer of every expert, fc[n, k] of the expert e: fp32 panels or n-bit weights.
struct ExpertWeights {
  const float* packed = nullptr;          // PackMatMul's of the experts, one after the other
  const MatMulNBitsPlan* plan = nullptr;  // with `nbits`, instead of `packed`
  const void* nbits = nullptr;            // PackMatMulNBits's, one after the other
  const float* bias = nullptr;            // [experts, n], optional
};

//   chosen    the k largest router values of a token; of equal ones the later expert goes first
//   w         their weights; with `normalize`, divided by their sum, which is added in the order
//             of choice (0 where it is 0)
//   y[token]  from +0, experts ascending: y = y + w * fc2(activation(fc1(x))), both rounded
// A router value that is NaN gives NaN to its token.
struct MoeArgs {
  // Shapes.
  int64_t tokens = 0;
  int64_t hidden = 0;
  int64_t inter = 0;  // of fc2's input; fc1 gives twice as many for kSwiGlu
  int64_t experts = 0;
  // Attributes.
  int64_t k = 1;
  ExpertActivation activation = ExpertActivation::kRelu;
  RouterWeights weights = RouterWeights::kSoftmax;
  bool normalize = false;
  bool interleaved = true;  // g and l alternate along fc1's output; otherwise all g, then all l
  float alpha = 1.0f;
  float beta = 0.0f;
  float limit = std::numeric_limits<float>::infinity();
  // Inputs.
  const float* input = nullptr;           // [tokens, hidden]
  const float* router = nullptr;          // [tokens, experts]
  const float* router_weights = nullptr;  // [tokens, experts], for kGiven
  ExpertWeights fc1;                      // n: inter or 2 * inter, k: hidden
  ExpertWeights fc2;                      // n: hidden, k: inter
  float* output = nullptr;                // [tokens, hidden]
};

// kInvalidArgument: a size or k out of range, a missing operand. kOutOfMemory: scratch ran out.
// Scratch: the rows of the busiest expert, before and after each layer.
Status MixtureOfExperts(const Context& context, const MoeArgs& args);

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_CPU_MOE_H_
