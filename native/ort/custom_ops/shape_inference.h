// Output shapes of custom ops, for the ops whose shapes follow from their inputs alone.
#ifndef BATCH_INVARIANT_ORT_CUSTOM_OPS_SHAPE_INFERENCE_H_
#define BATCH_INVARIANT_ORT_CUSTOM_OPS_SHAPE_INFERENCE_H_

#include "ort/ops/op.h"

namespace batch_invariant::ort {

using InferShapes = OrtStatusPtr(ORT_API_CALL*)(const OrtCustomOp*, OrtShapeInferContext*);

// Null for an op without a rule. ONNX Runtime takes a type of every input before it calls a rule,
// also of one that a node leaves out, which has none: no op with an optional input has a rule. What
// `ortbi convert` states about a model's values serves those.
InferShapes ShapeRuleOf(const OpDefinition& op);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_CUSTOM_OPS_SHAPE_INFERENCE_H_
