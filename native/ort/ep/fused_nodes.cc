#include "ort/ep/fused_nodes.h"

#include <algorithm>
#include <map>

namespace batch_invariant::ort {
namespace {

// Adapts an OpKernel to ONNX Runtime's interface of compiled nodes.
struct FusedKernel : OrtNodeComputeInfo {
  std::unique_ptr<OpKernel> kernel;
  cpu::InstructionSet instruction_set;
  DeviceServices* device;
};

OrtStatus* ORT_API_CALL CreateState(OrtNodeComputeInfo* self, OrtNodeComputeContext*,
                                    void** state) noexcept {
  *state = self;
  return nullptr;
}

OrtStatus* ORT_API_CALL Compute(OrtNodeComputeInfo*, void* state,
                                OrtKernelContext* context) noexcept {
  return Guarded([&] {
    auto* fused = static_cast<FusedKernel*>(state);
    OpContext op_context(context, fused->instruction_set, fused->device);
    return op_context.Run(*fused->kernel);
  });
}

void ORT_API_CALL ReleaseState(OrtNodeComputeInfo*, void*) noexcept {}

}  // namespace

std::vector<FusedGroup> FindFusedGroups(std::span<const FusionDefinition> fusions,
                                        std::span<const Ort::ConstNode> nodes,
                                        const std::function<bool(size_t)>& may_take) {
  std::map<size_t, size_t> index_of_id;
  for (size_t i = 0; i < nodes.size(); ++i) index_of_id[nodes[i].GetId()] = i;
  std::vector<bool> taken(nodes.size(), false);
  std::vector<FusedGroup> groups;
  for (const FusionDefinition& fusion : fusions) {
    for (size_t last = 0; last < nodes.size(); ++last) {
      if (taken[last] || !may_take(last)) continue;
      FusedGroup group{&fusion, {}};
      for (const Ort::ConstNode& node : fusion.match(nodes[last], false)) {
        const auto found = index_of_id.find(node.GetId());
        if (found == index_of_id.end() || taken[found->second] || !may_take(found->second)) {
          group.nodes.clear();
          break;
        }
        group.nodes.push_back(found->second);
      }
      if (group.nodes.empty()) continue;
      std::sort(group.nodes.begin(), group.nodes.end());
      for (const size_t index : group.nodes) taken[index] = true;
      groups.push_back(std::move(group));
    }
  }
  return groups;
}

Status CompileFusedKernel(std::span<const FusionDefinition> fusions, Ort::ConstGraph graph,
                          Ort::ConstNode fused_node, cpu::InstructionSet instruction_set,
                          DeviceServices* device, OrtNodeComputeInfo** info) {
  const std::vector<Ort::ConstNode> nodes = graph.GetNodes();
  std::vector<std::string> inputs;
  for (const Ort::ConstValueInfo& input : fused_node.GetInputs()) inputs.push_back(input.GetName());
  for (const FusionDefinition& fusion : fusions) {
    for (const Ort::ConstNode& last : nodes) {
      const std::vector<Ort::ConstNode> group = fusion.match(last, true);
      if (group.size() != nodes.size()) continue;
      auto fused = std::make_unique<FusedKernel>();
      fused->ort_version_supported = kOrtApiVersion;
      fused->OrtNodeComputeInfo::CreateState = &CreateState;
      fused->OrtNodeComputeInfo::Compute = &Compute;
      fused->OrtNodeComputeInfo::ReleaseState = &ReleaseState;
      fused->instruction_set = instruction_set;
      fused->device = device;
      BATCH_INVARIANT_RETURN_IF_ERROR(fusion.create(group, inputs, device, &fused->kernel));
      fused->kernel->set_device(device);
      *info = fused.release();
      return Status::Ok();
    }
  }
  return Status::Unsupported("node '" + fused_node.GetName() +
                             "': this provider knows no kernel for its group of nodes");
}

void ReleaseFusedKernel(OrtNodeComputeInfo* info) { delete static_cast<FusedKernel*>(info); }

}  // namespace batch_invariant::ort
