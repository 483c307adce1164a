// EmbedLayerNormalization on the CPU.
#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/norm.h"
#include "ort/ops/embed_layer_norm_kernel.h"
#include "ort/ops/half.h"

namespace batch_invariant::ort {
namespace {

struct Cpu {
  static std::vector<ElementType> Types() { return kCpuFloats; }
  static const char* Contract(const NodeInfo&) { return contract::kNormF32; }
  // An fp16 table would else be widened whole in every call.
  static bool Keeps(const Tensor& table) { return table.owner != nullptr; }

  static Status Run(OpContext& context, const EmbedLayerNormOperands& operands) {
    float* rows = operands.sum.present ? operands.sum.Data<float>() : operands.y.Data<float>();
    BATCH_INVARIANT_RETURN_IF_ERROR(AddEmbeddings(operands, rows));
    cpu::NormArgs args;
    args.rows = operands.batch * operands.tokens;
    args.width = operands.hidden;
    args.epsilon = operands.epsilon;
    args.x = rows;
    Point(args.gamma, operands.gamma);
    Point(args.beta, operands.beta);
    Point(args.y, operands.y);
    return cpu::LayerNormF32(context.Cpu(), args);
  }

  static Status CountOnes(OpContext&, const Tensor& mask, int64_t batch, int64_t tokens,
                          const Tensor& counts) {
    for (int64_t b = 0; b < batch; ++b) {
      const int32_t* row = mask.Data<int32_t>() + b * tokens;
      counts.Data<int32_t>()[b] =
          mask.present ? static_cast<int32_t>(std::count(row, row + tokens, 1)) : 0;
    }
    return Status::Ok();
  }

 private:
  static Status AddEmbeddings(const EmbedLayerNormOperands& operands, float* rows) {
    const auto& [tables, indices, batch, tokens, hidden, epsilon, gamma, beta, y, sum] = operands;
    for (int64_t r = 0; r < batch * tokens; ++r, rows += hidden) {
      for (size_t i = 0; i < kEmbeddings; ++i) {
        if (!tables[i].present) continue;
        int64_t entry = r % tokens;
        if (indices[i].present) {
          entry = indices[i].Data<int32_t>()[indices[i].shape[0] == 1 ? r % tokens : r];
        }
        if (entry < 0 || entry >= tables[i].shape[0]) {
          return Status::InvalidArgument("EmbedLayerNormalization: the index " +
                                         std::to_string(entry) + " is outside an embedding of " +
                                         std::to_string(tables[i].shape[0]) + " entries");
        }
        const float* row = tables[i].Data<float>() + entry * hidden;
        if (i == 0) {
          std::copy(row, row + hidden, rows);
        } else {
          for (int64_t j = 0; j < hidden; ++j) rows[j] += row[j];
        }
      }
    }
    return Status::Ok();
  }
};

}  // namespace

void AppendEmbedLayerNorm(std::vector<OpDefinition>& ops) { AppendEmbedLayerNormOps<Cpu>(ops); }

}  // namespace batch_invariant::ort
