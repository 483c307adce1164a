// GroupQueryAttention on CUDA.
#include "batch_invariant/cuda/attention.h"

#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/group_query_attention_inputs.h"

namespace batch_invariant::ort {
namespace {

Status Accept(const NodeInfo& node) {
  if (node.Int("qk_output", 0) != 0 || node.HasOutput(3)) {
    return Status::Unsupported("the output output_qk is not served on CUDA");
  }
  if (node.Int("sliding_window_cache", 0) != 0) {
    return Status::Unsupported("the attribute sliding_window_cache is not served on CUDA");
  }
  BATCH_INVARIANT_RETURN_IF_ERROR(AcceptGroupQueryAttention(node));
  const GroupQueryAttentionAttributes attributes(node);
  const int64_t heads = node.HasInput(kKey) ? attributes.num_heads
                                            : attributes.num_heads + 2 * attributes.kv_num_heads;
  const int64_t width = node.InputWidth(kQuery);
  if (heads < 1 || width < 1 || width % heads != 0) return Status::Ok();  // known when it runs
  cuda::AttentionArgs args;
  args.type = CudaType(node.InputType(kQuery));
  args.heads = args.kv_heads = 1;
  args.head_size = static_cast<int>(width / heads);
  size_t bytes = 0;
  return cuda::AttentionWorkspaceBytes(args, &bytes);
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

    cuda::GroupQueryAttentionArgs args;
    args.type = CudaType(inputs.in[kQuery].type);
    args.batch = static_cast<int>(inputs.batch);
    args.tokens = static_cast<int>(inputs.sequence);
    args.heads = static_cast<int>(attributes_.num_heads);
    args.kv_heads = static_cast<int>(attributes_.kv_num_heads);
    args.head_size = static_cast<int>(inputs.head_size);
    args.total_sequence_length = static_cast<int>(inputs.total_sequence_length);
    args.query = inputs.in[kQuery].data;
    args.key = inputs.in[kKey].data;
    args.value = inputs.in[kValue].data;
    if (inputs.past_capacity > 0) {
      args.past_key = inputs.in[kPastKey].data;
      args.past_value = inputs.in[kPastValue].data;
      args.past_capacity = static_cast<int>(inputs.past_capacity);
    }
    args.present_key = outputs[1].data;
    args.present_value = outputs[2].data;
    args.present_capacity = static_cast<int>(inputs.present_capacity);
    args.seqlens_k = inputs.Data<int32_t>(kSeqlensK);
    args.rotary = attributes_.do_rotary != 0;
    args.rotary_interleaved = attributes_.rotary_interleaved != 0;
    args.rotary_dim = static_cast<int>(2 * inputs.cache_width);
    args.rotary_positions = static_cast<int>(inputs.cache_rows);
    args.cos_cache = inputs.in[kCosCache].data;
    args.sin_cache = inputs.in[kSinCache].data;
    args.position_ids = inputs.Data<int64_t>(kPositionIds);
    args.q_norm_weight = inputs.in[kQNormWeight].data;
    args.k_norm_weight = inputs.in[kKNormWeight].data;
    args.qk_norm_epsilon = attributes_.qk_norm_epsilon;
    args.scale = attributes_.scale;
    args.softcap = attributes_.softcap;
    args.causal = attributes_.causal != 0;
    args.local_window_size = static_cast<int>(attributes_.local_window_size);
    if (const Tensor& bias = inputs.in[kAttentionBias]; bias.present) {
      args.attention_bias = bias.data;
      args.bias_batch = static_cast<int>(bias.shape[0]);
      args.bias_heads = static_cast<int>(bias.shape[1]);
    }
    args.head_sink = inputs.in[kHeadSink].data;
    args.smooth_softmax = attributes_.smooth_softmax == 1;
    args.output = outputs[0].data;

    size_t workspace_bytes = 0;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        cuda::GroupQueryAttentionWorkspaceBytes(args, &workspace_bytes));
    void* workspace = nullptr;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Workspace(workspace_bytes, &workspace));
    return cuda::GroupQueryAttention(args, workspace, workspace_bytes, CudaStream(context));
  }

 private:
  const GroupQueryAttentionAttributes attributes_;
};

Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<GroupQueryAttentionKernel>(node);
  return Status::Ok();
}

}  // namespace

void AppendCudaAttention(std::vector<OpDefinition>& ops) {
  OpDefinition op = GroupQueryAttentionOp(kCudaFloats);
  op.accept = &Accept;
  op.contract = [](const NodeInfo& node) {
    return cuda::AttentionContract(CudaType(node.InputType(0)));
  };
  op.create = &Create;
  ops.push_back(std::move(op));
}

}  // namespace batch_invariant::ort
