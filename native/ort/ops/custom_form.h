// Which ops of a table the custom-op domain offers, and under which names: those whose stock
// kernels may vary. The custom-op library registers these, the coverage report and `ortbi convert`
// ask for them: one list for all three.
#ifndef BATCH_INVARIANT_ORT_OPS_CUSTOM_FORM_H_
#define BATCH_INVARIANT_ORT_OPS_CUSTOM_FORM_H_

#include <string_view>

#include "ort/ops/op.h"

namespace batch_invariant::ort {

// The name of an op in the custom-op domain.
const char* CustomName(const OpDefinition& op);

// True for the form of an op that is offered under its custom name. Custom ops of one name share a
// schema, whatever their devices, so that it is the newest one alone.
bool IsCustomForm(std::span<const OpDefinition> ops, const OpDefinition& op);

// The offered form that computes what `op` does from the same inputs and attributes; null if none.
const OpDefinition* CustomFormOf(std::span<const OpDefinition> ops, const OpDefinition& op);

// The offered form of a name of the custom-op domain; null if there is none.
const OpDefinition* FindCustomForm(std::span<const OpDefinition> ops, std::string_view name);

// Whether a custom op of this form takes the node's inputs: each type parameter one served type.
bool TakesTypes(const OpDefinition& form, const NodeInfo& node);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_CUSTOM_FORM_H_
