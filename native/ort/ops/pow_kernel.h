// Pow, for any device. Base and exponent may have different types from version 12 on.
//
// A device names its Args (the PowArgs of its kernels), its Types and what they are called there
// (TypeOf), what it Accepts, and how to Run.
#ifndef BATCH_INVARIANT_ORT_OPS_POW_KERNEL_H_
#define BATCH_INVARIANT_ORT_OPS_POW_KERNEL_H_

#include "batch_invariant/contract.h"
#include "ort/ops/broadcast.h"
#include "ort/ops/op_table.h"

namespace batch_invariant::ort {

inline constexpr ElementType kDouble = ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;

template <typename Device>
class PowKernel final : public OpKernel {
 public:
  Status Compute(OpContext& context) override {
    BroadcastCall<2> call;
    BATCH_INVARIANT_RETURN_IF_ERROR(call.Read(context, "Pow"));
    if (call.y.Elements() == 0) return Status::Ok();
    const auto& [base, exponent] = call.operands;
    typename Device::Args args;
    args.shape = call.shape;
    args.base_type = Device::TypeOf(base.type);
    args.base = base.data;
    args.base_strides = call.strides[0];
    args.exponent_type = Device::TypeOf(exponent.type);
    args.exponent = exponent.data;
    args.exponent_strides = call.strides[1];
    args.y = call.y.data;
    return Device::Run(context, args);
  }
};

template <typename Device>
Status CreatePow(const NodeInfo&, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<PowKernel<Device>>();
  return Status::Ok();
}

template <typename Device>
void AppendPowOps(std::vector<OpDefinition>& ops) {
  OpDefinition op{.domain = "",
                  .name = "Pow",
                  .since_first = 7,
                  .since_last = 11,
                  .constraints = {{"T", Device::Types()}},
                  .inputs = {{"T"}, {"T"}},
                  .outputs = {{"T"}},
                  .accept = &Device::Accept,
                  .contract = [](const NodeInfo&) { return contract::kPow; },
                  .create = &CreatePow<Device>,
                  .may_inplace = {{0, 0}}};
  ops.push_back(op);
  op.since_first = 12;
  op.since_last = 15;
  op.constraints.push_back({"T1", Device::Types()});
  op.inputs = {{"T"}, {"T1"}};
  ops.push_back(op);
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_POW_KERNEL_H_
