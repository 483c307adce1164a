// Mixture of experts on CUDA (MoE and QMoE of com.microsoft): what a token gets does not depend on
// the tokens that share its experts.
//
// Contracts moe.tc16 and moe.nbits.tc16 (fp16, bf16), moe.f32.cuda and moe.nbits.f32.cuda (fp32),
// for one token with the router values v[e]:
//   chosen   the k largest v; of equal ones (-0 equals +0) the later expert goes first; NaN counts
//            as the largest
//   weight   kSoftmax, kSoftmaxOfChosen: over n values, all of them or those chosen in the order of
//            choice, with maximum m: e = exp(v - m); the sum of e in 32 partials, element i going
//            to partial i mod 32 in ascending i, added in halves (+16, +8, +4, +2, +1);
//            w = e / sum. kGiven: router_weights, widened. All in fp32, each step rounded.
//            normalize: divided by the sum of the k weights, added in the order of choice; 0 where
//            that sum is 0. An expert whose weight is 0 or less is left out.
//   expert   h = fc1(x) + bias and z = fc2(activation(h)) + bias, the products by gemm.tc16,
//            gemm.nbits.tc16, gemm.f32 or gemm.nbits.f32 (gemm.h, matmul_nbits.h) with their one
//            rounding to the element type; the activation by elementwise.cuda in fp32, then rounded
//            to the element type once
//   y        from +0 in fp32, experts ascending: y = y + w * z, product and sum rounded; then
//            rounded to the element type. fp32 NaN is written as 0x7fc00000.
// A row of an expert's product has the bytes that Gemm and MatMulNBits give it.
#ifndef BATCH_INVARIANT_CUDA_MOE_H_
#define BATCH_INVARIANT_CUDA_MOE_H_

#include <cstddef>
#include <cstdint>
#include <limits>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/cuda/matmul_nbits.h"
#include "batch_invariant/expert_routing.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

// One linear layer of every expert, fc[n, k] of the expert e.
struct ExpertWeights {
  // The experts' packed weights one after the other: of PackGemmWeights, or, with a plan, of
  // PackMatMulNBits. 16-byte aligned.
  const void* packed = nullptr;
  const MatMulNBitsPlan* plan = nullptr;  // of one expert, without a group index
  const void* bias = nullptr;             // [experts, n], element type, optional
};

struct MoeArgs {
  ElementType type = ElementType::kFloat32;
  // Shapes.
  std::int64_t tokens = 0;
  std::int64_t hidden = 0;
  std::int64_t inter = 0;  // of fc2's input; fc1 gives twice as many for kSwiGlu
  std::int64_t experts = 0;
  // Attributes.
  std::int64_t k = 1;
  ExpertActivation activation = ExpertActivation::kRelu;
  RouterWeights weights = RouterWeights::kSoftmax;
  bool normalize = false;
  bool interleaved = true;  // g and l alternate along fc1's output; otherwise all g, then all l
  float alpha = 1.0f;
  float beta = 0.0f;
  float limit = std::numeric_limits<float>::infinity();
  // Inputs.
  const void* input = nullptr;           // [tokens, hidden]
  const void* router = nullptr;          // [tokens, experts]
  const void* router_weights = nullptr;  // [tokens, experts], for kGiven
  ExpertWeights fc1;                     // n: inter or 2 * inter, k: hidden
  ExpertWeights fc2;                     // n: hidden, k: inter
  void* output = nullptr;                // [tokens, hidden]

  std::int64_t fc1_columns() const {
    return activation == ExpertActivation::kSwiGlu ? 2 * inter : inter;
  }
};

// The contract id: of quantised weights, or of weights in the element type.
const char* MoeContract(ElementType type, bool quantized);

// Bytes of scratch that MixtureOfExperts needs, from shapes alone.
Status MoeWorkspaceBytes(const MoeArgs& args, std::size_t* bytes);

// Enqueues the op. Tokens find their experts on the device, so that nothing is waited for and it
// can be captured in a graph; weights of experts that no token chose are not read. `workspace` is
// 16-byte aligned. kInvalidArgument: a size or k out of range, a missing operand. kUnsupported:
// more than 8192 experts, a size above 2^31 - 1, or a device below compute capability 8.0.
// kDeviceError: a launch failed.
Status MixtureOfExperts(const MoeArgs& args, void* workspace, std::size_t workspace_bytes,
                        Stream stream);

// QMoE's zero points of one a row, packed along the rows of an expert, as MatMulNBits has them: out
// uint8 [experts, n] from packed uint8 [experts, ceil(n * bits / 8)], low bits first. Enqueues.
Status UnpackRowZeroPoints(std::int64_t experts, std::int64_t n, int bits, const void* packed,
                           void* out, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_MOE_H_
