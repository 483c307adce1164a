// The op tables as a custom-op library in the domain ort.batch_invariant: for any ONNX Runtime host
// that loads RegisterCustomOps, with a model whose nodes were rewritten to that domain. Beside ONNX
// Runtime's CUDA provider the ops run on its GPU, memory and stream, and those that have no CUDA
// kernel on the CPU.
#ifndef BATCH_INVARIANT_ORT_CUSTOM_OPS_CUSTOM_OPS_H_
#define BATCH_INVARIANT_ORT_CUSTOM_OPS_CUSTOM_OPS_H_

#include "ort/ort_api.h"

namespace batch_invariant::ort {

// Adds the domain to a session's options. The domain lives as long as the process.
Status AddCustomOps(OrtSessionOptions* options);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_CUSTOM_OPS_CUSTOM_OPS_H_
