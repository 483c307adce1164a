// The provider's factory: one for the process, made when the library is registered.
#ifndef BATCH_INVARIANT_ORT_EP_EP_FACTORY_H_
#define BATCH_INVARIANT_ORT_EP_EP_FACTORY_H_

#include <span>

#include "ort/ops/op.h"

namespace batch_invariant::ort {

class EpFactory : public OrtEpFactory {
 public:
  // Throws Ort::Exception when an op's kernel definition is refused.
  EpFactory();

  std::span<const OpDefinition> ops() const { return CpuOps(); }
  const OrtKernelRegistry* registry() const { return registry_; }

 private:
  Ort::KernelRegistry registry_;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_EP_EP_FACTORY_H_
