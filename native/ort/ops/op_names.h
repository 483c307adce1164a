// Names of element types in messages.
#ifndef BATCH_INVARIANT_ORT_OPS_OP_NAMES_H_
#define BATCH_INVARIANT_ORT_OPS_OP_NAMES_H_

#include <span>
#include <string>

#include "ort/ops/node_info.h"

namespace batch_invariant::ort {

// "float32", "float16", "uint8" ...
const char* TypeName(ElementType type);

// "float32 and uint8"
std::string TypeNames(std::span<const ElementType> types);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_OP_NAMES_H_
