// Attention of com.microsoft on the CPU.
#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/matmul.h"
#include "ort/ops/cpu_attention.h"
#include "ort/ops/half.h"
#include "ort/ops/packed_attention_kernel.h"
#include "ort/ops/weights.h"

namespace batch_invariant::ort {
namespace {

class CpuProjection {
 public:
  Status Pack(DeviceServices*, const Tensor& weights) {
    const int64_t k = weights.shape[0], columns = weights.shape[1];
    packed_ = AllocateWeights(cpu::PackedMatMulBytes(k, columns));
    return cpu::PackMatMul(PackingContext(), k, columns, {weights.Data<float>(), columns, 1},
                           reinterpret_cast<float*>(packed_.get()));
  }

  Status Run(OpContext& context, const ProjectionInputs& inputs,
             MultiHeadAttentionOperands* operands) const {
    const cpu::Context cpu = context.Cpu();
    auto* projected = static_cast<float*>(cpu.scratch.allocate(
        cpu.scratch.self, sizeof(float) * static_cast<size_t>(inputs.tokens * inputs.columns + 1)));
    if (projected == nullptr) return Status::OutOfMemory("Attention: no memory for the projection");
    cpu::MatMulArgs matmul;
    matmul.m = inputs.tokens;
    matmul.k = inputs.k;
    matmul.n = inputs.columns;
    matmul.a = {inputs.input.Data<float>(), inputs.k, 1};
    if (packed_) {
      matmul.packed_b = reinterpret_cast<const float*>(packed_.get());
    } else {
      matmul.b = {inputs.weights.Data<float>(), inputs.columns, 1};
    }
    if (inputs.bias.present) matmul.c = {inputs.bias.Data<float>(), 0, 1};
    matmul.y = projected;
    matmul.y_row_stride = inputs.columns;
    BATCH_INVARIANT_RETURN_IF_ERROR(cpu::MatMul(cpu, matmul));
    operands->query.at.data = operands->key.at.data = operands->value.at.data = projected;
    return RunMultiHeadAttentionOnCpu(context, *operands);
  }

 private:
  Weights packed_;
};

struct Cpu {
  using Projection = CpuProjection;
  static std::vector<ElementType> Types() { return kCpuFloats; }
  static const char* Contract(const NodeInfo&) { return contract::kAttentionF32; }
  static Status Accept(const NodeInfo&, int64_t) { return Status::Ok(); }
};

}  // namespace

void AppendPackedAttention(std::vector<OpDefinition>& ops) { AppendPackedAttentionOps<Cpu>(ops); }

}  // namespace batch_invariant::ort
