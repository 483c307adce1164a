// The custom-op domain in the coverage report: what serves its nodes, and which nodes of other
// domains it has an op for.
#ifndef BATCH_INVARIANT_ORT_EP_CUSTOM_COVERAGE_H_
#define BATCH_INVARIANT_ORT_EP_CUSTOM_COVERAGE_H_

#include <string>

#include "ort/ep/coverage.h"
#include "ort/ops/op.h"

namespace batch_invariant::ort {

// Fills in what serves a node of the custom-op domain. `on_cuda`: in a session of ONNX Runtime's
// CUDA provider, which runs what it can there and the rest on the CPU.
void CoverCustomOp(const NodeInfo& node, bool on_cuda, NodeCoverage* coverage);

// The custom op that computes what a node of another domain does; empty if there is none.
std::string CustomOpFor(const Ort::ConstNode& node, bool on_cuda);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_EP_CUSTOM_COVERAGE_H_
