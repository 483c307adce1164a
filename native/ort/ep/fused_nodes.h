// Groups of nodes that run as one kernel: found while a graph is partitioned, made when ONNX Runtime
// asks to compile them.
#ifndef BATCH_INVARIANT_ORT_EP_FUSED_NODES_H_
#define BATCH_INVARIANT_ORT_EP_FUSED_NODES_H_

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "ort/ops/fusion.h"

namespace batch_invariant::ort {

// Indices into the nodes of a graph, ascending.
struct FusedGroup {
  const FusionDefinition* fusion;
  std::vector<size_t> nodes;
};

// Groups without a common node. Only nodes for which `may_take` (given the index) is true are in
// one.
std::vector<FusedGroup> FindFusedGroups(std::span<const FusionDefinition> fusions,
                                        std::span<const Ort::ConstNode> nodes,
                                        const std::function<bool(size_t)>& may_take);

// The kernel of `graph`, which holds the nodes of one group. Release with ReleaseFusedKernel.
Status CompileFusedKernel(std::span<const FusionDefinition> fusions, Ort::ConstGraph graph,
                          Ort::ConstNode fused_node, cpu::InstructionSet instruction_set,
                          DeviceServices* device, OrtNodeComputeInfo** info);
void ReleaseFusedKernel(OrtNodeComputeInfo* info);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_EP_FUSED_NODES_H_
