// MultiHeadAttention on the CPU.
#include <algorithm>

#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/attention.h"
#include "ort/ops/cpu_attention.h"
#include "ort/ops/half.h"
#include "ort/ops/multi_head_attention_kernel.h"

namespace batch_invariant::ort {
namespace {

float* At(const Place& place) {
  return place ? static_cast<float*>(place.data) + place.offset : nullptr;
}

cpu::HeadView View(const HeadPlace& place) {
  return {At(place.at), place.batch_stride, place.head_stride, place.token_stride};
}

// The rows of a square mask that the queries have, cut to the keys there are.
Status CutSquareMask(const cpu::Context& cpu, const MultiHeadAttentionOperands& operands,
                     const int32_t** mask) {
  const int64_t rows = operands.batch * operands.sequence, total = operands.total();
  auto* cut = static_cast<int32_t*>(cpu.scratch.allocate(
      cpu.scratch.self, sizeof(int32_t) * static_cast<size_t>(rows * total + 1)));
  if (cut == nullptr) return Status::OutOfMemory("Attention: no memory for the mask");
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t position = operands.past_sequence + r % operands.sequence;
    const int32_t* row = operands.mask + (r / operands.sequence * operands.mask_side + position) *
                                             operands.mask_side;
    std::copy(row, row + total, cut + r * total);
  }
  *mask = cut;
  return Status::Ok();
}

Status SetMask(const cpu::Context& cpu, const MultiHeadAttentionOperands& operands,
               cpu::MultiHeadAttentionArgs* args) {
  args->mask = operands.mask;
  switch (operands.mask_form) {
    case MaskForm::kNone:
      break;
    case MaskForm::kLengths:
      args->key_mask = cpu::KeyMask::kLengths;
      break;
    case MaskForm::kEndStart:
      args->key_mask = cpu::KeyMask::kEndStart;
      break;
    case MaskForm::kKeys:
      args->key_mask = cpu::KeyMask::kKeys;
      break;
    case MaskForm::kQueries:
      args->key_mask = cpu::KeyMask::kQueries;
      break;
    case MaskForm::kSquare:
      args->key_mask = cpu::KeyMask::kQueries;
      return CutSquareMask(cpu, operands, &args->mask);
  }
  return Status::Ok();
}

struct Cpu {
  static std::vector<ElementType> Types() { return kCpuFloats; }
  static const char* Contract(const NodeInfo&) { return contract::kAttentionF32; }
  static Status Accept(const NodeInfo&, int64_t) { return Status::Ok(); }
  static Status Run(OpContext& context, const MultiHeadAttentionOperands& operands) {
    return RunMultiHeadAttentionOnCpu(context, operands);
  }
};

}  // namespace

Status RunMultiHeadAttentionOnCpu(OpContext& context, const MultiHeadAttentionOperands& operands) {
  const cpu::Context cpu = context.Cpu();
  cpu::MultiHeadAttentionArgs args;
  args.batch = operands.batch;
  args.sequence = operands.sequence;
  args.kv_sequence = operands.kv_sequence;
  args.past_sequence = args.past_capacity = operands.past_sequence;
  args.head_size = operands.head_size;
  args.value_size = operands.value_size;
  args.num_heads = operands.num_heads;
  args.scale = operands.scale;
  args.mask_filter_value = operands.mask_filter_value;
  args.unidirectional = operands.unidirectional;
  args.rounds_to_f16 = operands.rounds_to_f16;
  args.query = View(operands.query);
  args.key = View(operands.key);
  args.value = View(operands.value);
  args.query_bias = At(operands.query_bias);
  args.key_bias = At(operands.key_bias);
  args.value_bias = At(operands.value_bias);
  args.past_key = At(operands.past_key);
  args.past_value = At(operands.past_value);
  BATCH_INVARIANT_RETURN_IF_ERROR(SetMask(cpu, operands, &args));
  args.attention_bias = At(operands.attention_bias);
  args.bias_batch = operands.bias_batch;
  args.bias_heads = operands.bias_heads;
  args.output = At(operands.output);
  args.present_key = At(operands.present_key);
  args.present_value = At(operands.present_value);
  args.present_capacity = operands.total();
  args.output_qk = At(operands.output_qk);
  return cpu::MultiHeadAttentionF32(cpu, args);
}

void AppendMultiHeadAttention(std::vector<OpDefinition>& ops) {
  AppendMultiHeadAttentionOps<Cpu>(ops);
}

}  // namespace batch_invariant::ort
