// Names and sizes of element types.
#ifndef BATCH_INVARIANT_ORT_OPS_ELEMENT_TYPES_H_
#define BATCH_INVARIANT_ORT_OPS_ELEMENT_TYPES_H_

#include <span>
#include <string>
#include <vector>

#include "ort/ops/node_info.h"

namespace batch_invariant::ort {

// "float32", "float16", "uint8" ...
const char* TypeName(ElementType type);

// Bytes of one element; 0 for strings and types of less than a byte.
size_t ElementBytes(ElementType type);

// Every type with ElementBytes.
std::vector<ElementType> FixedSizeTypes();

// "float32 and uint8"
std::string TypeNames(std::span<const ElementType> types);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_ELEMENT_TYPES_H_
