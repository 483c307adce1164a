#include "ort/ops/half.h"

#include "batch_invariant/cpu/elementwise.h"
#include "ort/ops/weights.h"

namespace batch_invariant::ort {

Tensor Widened(const Tensor& constant) {
  if (!constant.present || constant.type != kFloat16) return constant;
  Tensor wide = constant;
  auto elements = std::make_shared<std::vector<float>>(static_cast<size_t>(constant.Elements()));
  const Status status = cpu::WidenF16(PackingContext(), constant.Elements(),
                                      constant.Data<const uint16_t>(), elements->data());
  if (!status.ok()) return {};
  wide.data = elements->data();
  wide.type = kFloat;
  wide.owner = std::move(elements);
  return wide;
}

}  // namespace batch_invariant::ort
