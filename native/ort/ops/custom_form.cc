#include "ort/ops/custom_form.h"

#include <algorithm>

#include "ort/ops/invariant_ops.h"

namespace batch_invariant::ort {
namespace {

bool SameName(const OpDefinition& a, const OpDefinition& b) {
  return std::string_view(CustomName(a)) == CustomName(b);
}

bool SameArgument(const Argument& a, const Argument& b) {
  return a.optional == b.optional && a.fixed_type == b.fixed_type;
}

// A later form may add optional inputs, and may tie type parameters together that were apart:
// TakesTypes decides on that node by node.
bool Extends(const OpDefinition& newer, const OpDefinition& older) {
  if (newer.create != older.create || newer.accept != older.accept) return false;
  if (newer.inputs.size() < older.inputs.size()) return false;
  for (size_t i = 0; i < newer.inputs.size(); ++i) {
    const bool fits = i < older.inputs.size() ? SameArgument(newer.inputs[i], older.inputs[i])
                                              : newer.inputs[i].optional;
    if (!fits) return false;
  }
  return true;
}

}  // namespace

const char* CustomName(const OpDefinition& op) {
  return op.custom_name != nullptr ? op.custom_name : op.name;
}

bool IsCustomForm(std::span<const OpDefinition> ops, const OpDefinition& op) {
  if (IsInvariantOp(op.domain, op.name)) return false;
  return std::none_of(ops.begin(), ops.end(), [&](const OpDefinition& other) {
    return SameName(other, op) && other.since_first > op.since_first;
  });
}

const OpDefinition* CustomFormOf(std::span<const OpDefinition> ops, const OpDefinition& op) {
  const OpDefinition* form = FindCustomForm(ops, CustomName(op));
  if (form == &op) return form;
  return form != nullptr && Extends(*form, op) ? form : nullptr;
}

const OpDefinition* FindCustomForm(std::span<const OpDefinition> ops, std::string_view name) {
  for (const OpDefinition& op : ops) {
    if (CustomName(op) == name && IsCustomForm(ops, op)) return &op;
  }
  return nullptr;
}

bool TakesTypes(const OpDefinition& form, const NodeInfo& node) {
  std::vector<ElementType> chosen(form.constraints.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED);
  for (size_t i = 0; i < form.inputs.size(); ++i) {
    if (!node.HasInput(i)) continue;
    const ElementType type = node.InputType(i);
    const Argument& input = form.inputs[i];
    if (input.constraint[0] == '\0') {
      if (type != input.fixed_type) return false;
      continue;
    }
    for (size_t c = 0; c < form.constraints.size(); ++c) {
      if (std::string_view(form.constraints[c].name) != input.constraint) continue;
      const std::vector<ElementType>& types = form.constraints[c].types;
      const bool served = std::find(types.begin(), types.end(), type) != types.end();
      const bool free = chosen[c] == ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
      if (!served || (!free && chosen[c] != type)) return false;
      chosen[c] = type;
    }
  }
  return true;
}

}  // namespace batch_invariant::ort
