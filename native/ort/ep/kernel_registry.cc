#include "ort/ep/kernel_registry.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "ort/ep/coverage.h"
#include "ort/ep/ep.h"
#include "ort/ops/element_types.h"
#include "ort/ops/half.h"

namespace batch_invariant::ort {
namespace {

// Adapts an OpKernel to ONNX Runtime's C interface.
struct EpKernel : OrtKernelImpl {
  std::unique_ptr<OpKernel> kernel;
  cpu::InstructionSet instruction_set;
  DeviceServices* device;
};

OrtStatus* ORT_API_CALL Compute(OrtKernelImpl* self, OrtKernelContext* context) noexcept {
  return Guarded([&] {
    auto* kernel = static_cast<EpKernel*>(self);
    OpContext op_context(context, kernel->instruction_set, kernel->device);
    return op_context.Run(*kernel->kernel);
  });
}

void ORT_API_CALL Release(OrtKernelImpl* self) noexcept { delete static_cast<EpKernel*>(self); }

OrtStatus* ORT_API_CALL PrePackWeight(OrtKernelImpl* self, const OrtValue* value, int input,
                                      OrtAllocator*, OrtSharedPrePackedWeightCache*,
                                      bool* is_packed) noexcept {
  *is_packed = false;
  return Guarded([&]() -> Status {
    Tensor tensor;
    BATCH_INVARIANT_RETURN_IF_ERROR(ViewTensor(value, &tensor));
    auto* kernel = static_cast<EpKernel*>(self);
    if (kernel->device == nullptr) tensor = Widened(tensor);
    return kernel->kernel->Prepack(static_cast<size_t>(input), tensor, is_packed);
  });
}

OrtStatus* ORT_API_CALL CreateKernel(void* state, const OrtKernelInfo* info,
                                     OrtKernelImpl** out) noexcept {
  *out = nullptr;
  return Guarded([&]() -> Status {
    const auto& op = *static_cast<const OpDefinition*>(state);
    const KernelNodeInfo node(info, op.name, op.since_first);
    Status accepted = op.accept(node);
    if (!accepted.ok()) {
      accepted.message = "node '" + node.Name() + "' (" + op.name + "): " + accepted.message;
      return accepted;
    }
    const OrtEp* ep = nullptr;
    BATCH_INVARIANT_RETURN_IF_ERROR(FromOrtStatus(Ort::GetEpApi().KernelInfo_GetEp(info, &ep)));
    auto kernel = std::make_unique<EpKernel>();
    std::memset(static_cast<OrtKernelImpl*>(kernel.get()), 0, sizeof(OrtKernelImpl));
    kernel->ort_version_supported = kOrtApiVersion;
    kernel->OrtKernelImpl::Compute = &Compute;
    kernel->OrtKernelImpl::Release = &Release;
    kernel->OrtKernelImpl::PrePackWeight = &PrePackWeight;
    const auto* provider = static_cast<const BatchInvariantEp*>(ep);
    kernel->instruction_set = provider->options().instruction_set;
    kernel->device = provider->services();
    BATCH_INVARIANT_RETURN_IF_ERROR(op.create(node, &kernel->kernel));
    kernel->kernel->set_device(kernel->device);
    if (const std::string& report = provider->options().report_id; !report.empty()) {
      RecordKernel(report, node.Name(), op.name);
    }
    *out = kernel.release();
    return Status::Ok();
  });
}

const OrtDataType* DataType(ElementType type) {
  const OrtDataType* data_type = nullptr;
  Ort::ThrowOnError(Ort::GetEpApi().GetTensorDataType(type, &data_type));
  return data_type;
}

}  // namespace

Ort::KernelRegistry MakeKernelRegistry(std::span<const OpDefinition> ops) {
  Ort::KernelRegistry registry;
  for (const OpDefinition& op : ops) {
    Ort::KernelDefBuilder builder;
    builder.SetOperatorType(op.name)
        .SetDomain(op.domain)
        .SetSinceVersion(op.since_first, op.since_last)
        .SetExecutionProvider(kProviderName);
    for (const TypeConstraint& constraint : op.constraints) {
      std::vector<const OrtDataType*> types;
      for (const ElementType type : constraint.types) types.push_back(DataType(type));
      builder.AddTypeConstraint(constraint.name, types);
    }
    for (const auto& [input, output] : op.may_inplace) {
      builder.AddInputOutputMutableAlias(input, output);
    }
    for (const auto& [input, output] : op.alias) builder.AddInputOutputAlias(input, output);
    for (const int input : op.host_inputs) {
      builder.SetInputMemType(static_cast<size_t>(input), OrtMemTypeCPUInput);
    }
    for (const int output : op.host_outputs) {
      builder.SetOutputMemType(static_cast<size_t>(output), OrtMemTypeCPUOutput);
    }
    const Ort::KernelDef definition = builder.Build();
    Ort::Status status =
        registry.AddKernel(definition, &CreateKernel, const_cast<OpDefinition*>(&op));
    if (!status.IsOK()) Ort::ThrowOnError(status.release());
  }
  return registry;
}

const OpDefinition* FindOp(std::span<const OpDefinition> ops, const Ort::ConstNode& node) {
  const std::string name = node.GetOperatorType();
  std::string domain = node.GetDomain();
  if (domain == "ai.onnx") domain.clear();
  const int version = node.GetSinceVersion();
  for (const OpDefinition& op : ops) {
    if (name == op.name && domain == op.domain && version >= op.since_first &&
        version <= op.since_last) {
      return &op;
    }
  }
  return nullptr;
}

std::string TypeMismatch(const OpDefinition& op, const NodeInfo& node) {
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    const ElementType type = node.InputType(i);
    if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED) continue;
    const Argument& argument = op.inputs[i];
    if (argument.constraint[0] == '\0') continue;
    for (const TypeConstraint& constraint : op.constraints) {
      if (std::string_view(constraint.name) != argument.constraint) continue;
      if (std::find(constraint.types.begin(), constraint.types.end(), type) ==
          constraint.types.end()) {
        return "input " + std::to_string(i) + " is " + TypeName(type) + ", served are " +
               TypeNames(constraint.types);
      }
    }
  }
  return {};
}

}  // namespace batch_invariant::ort
