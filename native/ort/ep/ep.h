// The provider of one session: options, partitioning, strictness.
#ifndef BATCH_INVARIANT_ORT_EP_EP_H_
#define BATCH_INVARIANT_ORT_EP_EP_H_

#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "ort/ep/coverage.h"
#include "ort/ep/device.h"
#include "ort/ep/fused_nodes.h"
#include "ort/ops/op.h"

namespace batch_invariant::ort {

// Reads the session entries ep.batchinvariantexecutionprovider.*; kInvalidArgument names the entry.
Status ReadOptions(Ort::ConstSessionOptions session_options, EpOptions* options);

class BatchInvariantEp : public OrtEp {
 public:
  // `device` is null on the CPU, and in a dry run that plans for a GPU without one.
  BatchInvariantEp(std::span<const OpDefinition> ops, std::span<const FusionDefinition> fusions,
                   const OrtKernelRegistry* registry, EpOptions options,
                   std::unique_ptr<DeviceSession> device);

  const EpOptions& options() const { return options_; }
  DeviceServices* services() const { return device_ == nullptr ? nullptr : device_->services(); }

 private:
  Status GetCapability(Ort::ConstGraph graph, OrtEpGraphSupportInfo* support_info);
  // The groups that run as one kernel; their nodes are then covered as nodes of this provider.
  std::vector<FusedGroup> Group(std::span<const Ort::ConstNode> nodes,
                                std::vector<NodeCoverage>& coverage) const;
  Status Compile(std::span<const OrtGraph* const> graphs,
                 std::span<const OrtNode* const> fused_nodes, OrtNodeComputeInfo** infos);
  // The refusal of a strict session, or ok.
  Status CheckStrict() const;
  void SetDeviceCallbacks();
  static DeviceSession& Device(const OrtEp* self);

  std::span<const OpDefinition> ops_;
  std::span<const FusionDefinition> fusions_;
  const OrtKernelRegistry* registry_;
  EpOptions options_;
  std::unique_ptr<DeviceSession> device_;
  const bool on_cuda_;
  std::mutex mutex_;
  CoverageReport report_;
  // By the name of the node that stands for a compiled group: what its own nodes are covered by.
  std::map<std::string, std::vector<NodeCoverage>> compiled_;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_EP_EP_H_
