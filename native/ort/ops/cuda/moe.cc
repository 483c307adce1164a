// MoE and QMoE on CUDA.
#include "batch_invariant/cuda/moe.h"

#include <array>

#include "batch_invariant/cuda/gemm.h"
#include "batch_invariant/cuda/layout.h"
#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/kept_tensor.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/moe_inputs.h"
#include "ort/ops/quantized_experts.h"

namespace batch_invariant::ort {
namespace {

constexpr size_t kAlignment = 256;

size_t Aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// A block that covers a row of k weights, which then has one scale.
int64_t RowBlock(int64_t k) {
  int64_t block = 16;
  while (block < k) block *= 2;
  return block;
}

// One linear layer of all experts.
struct Layer {
  std::array<int64_t, 3> shape{};  // [experts, n, k]
  cuda::ElementType type = cuda::ElementType::kFloat32;
  bool quantized = false;
  cuda::MatMulNBitsPlan plan;  // quantized
  // Rows of weights that end inside a block, and zero points that are packed along n, are rewritten
  // before they are packed.
  bool fills_rows = false;
  bool unpacks_zeros = false;

  size_t ExpertBytes() const {
    return quantized ? cuda::PackedMatMulNBitsBytes(plan)
                     : cuda::PackedGemmWeightBytes(type, shape[2], shape[1]);
  }
  size_t PackedBytes() const { return Aligned(static_cast<size_t>(shape[0]) * ExpertBytes()); }
  size_t FilledRowBytes() const {
    return static_cast<size_t>(plan.blocks() * plan.block_size * plan.bits / 8);
  }
  size_t FilledBytes() const {
    return fills_rows ? Aligned(static_cast<size_t>(shape[0] * shape[1]) * FilledRowBytes()) : 0;
  }
  size_t ZeroBytes() const {
    return unpacks_zeros ? Aligned(static_cast<size_t>(shape[0] * shape[1])) : 0;
  }
};

Status MakeQuantizedLayer(const ExpertLayerInputs& at, const QuantizedExperts& experts,
                          ElementType type, Layer* layer) {
  const auto& shape = experts.weights.shape;
  if (shape.size() != 3 || experts.weights.Elements() == 0) {
    return WrongMoeShape("QMoE", std::string(at.name) + "_experts_weights", shape,
                         "[num_experts, rows, packed columns]");
  }
  const int64_t n = shape[1], k = shape[2] * 8 / experts.bits;
  const int64_t block = experts.block_size > 0 ? experts.block_size : RowBlock(k);
  BATCH_INVARIANT_RETURN_IF_ERROR(cuda::MakeMatMulNBitsPlan(
      CudaType(type), k, n, experts.bits, block,
      experts.zero_points.present ? cuda::ZeroPoints::kPacked : cuda::ZeroPoints::kDefault,
      &layer->plan));
  layer->quantized = true;
  layer->type = CudaType(type);
  layer->shape = {shape[0], n, k};
  layer->fills_rows = layer->FilledRowBytes() != static_cast<size_t>(shape[2]);
  layer->unpacks_zeros = experts.zero_points.present && experts.zero_points.shape.size() == 2;
  return CheckQuantizedExperts(at.name, experts, layer->plan.blocks());
}

// `scratch` has FilledBytes and ZeroBytes.
Status PackQuantizedLayer(const QuantizedExperts& experts, const Layer& layer, void* packed,
                          void* scratch, cuda::Stream stream) {
  const int64_t count = layer.shape[0], n = layer.shape[1];
  const int64_t row_bytes = experts.weights.shape[2];
  auto* weights = experts.weights.Data<uint8_t>();
  int64_t filled_row_bytes = row_bytes;
  if (layer.fills_rows) {
    filled_row_bytes = static_cast<int64_t>(layer.FilledRowBytes());
    const std::array<int64_t, 2> shape{count * n, row_bytes}, from{row_bytes, 1},
        to{filled_row_bytes, 1};
    BATCH_INVARIANT_RETURN_IF_ERROR(
        cuda::CopyStrided({cuda::DataType::kUInt8, shape, weights, from, scratch, to}, stream));
    weights = static_cast<uint8_t*>(scratch);
  }
  auto* zeros = experts.zero_points.Data<uint8_t>();
  int64_t expert_zeros = experts.zero_points.present ? experts.zero_points.Elements() / count : 0;
  if (layer.unpacks_zeros) {
    auto* unpacked = static_cast<uint8_t*>(scratch) + layer.FilledBytes();
    BATCH_INVARIANT_RETURN_IF_ERROR(cuda::UnpackRowZeroPoints(
        count, n, layer.plan.bits, experts.zero_points.data, unpacked, stream));
    zeros = unpacked;
    expert_zeros = n;
  }
  const int64_t scale_bytes =
      n * layer.plan.blocks() * static_cast<int64_t>(cuda::ElementSize(layer.type));
  for (int64_t e = 0; e < count; ++e) {
    BATCH_INVARIANT_RETURN_IF_ERROR(cuda::PackMatMulNBits(
        layer.plan, weights + e * n * filled_row_bytes,
        experts.scales.Data<uint8_t>() + e * scale_bytes,
        zeros == nullptr ? nullptr : zeros + e * expert_zeros,
        static_cast<uint8_t*>(packed) + static_cast<size_t>(e) * layer.ExpertBytes(), stream));
  }
  return Status::Ok();
}

Status MakePlainLayer(const ExpertLayerInputs& at, const Tensor& weights, Layer* layer) {
  if (weights.shape.size() != 3) {
    return WrongMoeShape("MoE", std::string(at.name) + "_experts_weights", weights.shape,
                         "[num_experts, rows, columns]");
  }
  layer->type = CudaType(weights.type);
  layer->shape = {weights.shape[0], weights.shape[1], weights.shape[2]};
  return Status::Ok();
}

Status PackPlainLayer(const Tensor& weights, const Layer& layer, void* packed,
                      cuda::Stream stream) {
  const int64_t n = layer.shape[1], k = layer.shape[2];
  const int64_t expert_bytes = n * k * static_cast<int64_t>(cuda::ElementSize(layer.type));
  for (int64_t e = 0; e < layer.shape[0]; ++e) {
    BATCH_INVARIANT_RETURN_IF_ERROR(cuda::PackGemmWeights(
        layer.type, k, n, {weights.Data<uint8_t>() + e * expert_bytes, 1, k},
        static_cast<uint8_t*>(packed) + static_cast<size_t>(e) * layer.ExpertBytes(), stream));
  }
  return Status::Ok();
}

class MoeKernel final : public OpKernel {
 public:
  MoeKernel(const NodeInfo& node, bool quantized)
      : name_(node.OpType()), quantized_(quantized), inputs_(quantized ? kQMoeLayers : kMoeLayers) {
    ReadMoeAttributes(node, quantized, &attributes_);
    attributes_.type = CudaType(node.InputType(0));
    type_ = node.InputType(0);
    for (size_t i = 0; quantized && i < inputs_.size(); ++i) {
      format_.bits = node.Int("expert_weight_bits", 4);
      format_.block_size = node.Int("block_size", 0);
      has_zero_points_[i] = node.HasInput(inputs_[i].zero_points);
    }
  }

  // Weights in the element type are packed as they come. Quantised ones are kept until scales and
  // zero points are there too.
  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = false;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const ExpertLayerInputs& at = inputs_[i];
      if (!quantized_ && input == at.weights && tensor.Elements() > 0) {
        *packed = true;
        return PackAhead(i, tensor);
      }
      if (!quantized_) continue;
      const std::array<size_t, kParts> parts{at.weights, at.scales, at.zero_points};
      for (size_t part = 0; part < kParts; ++part) {
        if (input != parts[part]) continue;
        BATCH_INVARIANT_RETURN_IF_ERROR(kept_[i][part].Keep(device(), tensor));
        *packed = true;
        const bool complete = kept_[i][0].kept() && kept_[i][1].kept() &&
                              (!has_zero_points_[i] || kept_[i][2].kept());
        if (!complete) return Status::Ok();
        BATCH_INVARIANT_RETURN_IF_ERROR(PackAhead(i, {}));
        kept_[i] = {};
      }
    }
    return Status::Ok();
  }

  Status Compute(OpContext& context) override {
    MoeOperands operands;
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadMoeOperands(context, name_, quantized_, &operands));
    cuda::MoeArgs args = attributes_;
    args.hidden = operands.hidden;
    args.tokens = operands.tokens;
    args.experts = operands.experts;
    args.input = operands.input.data;
    args.router = operands.router.data;
    args.router_weights = operands.router_weights.data;

    // Weights that are computed, or that ONNX Runtime was told not to pack ahead, are packed in the
    // workspace, which is asked for once.
    std::array<Layer, 2> layers = layers_;
    std::array<QuantizedExperts, 2> now;
    size_t bytes = 0;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (packed_[i]) continue;
      BATCH_INVARIANT_RETURN_IF_ERROR(ReadLayer(context, i, &now[i]));
      BATCH_INVARIANT_RETURN_IF_ERROR(MakeLayer(i, now[i], &layers[i]));
      bytes += layers[i].PackedBytes() + layers[i].FilledBytes() + layers[i].ZeroBytes();
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckMoeLayers(name_, operands,
                                                   args.activation == ExpertActivation::kSwiGlu,
                                                   layers[0].shape, layers[1].shape, &args.inter));
    Tensor output;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, operands.input.shape, &output));
    if (output.Elements() == 0) return Status::Ok();
    args.output = output.data;

    size_t moe_bytes = 0;
    BATCH_INVARIANT_RETURN_IF_ERROR(cuda::MoeWorkspaceBytes(args, &moe_bytes));
    void* workspace = nullptr;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Workspace(bytes + moe_bytes, &workspace));
    auto* next = static_cast<uint8_t*>(workspace);
    for (size_t i = 0; i < inputs_.size(); ++i) {
      cuda::ExpertWeights& weights = i == 0 ? args.fc1 : args.fc2;
      weights.packed = packed_[i].get();
      if (!packed_[i]) {
        weights.packed = next;
        uint8_t* scratch = next + layers[i].PackedBytes();
        BATCH_INVARIANT_RETURN_IF_ERROR(
            PackLayer(now[i], layers[i], next, scratch, CudaStream(context)));
        next = scratch + layers[i].FilledBytes() + layers[i].ZeroBytes();
      }
      if (quantized_) weights.plan = &layers[i].plan;
      Tensor bias;
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(inputs_[i].bias, &bias));
      BATCH_INVARIANT_RETURN_IF_ERROR(CheckExpertBias(name_, inputs_[i], bias, layers[i].shape));
      weights.bias = bias.data;
    }
    return cuda::MixtureOfExperts(args, next, moe_bytes, CudaStream(context));
  }

 private:
  static constexpr size_t kParts = 3;  // weights, scales, zero points

  // Tensors of a layer: kept ones, and for the rest those of this call.
  Status ReadLayer(OpContext& context, size_t i, QuantizedExperts* experts) const {
    *experts = format_;
    const ExpertLayerInputs& at = inputs_[i];
    const auto read = [&](size_t part, size_t input, Tensor* tensor) {
      *tensor = kept_[i][part].View();
      return tensor->present ? Status::Ok() : context.Input(input, tensor);
    };
    BATCH_INVARIANT_RETURN_IF_ERROR(read(0, at.weights, &experts->weights));
    if (!quantized_) return Status::Ok();
    BATCH_INVARIANT_RETURN_IF_ERROR(read(1, at.scales, &experts->scales));
    return read(2, at.zero_points, &experts->zero_points);
  }

  Status MakeLayer(size_t i, const QuantizedExperts& experts, Layer* layer) const {
    return quantized_ ? MakeQuantizedLayer(inputs_[i], experts, type_, layer)
                      : MakePlainLayer(inputs_[i], experts.weights, layer);
  }

  Status PackLayer(const QuantizedExperts& experts, const Layer& layer, void* packed, void* scratch,
                   cuda::Stream stream) const {
    return quantized_ ? PackQuantizedLayer(experts, layer, packed, scratch, stream)
                      : PackPlainLayer(experts.weights, layer, packed, stream);
  }

  // What is kept of layer i, or `weights` in the element type.
  Status PackAhead(size_t i, const Tensor& weights) {
    QuantizedExperts experts = format_;
    experts.weights = quantized_ ? kept_[i][0].View() : weights;
    experts.scales = kept_[i][1].View();
    experts.zero_points = kept_[i][2].View();
    Layer& layer = layers_[i];
    BATCH_INVARIANT_RETURN_IF_ERROR(MakeLayer(i, experts, &layer));
    DeviceWeights scratch;
    if (const size_t bytes = layer.FilledBytes() + layer.ZeroBytes(); bytes > 0) {
      BATCH_INVARIANT_RETURN_IF_ERROR(scratch.Allocate(device(), bytes));
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(packed_[i].Allocate(device(), layer.PackedBytes()));
    BATCH_INVARIANT_RETURN_IF_ERROR(PackLayer(experts, layer, packed_[i].get(), scratch.get(),
                                              static_cast<cuda::Stream>(device()->Stream())));
    // The originals may be freed as soon as this returns.
    return device()->Synchronize();
  }

  const std::string name_;
  const bool quantized_;
  const std::array<ExpertLayerInputs, 2> inputs_;
  ElementType type_;
  QuantizedExperts format_;  // bits and block size of both layers
  std::array<bool, 2> has_zero_points_{};
  std::array<std::array<KeptTensor, kParts>, 2> kept_;
  std::array<Layer, 2> layers_;
  std::array<DeviceWeights, 2> packed_;
  cuda::MoeArgs attributes_;
};

template <bool kQuantized>
Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<MoeKernel>(node, kQuantized);
  return Status::Ok();
}

template <bool kQuantized>
const char* Contract(const NodeInfo& node) {
  return cuda::MoeContract(CudaType(node.InputType(0)), kQuantized);
}

Status AcceptCudaQMoe(const NodeInfo& node) {
  BATCH_INVARIANT_RETURN_IF_ERROR(AcceptQMoe(node));
  for (const ExpertLayerInputs& layer : kQMoeLayers) {
    if (node.InputType(layer.scales) != node.InputType(0)) {
      return Status::Unsupported(std::string(layer.name) +
                                 "_scales of another type than the input is not served on CUDA");
    }
  }
  cuda::MatMulNBitsPlan plan;
  const int64_t block = node.Int("block_size", 0);
  return cuda::MakeMatMulNBitsPlan(CudaType(node.InputType(0)), 1, 1,
                                   node.Int("expert_weight_bits", 4), block > 0 ? block : 16,
                                   cuda::ZeroPoints::kDefault, &plan);
}

}  // namespace

void AppendCudaMoe(std::vector<OpDefinition>& ops) {
  OpDefinition moe = MoeOp(kCudaFloats);
  moe.accept = &AcceptMoe;
  moe.contract = &Contract<false>;
  moe.create = &Create<false>;
  ops.push_back(std::move(moe));
  OpDefinition qmoe = QMoeOp(kCudaFloats);
  qmoe.accept = &AcceptCudaQMoe;
  qmoe.contract = &Contract<true>;
  qmoe.create = &Create<true>;
  ops.push_back(std::move(qmoe));
}

}  // namespace batch_invariant::ort
