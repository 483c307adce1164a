// Groups of nodes that one kernel computes. The bytes of a group's outputs are those of its nodes
// run one by one; a fused kernel saves launches and passes over memory, nothing else.
#ifndef BATCH_INVARIANT_ORT_OPS_FUSION_H_
#define BATCH_INVARIANT_ORT_OPS_FUSION_H_

#include <memory>
#include <span>
#include <vector>

#include "ort/ops/op.h"

namespace batch_invariant::ort {

struct FusionDefinition {
  // The contract of nodes of a group that no op of the provider serves one by one.
  const char* contract;
  // Whether the kernel keeps constant inputs of its own, so that the session need not.
  bool keeps_constants;
  // The group whose last node is `last`, or nothing. What the group makes on the way is used by
  // nothing outside it. `alone`: the graph holds nothing else, and what lies around the group was
  // looked at before.
  std::vector<Ort::ConstNode> (*match)(const Ort::ConstNode& last, bool alone);
  // `nodes` is the group, alone in its graph; `inputs` names the inputs of the kernel in their order.
  Status (*create)(std::span<const Ort::ConstNode> nodes, std::span<const std::string> inputs,
                   DeviceServices* device, std::unique_ptr<OpKernel>* kernel);
};

// Those with more nodes first.
std::span<const FusionDefinition> CpuFusions();
std::span<const FusionDefinition> CudaFusions();

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_FUSION_H_
