// MultiHeadAttention and Attention of com.microsoft and Attention of opsets 23 and 24 on CUDA.
#include "batch_invariant/cuda/multi_head_attention.h"

#include "batch_invariant/cuda/gemm.h"
#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/cuda/packed_right_side.h"
#include "ort/ops/multi_head_attention_kernel.h"
#include "ort/ops/onnx_attention_kernel.h"
#include "ort/ops/packed_attention_kernel.h"

namespace batch_invariant::ort {
namespace {

constexpr size_t kAlignment = 256;

const char* AttentionContractOf(const NodeInfo& node) {
  return cuda::AttentionContract(CudaType(node.InputType(0)));
}

// `head_size` below 1: known when it runs.
Status AcceptHeadSize(int64_t head_size) {
  if (head_size <= 256) return Status::Ok();
  return Status::Unsupported("head size " + std::to_string(head_size) +
                             " is not served on CUDA, only up to 256");
}

void* At(const Place& place, ElementType type) {
  if (!place) return nullptr;
  return static_cast<char*>(place.data) + place.offset * static_cast<int64_t>(ElementBytes(type));
}

cuda::HeadTensor View(const HeadPlace& place, ElementType type) {
  return {At(place.at, type), place.batch_stride, place.head_stride, place.token_stride};
}

void SetMask(const MultiHeadAttentionOperands& operands, cuda::MultiHeadAttentionArgs* args) {
  const int64_t total = operands.total();
  args->mask = operands.mask;
  args->filter = operands.mask_filter_value;
  switch (operands.mask_form) {
    case MaskForm::kNone:
      return;
    case MaskForm::kLengths:
      args->key_mask = cuda::KeyMask::kLengths;
      return;
    case MaskForm::kEndStart:
      args->key_mask = cuda::KeyMask::kEndStart;
      return;
    case MaskForm::kKeys:
      args->key_mask = cuda::KeyMask::kValues;
      args->mask_batch_stride = total;
      return;
    case MaskForm::kQueries:
      args->key_mask = cuda::KeyMask::kValues;
      args->mask_query_stride = total;
      args->mask_batch_stride = operands.sequence * total;
      return;
    case MaskForm::kSquare:
      args->key_mask = cuda::KeyMask::kValues;
      args->mask += operands.past_sequence * operands.mask_side;
      args->mask_query_stride = operands.mask_side;
      args->mask_batch_stride = operands.mask_side * operands.mask_side;
      return;
  }
}

cuda::MultiHeadAttentionArgs ArgsOf(const MultiHeadAttentionOperands& operands) {
  const ElementType type = operands.type;
  cuda::MultiHeadAttentionArgs args;
  args.type = CudaType(type);
  args.batch = static_cast<int>(operands.batch);
  args.sequence = static_cast<int>(operands.sequence);
  args.kv_sequence = static_cast<int>(operands.kv_sequence);
  args.past_sequence = static_cast<int>(operands.past_sequence);
  args.heads = args.kv_heads = static_cast<int>(operands.num_heads);
  args.head_size = static_cast<int>(operands.head_size);
  args.value_size = static_cast<int>(operands.value_size);
  args.query = View(operands.query, type);
  args.key = View(operands.key, type);
  args.value = View(operands.value, type);
  args.query_bias = At(operands.query_bias, type);
  args.key_bias = At(operands.key_bias, type);
  args.value_bias = At(operands.value_bias, type);
  args.past_key = At(operands.past_key, type);
  args.past_value = At(operands.past_value, type);
  args.scale = operands.scale;
  args.causal = operands.unidirectional;
  SetMask(operands, &args);
  if (operands.attention_bias) {
    const int64_t plane = operands.sequence * operands.total();
    args.bias = At(operands.attention_bias, type);
    args.bias_type = CudaDataType(type);
    args.bias_query_stride = operands.total();
    args.bias_head_stride = operands.bias_heads == 1 ? 0 : plane;
    args.bias_batch_stride = operands.bias_batch == 1 ? 0 : plane * operands.bias_heads;
    args.bias_keys = static_cast<int>(operands.total());
  }
  args.output = At(operands.output, type);
  args.output_strides = {nullptr, operands.sequence * operands.num_heads * operands.value_size,
                         operands.value_size, operands.num_heads * operands.value_size};
  args.present_key = At(operands.present_key, type);
  args.present_value = At(operands.present_value, type);
  return args;
}

Status Run(OpContext& context, const cuda::MultiHeadAttentionArgs& args) {
  size_t bytes = 0;
  BATCH_INVARIANT_RETURN_IF_ERROR(cuda::MultiHeadAttentionWorkspaceBytes(args, &bytes));
  void* workspace = nullptr;
  BATCH_INVARIANT_RETURN_IF_ERROR(context.Workspace(bytes, &workspace));
  return cuda::MultiHeadAttention(args, workspace, bytes, CudaStream(context));
}

struct CudaMultiHeadAttention {
  static std::vector<ElementType> Types() { return kCudaFloats; }
  static const char* Contract(const NodeInfo& node) { return AttentionContractOf(node); }
  static Status Accept(const NodeInfo& node, int64_t head_size) {
    if (node.HasOutput(3)) return Status::Unsupported("the output qk is not served on CUDA");
    return AcceptHeadSize(head_size);
  }
  static Status Run(OpContext& context, const MultiHeadAttentionOperands& operands) {
    return ort::Run(context, ArgsOf(operands));
  }
};

// The projected tokens and what attention needs share the workspace.
class CudaProjection {
 public:
  Status Pack(DeviceServices* device, const Tensor& weights) {
    bool packed = false;
    return weights_.Pack(device, weights, &packed);
  }

  Status Run(OpContext& context, const ProjectionInputs& inputs,
             MultiHeadAttentionOperands* operands) const {
    // How much attention needs depends on where the tokens lie by their alignment alone.
    const auto place = [&](void* tokens) {
      operands->query.at.data = operands->key.at.data = operands->value.at.data = tokens;
    };
    place(reinterpret_cast<void*>(kAlignment));
    size_t attention_bytes = 0;
    BATCH_INVARIANT_RETURN_IF_ERROR(
        cuda::MultiHeadAttentionWorkspaceBytes(ArgsOf(*operands), &attention_bytes));
    const size_t projected_bytes =
        static_cast<size_t>(inputs.tokens * inputs.columns) * ElementBytes(operands->type);
    const size_t first = (projected_bytes + kAlignment - 1) / kAlignment * kAlignment;
    void* workspace = nullptr;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Workspace(first + attention_bytes, &workspace));
    cuda::GemmArgs gemm;
    gemm.type = CudaType(operands->type);
    gemm.m = inputs.tokens;
    gemm.n = inputs.columns;
    gemm.k = inputs.k;
    gemm.a = {inputs.input.data, inputs.k, 1};
    if (weights_.packed()) {
      gemm.packed_b = weights_.data();
      gemm.packed_b_is_ready = true;
    } else {
      gemm.b = {inputs.weights.data, inputs.columns, 1};
    }
    if (inputs.bias.present) gemm.c = {inputs.bias.data, 0, 1};
    gemm.y = workspace;
    gemm.y_row_stride = inputs.columns;
    BATCH_INVARIANT_RETURN_IF_ERROR(cuda::Gemm(gemm, CudaStream(context)));
    place(workspace);
    return cuda::MultiHeadAttention(ArgsOf(*operands), static_cast<char*>(workspace) + first,
                                    attention_bytes, CudaStream(context));
  }

 private:
  PackedRightSide weights_{false};
};

struct CudaPackedAttention {
  using Projection = CudaProjection;
  static std::vector<ElementType> Types() { return kCudaFloats; }
  static const char* Contract(const NodeInfo& node) { return AttentionContractOf(node); }
  static Status Accept(const NodeInfo&, int64_t head_size) { return AcceptHeadSize(head_size); }
};

struct CudaOnnxAttention {
  static std::vector<ElementType> Types() { return kCudaFloats; }
  static std::vector<ElementType> MaskTypes() {
    return {kFloat, kFloat16, kBFloat16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL};
  }
  static const char* Contract(const NodeInfo& node) { return AttentionContractOf(node); }
  static Status Accept(const NodeInfo& node, int64_t head_size) {
    if (node.HasOutput(3)) {
      return Status::Unsupported("the output qk_matmul_output is not served on CUDA");
    }
    if (node.InputType(2) != node.InputType(0)) {
      return Status::Unsupported("V of another type than Q and K is not served on CUDA");
    }
    return AcceptHeadSize(head_size);
  }
  static Status Run(OpContext& context, const OnnxAttentionOperands& operands) {
    const ElementType type = operands.type;
    cuda::MultiHeadAttentionArgs args;
    args.type = CudaType(type);
    args.batch = static_cast<int>(operands.batch);
    args.sequence = static_cast<int>(operands.sequence);
    args.kv_sequence = static_cast<int>(operands.kv_sequence);
    args.past_sequence = static_cast<int>(operands.past_sequence);
    args.heads = static_cast<int>(operands.q_num_heads);
    args.kv_heads = static_cast<int>(operands.kv_num_heads);
    args.head_size = static_cast<int>(operands.head_size);
    args.value_size = static_cast<int>(operands.value_size);
    args.query = View(operands.query, type);
    args.key = View(operands.key, type);
    args.value = View(operands.value, type);
    args.past_key = operands.past_key;
    args.past_value = operands.past_value;
    args.scale = operands.scale;
    args.softcap = operands.softcap;
    args.causal = operands.is_causal;
    if (operands.mask != nullptr) {
      args.bias = operands.mask;
      args.bias_type = CudaDataType(operands.mask_type);
      args.bias_batch_stride = operands.mask_batch_stride;
      args.bias_head_stride = operands.mask_head_stride;
      args.bias_query_stride = operands.mask_query_stride;
      args.bias_key_stride = operands.mask_repeats ? 0 : 1;
      args.bias_keys = static_cast<int>(operands.mask_keys);
    }
    args.key_lengths = operands.nonpad_kv_seqlen;
    args.output_strides = View(operands.output, type);
    args.output = operands.output.at.data;
    args.present_key = operands.present_key;
    args.present_value = operands.present_value;
    return ort::Run(context, args);
  }
};

}  // namespace

void AppendCudaMultiHeadAttention(std::vector<OpDefinition>& ops) {
  AppendMultiHeadAttentionOps<CudaMultiHeadAttention>(ops);
  AppendPackedAttentionOps<CudaPackedAttention>(ops);
  AppendOnnxAttentionOps<CudaOnnxAttention>(ops);
}

}  // namespace batch_invariant::ort
