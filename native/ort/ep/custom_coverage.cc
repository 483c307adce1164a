#include "ort/ep/custom_coverage.h"

#include "ort/ep/kernel_registry.h"
#include "ort/ops/custom_form.h"

namespace batch_invariant::ort {

void CoverCustomOp(const NodeInfo& node, NodeCoverage* coverage) {
  const OpDefinition* form = FindCustomForm(CpuOps(), coverage->op);
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

std::string CustomOpFor(const Ort::ConstNode& node) {
  const OpDefinition* op = FindOp(CpuOps(), node);
  const OpDefinition* form = op == nullptr ? nullptr : CustomFormOf(CpuOps(), *op);
  if (form == nullptr || !TakesTypes(*form, GraphNodeInfo(node))) return {};
  return CustomName(*form);
}

}  // namespace batch_invariant::ort
