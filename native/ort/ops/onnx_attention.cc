// Attention of opsets 23 and 24 on the CPU.
#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/attention.h"
#include "ort/ops/half.h"
#include "ort/ops/onnx_attention_kernel.h"

namespace batch_invariant::ort {
namespace {

constexpr ElementType kBool = ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;

template <typename View>
View ViewOf(const HeadPlace& place) {
  View view;
  view.data = static_cast<float*>(place.at.data);
  view.batch_stride = place.batch_stride;
  view.head_stride = place.head_stride;
  view.token_stride = place.token_stride;
  return view;
}

// A mask of one column, each element mask_keys times, one after the other.
template <typename T>
Status Repeat(const cpu::Context& cpu, const OnnxAttentionOperands& operands, const T** repeated) {
  const int64_t rows = (operands.mask_batch_stride != 0 ? operands.batch : 1) *
                       (operands.mask_head_stride != 0 ? operands.q_num_heads : 1) *
                       (operands.mask_query_stride != 0 ? operands.sequence : 1);
  auto* to = static_cast<T*>(cpu.scratch.allocate(
      cpu.scratch.self, sizeof(T) * static_cast<size_t>(rows * operands.mask_keys + 1)));
  if (to == nullptr) return Status::OutOfMemory("Attention: no memory for the mask");
  *repeated = to;
  const T* from = static_cast<const T*>(operands.mask);
  for (int64_t i = 0; i < rows; ++i) to = std::fill_n(to, operands.mask_keys, from[i]);
  return Status::Ok();
}

Status SetMask(const cpu::Context& cpu, const OnnxAttentionOperands& operands,
               cpu::OnnxAttentionArgs* args) {
  if (operands.mask == nullptr) return Status::Ok();
  args->mask_keys = operands.mask_keys;
  args->mask_query_stride = operands.mask_query_stride;
  args->mask_head_stride = operands.mask_head_stride;
  args->mask_batch_stride = operands.mask_batch_stride;
  if (operands.mask_repeats) {
    args->mask_query_stride *= operands.mask_keys;
    args->mask_head_stride *= operands.mask_keys;
    args->mask_batch_stride *= operands.mask_keys;
    return operands.mask_type == kBool ? Repeat(cpu, operands, &args->bool_mask)
                                       : Repeat(cpu, operands, &args->float_mask);
  }
  if (operands.mask_type == kBool) {
    args->bool_mask = static_cast<const bool*>(operands.mask);
  } else {
    args->float_mask = static_cast<const float*>(operands.mask);
  }
  return Status::Ok();
}

struct Cpu {
  static std::vector<ElementType> Types() { return kCpuFloats; }
  static std::vector<ElementType> MaskTypes() { return {kFloat, kFloat16, kBool}; }
  static const char* Contract(const NodeInfo&) { return contract::kAttentionF32; }
  static Status Accept(const NodeInfo&, int64_t) { return Status::Ok(); }
  static Status Run(OpContext& context, const OnnxAttentionOperands& operands) {
    const cpu::Context cpu = context.Cpu();
    cpu::OnnxAttentionArgs args;
    args.batch = operands.batch;
    args.sequence = operands.sequence;
    args.kv_sequence = operands.kv_sequence;
    args.past_sequence = operands.past_sequence;
    args.head_size = operands.head_size;
    args.value_size = operands.value_size;
    args.q_num_heads = operands.q_num_heads;
    args.kv_num_heads = operands.kv_num_heads;
    args.is_causal = operands.is_causal;
    args.scale = operands.scale;
    args.softcap = operands.softcap;
    args.qk_matmul_output_mode = operands.qk_matmul_output_mode;
    args.query = ViewOf<cpu::HeadView>(operands.query);
    args.key = ViewOf<cpu::HeadView>(operands.key);
    args.value = ViewOf<cpu::HeadView>(operands.value);
    args.past_key = static_cast<const float*>(operands.past_key);
    args.past_value = static_cast<const float*>(operands.past_value);
    BATCH_INVARIANT_RETURN_IF_ERROR(SetMask(cpu, operands, &args));
    args.nonpad_kv_seqlen = operands.nonpad_kv_seqlen;
    args.output = ViewOf<cpu::MutableHeadView>(operands.output);
    args.present_key = static_cast<float*>(operands.present_key);
    args.present_value = static_cast<float*>(operands.present_value);
    args.qk_matmul_output = static_cast<float*>(operands.qk_matmul_output);
    return cpu::OnnxAttentionF32(cpu, args);
  }
};

}  // namespace

void AppendOnnxAttention(std::vector<OpDefinition>& ops) { AppendOnnxAttentionOps<Cpu>(ops); }

}  // namespace batch_invariant::ort
