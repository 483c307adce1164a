// What the mixtures of experts of every device have in common.
#ifndef BATCH_INVARIANT_EXPERT_ROUTING_H_
#define BATCH_INVARIANT_EXPERT_ROUTING_H_

#include <cstdint>

namespace batch_invariant {

enum class ExpertActivation : uint8_t {
  kRelu,      // x > 0 or NaN ? x : 0
  kGelu,      // the tanh form of UnaryOp::kGeluTanh
  kSilu,      // x * sigmoid(x)
  kIdentity,  // x
  kSwiGlu,    // G * sigmoid(alpha G) * (L + beta), G = min(g, limit), L = l held to +-limit
};

// Where the weights of the chosen experts come from. An expert whose weight is 0 or less is left
// out.
enum class RouterWeights : uint8_t {
  kSoftmax,          // of all router values
  kSoftmaxOfChosen,  // of the k chosen ones
  kGiven,            // MoeArgs::router_weights
};

}  // namespace batch_invariant

#endif  // BATCH_INVARIANT_EXPERT_ROUTING_H_
