// GroupQueryAttention (com.microsoft): the attention of the decoders that GenAI's model builder
// writes.
#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/attention.h"
#include "ort/ops/group_query_attention_inputs.h"
#include "ort/ops/half.h"
#include "ort/ops/op_table.h"

namespace batch_invariant::ort {
namespace {

cpu::CachePointer Cache(const Tensor& tensor) {
  if (tensor.type == kFloat16) return tensor.Data<uint16_t>();
  return tensor.Data<float>();
}

class GroupQueryAttentionKernel final : public OpKernel {
 public:
  explicit GroupQueryAttentionKernel(const NodeInfo& node) : attributes_(node) {}

  Status Compute(OpContext& context) override {
    GroupQueryAttentionInputs inputs;
    std::array<Tensor, 4> outputs;
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadGroupQueryAttentionInputs(context, attributes_, &inputs));
    BATCH_INVARIANT_RETURN_IF_ERROR(
        CreateGroupQueryAttentionOutputs(context, attributes_, inputs, &outputs));
    if (inputs.batch == 0) return Status::Ok();

    cpu::GroupQueryAttentionArgs args;
    args.batch = inputs.batch;
    args.sequence = inputs.sequence;
    args.head_size = inputs.head_size;
    args.num_heads = attributes_.num_heads;
    args.kv_num_heads = attributes_.kv_num_heads;
    args.scale = attributes_.scale;
    args.softcap = attributes_.softcap;
    args.local_window_size = attributes_.local_window_size;
    args.do_rotary = attributes_.do_rotary;
    args.rotary_interleaved = attributes_.rotary_interleaved;
    args.smooth_softmax = attributes_.smooth_softmax;
    args.causal = attributes_.causal;
    args.qk_output = attributes_.qk_output;
    args.sliding_window_cache = attributes_.sliding_window_cache;
    args.qk_norm_epsilon = attributes_.qk_norm_epsilon;
    args.query = inputs.Data<float>(kQuery);
    args.key = inputs.Data<float>(kKey);
    args.value = inputs.Data<float>(kValue);
    if (inputs.past_capacity > 0) {
      args.past_key = Cache(inputs.in[kPastKey]);
      args.past_value = Cache(inputs.in[kPastValue]);
      args.past_capacity = inputs.past_capacity;
    }
    args.seqlens_k = inputs.Data<int32_t>(kSeqlensK);
    args.total_sequence_length = inputs.total_sequence_length;
    args.cos_cache = inputs.Data<float>(kCosCache);
    args.sin_cache = inputs.Data<float>(kSinCache);
    args.cache_rows = inputs.cache_rows;
    args.cache_width = inputs.cache_width;
    args.position_ids = inputs.Data<int64_t>(kPositionIds);
    if (const Tensor& bias = inputs.in[kAttentionBias]; bias.present) {
      args.attention_bias = bias.Data<float>();
      args.bias_batch = bias.shape[0];
      args.bias_heads = bias.shape[1];
      args.bias_keys = bias.shape[3];
    }
    args.head_sink = inputs.Data<float>(kHeadSink);
    args.q_norm_weight = inputs.Data<float>(kQNormWeight);
    args.k_norm_weight = inputs.Data<float>(kKNormWeight);
    args.output = outputs[0].Data<float>();
    args.present_key = Cache(outputs[1]);
    args.present_value = Cache(outputs[2]);
    args.present_capacity = inputs.present_capacity;
    args.output_qk = outputs[3].Data<float>();
    return cpu::GroupQueryAttentionF32(context.Cpu(), args);
  }

 private:
  const GroupQueryAttentionAttributes attributes_;
};

Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<GroupQueryAttentionKernel>(node);
  return Status::Ok();
}

}  // namespace

void AppendGroupQueryAttention(std::vector<OpDefinition>& ops) {
  OpDefinition op = GroupQueryAttentionOp(kCpuFloats);
  op.accept = &AcceptGroupQueryAttention;
  op.contract = [](const NodeInfo&) { return contract::kAttentionF32; };
  op.create = &Create;
  ops.push_back(std::move(op));
}

}  // namespace batch_invariant::ort
