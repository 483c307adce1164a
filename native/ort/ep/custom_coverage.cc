#include "ort/ep/custom_coverage.h"

#include "ort/ep/kernel_registry.h"
#include "ort/ops/custom_form.h"

namespace batch_invariant::ort {

void CoverCustomOp(const NodeInfo& node, bool on_cuda, NodeCoverage* coverage) {
  // ONNX Runtime chooses by types alone.
  const OpDefinition* form = on_cuda ? FindCustomForm(CudaOps(), coverage->op) : nullptr;
  if (form == nullptr || !TakesTypes(*form, node)) {
    const OpDefinition* on_cpu = FindCustomForm(CpuOps(), coverage->op);
    if (on_cpu != nullptr) form = on_cpu;
  }
  if (form == nullptr) {
    coverage->reason = "this version of the library has no custom op of this name";
    return;
  }
  const Status accepted = form->accept(node);
  if (!accepted.ok()) {
    coverage->reason = accepted.message;
  } else if (!TakesTypes(*form, node)) {
    coverage->reason = "its types are not served";
  } else {
    coverage->served_by = ServedBy::kBatchInvariant;
    coverage->contract = form->contract(node);
    coverage->custom_op = coverage->op;
  }
}

std::string CustomOpFor(const Ort::ConstNode& node, bool on_cuda) {
  const GraphNodeInfo info(node);
  for (const std::span<const OpDefinition> ops : {CudaOps(), CpuOps()}) {
    if (!on_cuda && ops.data() == CudaOps().data()) continue;
    const OpDefinition* op = FindOp(ops, node);
    const OpDefinition* form = op == nullptr ? nullptr : CustomFormOf(ops, *op);
    if (form == nullptr || !TakesTypes(*form, info)) continue;
    return form->accept(info).ok() ? CustomName(*form) : std::string();
  }
  return {};
}

}  // namespace batch_invariant::ort
