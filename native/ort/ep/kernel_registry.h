// The op table as ONNX Runtime's kernel registry.
#ifndef BATCH_INVARIANT_ORT_EP_KERNEL_REGISTRY_H_
#define BATCH_INVARIANT_ORT_EP_KERNEL_REGISTRY_H_

#include <span>

#include "ort/ops/op.h"

namespace batch_invariant::ort {

// Registers every definition under the provider's name. Throws Ort::Exception.
Ort::KernelRegistry MakeKernelRegistry(std::span<const OpDefinition> ops);

// The definition that matches the node's domain, name and version, whatever its types; null if
// none.
const OpDefinition* FindOp(std::span<const OpDefinition> ops, const Ort::ConstNode& node);

// What the node's types lack for `op`: one clause, or empty.
std::string TypeMismatch(const OpDefinition& op, const NodeInfo& node);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_EP_KERNEL_REGISTRY_H_
