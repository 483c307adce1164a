// Checks, plan and launches of batch_invariant/cuda/multi_head_attention.h. Copies are made where
// the node's inputs ask for them; which rows share a call of the core decides no byte.
#include "batch_invariant/cuda/multi_head_attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "batch_invariant/cuda/layout.h"
#include "kernels/cuda/attention/join.h"
#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {
namespace {

constexpr std::size_t kAlignment = 256;

std::size_t Aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

Status Invalid(const char* what) {
  return Status::InvalidArgument(std::string("attention: ") + what);
}

Status Check(const MultiHeadAttentionArgs& args) {
  if (args.batch < 0 || args.sequence < 0 || args.kv_sequence < 0 || args.past_sequence < 0 ||
      args.head_size < 1 || args.value_size < 1) {
    return Invalid("a shape is out of range");
  }
  if (args.heads < 1 || args.kv_heads < 1 || args.heads % args.kv_heads != 0) {
    return Invalid("the query heads must be a multiple of the key/value heads, both positive");
  }
  if ((args.past_key == nullptr) != (args.past_value == nullptr) ||
      (args.present_key == nullptr) != (args.present_value == nullptr)) {
    return Invalid("half of a past or present pair is missing");
  }
  if (args.past_sequence > 0 && args.past_key == nullptr) return Invalid("the past has no data");
  if (args.key_mask != KeyMask::kNone && args.mask == nullptr) {
    return Invalid("the key mask has no data");
  }
  if (args.key_lengths != nullptr && args.past_sequence > 0) {
    return Invalid("lengths of the keys cannot come with a past");
  }
  return Status::Ok();
}

bool IsEmpty(const MultiHeadAttentionArgs& args) { return args.batch == 0; }

// Head size as the core sees it.
int Width(const MultiHeadAttentionArgs& args) {
  return (std::max(args.head_size, args.value_size) + 7) / 8 * 8;
}

bool IsAligned(const HeadTensor& tensor) {
  return reinterpret_cast<std::uintptr_t>(tensor.data) % 16 == 0 && tensor.batch_stride % 8 == 0 &&
         tensor.head_stride % 8 == 0 && tensor.token_stride % 8 == 0;
}

// The bias goes to the core as it is.
bool PassesBias(const MultiHeadAttentionArgs& args) {
  const DataType own = args.type == ElementType::kFloat32   ? DataType::kFloat32
                       : args.type == ElementType::kFloat16 ? DataType::kFloat16
                                                            : DataType::kBFloat16;
  return args.bias != nullptr && args.bias_type == own && args.bias_keys == args.total() &&
         args.bias_key_stride == 1 && args.key_mask == KeyMask::kNone &&
         args.key_lengths == nullptr;
}

bool MakesBias(const MultiHeadAttentionArgs& args) {
  return !PassesBias(args) &&
         (args.bias != nullptr || args.key_mask != KeyMask::kNone || args.key_lengths != nullptr);
}

// What is kept in the workspace: bytes of each part, 0 where the tensor is used as it is.
struct Plan {
  std::size_t query = 0, key = 0, value = 0, output = 0, bias = 0, core = 0;
  std::size_t Total() const { return query + key + value + output + bias + core; }
};

HeadTensor Contiguous(const void* data, int heads, int tokens, int width) {
  const std::int64_t head = std::int64_t{tokens} * width;
  return {data, heads * head, head, width};
}

// Query tokens [first, first + count) over the first `keys` keys.
struct Piece {
  int first, count, keys;
  bool causal;
};

// The core lets its last query stand at the last key. The tokens that see all keys are cut into
// pieces of at most as many as there are keys, since it knows none before the first key.
template <typename Body>
Status EachPiece(const MultiHeadAttentionArgs& args, const Body& body) {
  int first = 0;
  if (args.causal && args.key_lengths == nullptr) {
    first = std::min(args.sequence, args.kv_sequence);
    if (first > 0) {
      BATCH_INVARIANT_RETURN_IF_ERROR(body(Piece{0, first, args.past_sequence + first, true}));
    }
  }
  while (first < args.sequence && args.total() > 0) {
    const int count = std::min(args.sequence - first, args.total());
    BATCH_INVARIANT_RETURN_IF_ERROR(body(Piece{first, count, args.total(), false}));
    first += count;
  }
  return Status::Ok();
}

AttentionArgs CoreOf(const MultiHeadAttentionArgs& args, const Piece& piece) {
  AttentionArgs core;
  core.type = args.type;
  core.batch = args.batch;
  core.tokens = piece.count;
  core.heads = args.heads;
  core.kv_heads = args.kv_heads;
  core.head_size = Width(args);
  core.key_capacity = piece.keys;
  core.scale = args.scale;
  if (args.scale == 0.0f && core.head_size != args.head_size) {
    core.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(args.head_size)));
  }
  core.softcap = args.softcap;
  core.causal = piece.causal;
  return core;
}

Status MakePlan(const MultiHeadAttentionArgs& args, Plan* plan) {
  *plan = {};
  const int width = Width(args);
  const std::size_t element = ElementSize(args.type);
  const auto bytes = [&](int heads, int tokens) {
    return Aligned(static_cast<std::size_t>(args.batch) * heads * tokens * width * element);
  };
  const bool other_size = width != args.head_size, other_value = width != args.value_size;
  if (other_size || args.query_bias != nullptr || !IsAligned(args.query)) {
    plan->query = bytes(args.heads, args.sequence);
  }
  const auto needs_copy = [&](bool other, const void* bias, const void* present,
                              const HeadTensor& added) {
    if (other) return true;
    if (present != nullptr) return false;
    return bias != nullptr || args.past_sequence > 0 || !IsAligned(added);
  };
  if (needs_copy(other_size, args.key_bias, args.present_key, args.key)) {
    plan->key = bytes(args.kv_heads, args.total());
  }
  if (needs_copy(other_value, args.value_bias, args.present_value, args.value)) {
    plan->value = bytes(args.kv_heads, args.total());
  }
  HeadTensor output = args.output_strides;
  output.data = args.output;
  if (other_value || !IsAligned(output)) plan->output = bytes(args.heads, args.sequence);
  if (MakesBias(args)) {
    const BiasShape shape = BiasShapeOf(args);
    plan->bias = Aligned(static_cast<std::size_t>(shape.batch) * shape.heads * shape.queries *
                         args.total() * element);
  }
  return EachPiece(args, [&](const Piece& piece) {
    std::size_t core = 0;
    BATCH_INVARIANT_RETURN_IF_ERROR(AttentionWorkspaceBytes(CoreOf(args, piece), &core));
    plan->core = std::max(plan->core, Aligned(core));
    return Status::Ok();
  });
}

DataType DataTypeOf(ElementType type) {
  return type == ElementType::kFloat32   ? DataType::kFloat32
         : type == ElementType::kFloat16 ? DataType::kFloat16
                                         : DataType::kBFloat16;
}

// One call, with its pieces of the workspace.
class Call {
 public:
  Call(const MultiHeadAttentionArgs& args, const Plan& plan, void* workspace, Stream stream)
      : args_(args), plan_(plan), next_(static_cast<char*>(workspace)), stream_(stream) {}

  Status Run() {
    const int width = Width(args_), total = args_.total();
    AttentionArgs core = CoreOf(args_, {});
    core.query = args_.query;
    if (plan_.query > 0) {
      void* query = Take(plan_.query);
      core.query = Contiguous(query, args_.heads, args_.sequence, width);
      BATCH_INVARIANT_RETURN_IF_ERROR(
          LaunchJoin({args_.type, args_.batch, args_.heads, 0, args_.sequence, args_.head_size,
                      width, nullptr, args_.query, args_.query_bias, query},
                     stream_));
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(JoinKeys(args_.head_size, args_.past_key, args_.key,
                                             args_.key_bias, args_.present_key, plan_.key,
                                             &core.key));
    BATCH_INVARIANT_RETURN_IF_ERROR(JoinKeys(args_.value_size, args_.past_value, args_.value,
                                             args_.value_bias, args_.present_value, plan_.value,
                                             &core.value));
    BATCH_INVARIANT_RETURN_IF_ERROR(SetBias(&core));
    core.output = args_.output;
    core.output_strides = args_.output_strides;
    if (plan_.output > 0) {
      core.output = Take(plan_.output);
      core.output_strides = Contiguous(nullptr, args_.heads, args_.sequence, width);
    }
    if (total == 0) return WriteZeros();
    BATCH_INVARIANT_RETURN_IF_ERROR(EachPiece(args_, [&](const Piece& piece) {
      AttentionArgs part = CoreOf(args_, piece);
      const auto from = [&](const void* data, std::int64_t stride, std::int64_t element) {
        return static_cast<const char*>(data) + piece.first * stride * element;
      };
      const auto element = static_cast<std::int64_t>(ElementSize(args_.type));
      part.query = core.query;
      part.query.data = from(core.query.data, core.query.token_stride, element);
      part.key = core.key;
      part.value = core.value;
      part.output_strides = core.output_strides;
      part.output = const_cast<char*>(from(core.output, core.output_strides.token_stride, element));
      if (core.bias != nullptr) {
        part.bias = from(core.bias, core.bias_token_stride, element);
        part.bias_batch_stride = core.bias_batch_stride;
        part.bias_head_stride = core.bias_head_stride;
        part.bias_token_stride = core.bias_token_stride;
        part.bias_keys = total;
      }
      return Attention(part, next_, plan_.core, stream_);
    }));
    return plan_.output > 0 ? CopyOutput(core.output, core.output_strides) : Status::Ok();
  }

 private:
  void* Take(std::size_t bytes) {
    char* piece = next_;
    next_ += bytes;
    return piece;
  }

  Status JoinKeys(int size, const void* past, const HeadTensor& added, const void* bias,
                  void* present, std::size_t copy, HeadTensor* joined) {
    *joined = added;
    const auto join = [&](int width, void* to) {
      *joined = Contiguous(to, args_.kv_heads, args_.total(), width);
      return LaunchJoin({args_.type, args_.batch, args_.kv_heads, args_.past_sequence,
                         args_.kv_sequence, size, width, past, added, bias, to},
                        stream_);
    };
    if (present != nullptr) BATCH_INVARIANT_RETURN_IF_ERROR(join(size, present));
    return copy > 0 ? join(Width(args_), Take(copy)) : Status::Ok();
  }

  Status SetBias(AttentionArgs* core) {
    if (PassesBias(args_)) {
      core->bias = args_.bias;
      core->bias_batch_stride = args_.bias_batch_stride;
      core->bias_head_stride = args_.bias_head_stride;
      core->bias_token_stride = args_.bias_query_stride;
      return Status::Ok();
    }
    if (!MakesBias(args_)) return Status::Ok();
    const BiasShape shape = BiasShapeOf(args_);
    void* bias = Take(plan_.bias);
    core->bias = bias;
    const std::int64_t total = args_.total();
    core->bias_token_stride = shape.queries == 1 ? 0 : total;
    core->bias_head_stride = shape.heads == 1 ? 0 : shape.queries * total;
    core->bias_batch_stride = shape.batch == 1 ? 0 : shape.heads * shape.queries * total;
    return LaunchBias(args_, shape, bias, stream_);
  }

  // The output's elements, from strides that count `from` tokens of Width elements.
  Status CopyOutput(const void* from, const HeadTensor& from_strides) {
    const std::array<std::int64_t, 4> shape{args_.batch, args_.heads, args_.sequence,
                                            args_.value_size};
    const std::array<std::int64_t, 4> in{from_strides.batch_stride, from_strides.head_stride,
                                         from_strides.token_stride, 1};
    const HeadTensor& to = args_.output_strides;
    const std::array<std::int64_t, 4> out{to.batch_stride, to.head_stride, to.token_stride, 1};
    CopyArgs copy;
    copy.type = DataTypeOf(args_.type);
    copy.shape = shape;
    copy.from = from;
    copy.from_strides = in;
    copy.to = args_.output;
    copy.to_strides = out;
    return CopyStrided(copy, stream_);
  }

  // Without keys: the output is [batch, heads, sequence, value_size] in some order.
  Status WriteZeros() {
    const std::size_t bytes = static_cast<std::size_t>(args_.batch) * args_.heads * args_.sequence *
                              args_.value_size * ElementSize(args_.type);
    return ToStatus(cudaMemsetAsync(args_.output, 0, bytes, stream_), "attention");
  }

  const MultiHeadAttentionArgs& args_;
  const Plan& plan_;
  char* next_;
  const Stream stream_;
};

}  // namespace

BiasShape BiasShapeOf(const MultiHeadAttentionArgs& args) {
  BiasShape shape;
  const bool by_query = args.bias_query_stride != 0 || args.mask_query_stride != 0 ||
                        (args.key_lengths != nullptr && args.causal);
  if (args.bias_batch_stride != 0 || args.key_mask != KeyMask::kNone ||
      args.key_lengths != nullptr) {
    shape.batch = args.batch;
  }
  if (args.bias_head_stride != 0) shape.heads = args.heads;
  if (by_query) shape.queries = args.sequence;
  return shape;
}

Status MultiHeadAttentionWorkspaceBytes(const MultiHeadAttentionArgs& args, std::size_t* bytes) {
  *bytes = 0;
  BATCH_INVARIANT_RETURN_IF_ERROR(Check(args));
  if (IsEmpty(args)) return Status::Ok();
  Plan plan;
  BATCH_INVARIANT_RETURN_IF_ERROR(MakePlan(args, &plan));
  *bytes = plan.Total();
  return Status::Ok();
}

Status MultiHeadAttention(const MultiHeadAttentionArgs& args, void* workspace,
                          std::size_t workspace_bytes, Stream stream) {
  BATCH_INVARIANT_RETURN_IF_ERROR(Check(args));
  if (IsEmpty(args)) return Status::Ok();
  if (args.sequence > 0 && (args.query.data == nullptr || args.output == nullptr)) {
    return Invalid("query or output is missing");
  }
  if (args.kv_sequence > 0 && (args.key.data == nullptr || args.value.data == nullptr)) {
    return Invalid("key or value is missing");
  }
  Plan plan;
  BATCH_INVARIANT_RETURN_IF_ERROR(MakePlan(args, &plan));
  if (workspace_bytes < plan.Total() || (plan.Total() > 0 && workspace == nullptr)) {
    return Invalid("the workspace is smaller than asked for");
  }
  return Call(args, plan, workspace, stream).Run();
}

}  // namespace batch_invariant::cuda
