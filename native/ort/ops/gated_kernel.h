// activation(gate) * up as one kernel, for any device. A device names the Args of its kernel, makes
// them of a GatedProduct (ArgsOf), and knows how to Run them.
#ifndef BATCH_INVARIANT_ORT_OPS_GATED_KERNEL_H_
#define BATCH_INVARIANT_ORT_OPS_GATED_KERNEL_H_

#include <span>
#include <string>

#include "ort/ops/gated_product.h"
#include "ort/ops/op.h"

namespace batch_invariant::ort {

template <typename Device>
class GatedKernel final : public OpKernel {
 public:
  GatedKernel(const GatedProduct& product, std::span<const std::string> inputs)
      : gate_(IndexOf(inputs, product.gate)),
        up_(IndexOf(inputs, product.up)),
        args_(Device::ArgsOf(product)) {}

  Status Compute(OpContext& context) override {
    Tensor gate;
    Tensor up;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(gate_, &gate));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(up_, &up));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, gate.shape, &y));
    typename Device::Args args = args_;
    args.width = gate.shape.empty() ? 1 : gate.shape.back();
    args.rows = args.width == 0 ? 0 : gate.Elements() / args.width;
    args.gate_stride = args.up_stride = args.y_stride = args.width;
    Point(args.gate, gate);
    Point(args.up, up);
    Point(args.y, y);
    return Device::Run(context, args);
  }

 private:
  const size_t gate_;
  const size_t up_;
  const typename Device::Args args_;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_GATED_KERNEL_H_
