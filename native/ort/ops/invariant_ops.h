// The ops whose stock kernels are invariant by nature. Each has a case in
// tests/OrtBatchInvariant.Provider.Tests/InvariantOperatorTests.cs, which runs the stock kernel
// over batch sizes; an op on no list counts as one that varies.
#ifndef BATCH_INVARIANT_ORT_OPS_INVARIANT_OPS_H_
#define BATCH_INVARIANT_ORT_OPS_INVARIANT_OPS_H_

#include <span>
#include <string_view>

namespace batch_invariant::ort {

// Data movement, selection and control flow copy bytes; the arithmetic ones are single correctly
// rounded operations, so that no vector width or tail can change them.
std::span<const std::string_view> InvariantOnnxOps();

std::span<const std::string_view> InvariantMicrosoftOps();

// Nodes of the ONNX domain that ONNX Runtime adds itself.
std::span<const std::string_view> InvariantInternalOps();

// Whether an op is on a list. The ONNX domain is "".
bool IsInvariantOp(std::string_view domain, std::string_view op);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_INVARIANT_OPS_H_
