#include "ort/custom_ops/custom_ops.h"

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ort/ops/custom_form.h"
#include "ort/ops/half.h"

namespace batch_invariant::ort {
namespace {

// One op with one choice of types. Ops of one name share a schema, so that each combination of
// types is an op of its own, and only the newest form of an op is offered under its name.
struct CustomOp : OrtCustomOp {
  const OpDefinition* op;
  std::vector<ElementType> input_types;
  std::vector<ElementType> output_types;
};

struct CustomKernel {
  std::unique_ptr<OpKernel> kernel;
  cpu::InstructionSet instruction_set;
};

const CustomOp& Self(const OrtCustomOp* op) { return *static_cast<const CustomOp*>(op); }

OrtStatusPtr ORT_API_CALL CreateKernel(const OrtCustomOp* self, const OrtApi*,
                                       const OrtKernelInfo* info, void** out) {
  *out = nullptr;
  return Guarded([&]() -> Status {
    const OpDefinition& op = *Self(self).op;
    const KernelNodeInfo node(info, op.name, op.since_first);
    Status accepted = op.accept(node);
    if (!accepted.ok()) {
      accepted.message = "node '" + node.Name() + "' (" + op.name + "): " + accepted.message;
      return accepted;
    }
    auto kernel = std::make_unique<CustomKernel>();
    BATCH_INVARIANT_RETURN_IF_ERROR(
        ChooseInstructionSet(node.ConfigEntry("ep.batchinvariantexecutionprovider.instruction_set"),
                             &kernel->instruction_set));
    BATCH_INVARIANT_RETURN_IF_ERROR(op.create(node, &kernel->kernel));
    for (size_t i = 0; i < op.inputs.size(); ++i) {
      const Tensor constant = Widened(node.ConstantInput(i));
      bool packed = false;
      if (constant.present) {
        BATCH_INVARIANT_RETURN_IF_ERROR(kernel->kernel->Prepack(i, constant, &packed));
      }
    }
    *out = kernel.release();
    return Status::Ok();
  });
}

OrtStatusPtr ORT_API_CALL Compute(void* self, OrtKernelContext* context) {
  return Guarded([&]() -> Status {
    auto* kernel = static_cast<CustomKernel*>(self);
    OpContext op_context(context, kernel->instruction_set);
    BATCH_INVARIANT_RETURN_IF_ERROR(kernel->kernel->Compute(op_context));
    return op_context.Finish();
  });
}

ElementType TypeOf(const OpDefinition& op, const Argument& argument,
                   const std::vector<size_t>& choice) {
  for (size_t i = 0; i < op.constraints.size(); ++i) {
    if (std::string_view(op.constraints[i].name) == argument.constraint) {
      return op.constraints[i].types[choice[i]];
    }
  }
  return argument.fixed_type;
}

std::unique_ptr<CustomOp> MakeCustomOp(const OpDefinition& op, const std::vector<size_t>& choice) {
  auto custom = std::make_unique<CustomOp>();
  std::memset(static_cast<OrtCustomOp*>(custom.get()), 0, sizeof(OrtCustomOp));
  custom->op = &op;
  for (const Argument& input : op.inputs) custom->input_types.push_back(TypeOf(op, input, choice));
  for (const Argument& output : op.outputs) {
    custom->output_types.push_back(TypeOf(op, output, choice));
  }
  custom->version = kOrtApiVersion;
  custom->GetName = [](const OrtCustomOp* self) { return CustomName(*Self(self).op); };
  custom->GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  custom->GetInputTypeCount = [](const OrtCustomOp* self) { return Self(self).input_types.size(); };
  custom->GetInputType = [](const OrtCustomOp* self, size_t i) {
    return Self(self).input_types[i];
  };
  custom->GetOutputTypeCount = [](const OrtCustomOp* self) {
    return Self(self).output_types.size();
  };
  custom->GetOutputType = [](const OrtCustomOp* self, size_t i) {
    return Self(self).output_types[i];
  };
  custom->GetInputCharacteristic = [](const OrtCustomOp* self, size_t i) {
    return Self(self).op->inputs[i].optional ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  };
  custom->GetOutputCharacteristic = [](const OrtCustomOp* self, size_t i) {
    return Self(self).op->outputs[i].optional ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  };
  custom->GetInputMemoryType = [](const OrtCustomOp* self, size_t i) {
    for (const int input : Self(self).op->host_inputs) {
      if (static_cast<size_t>(input) == i) return OrtMemTypeCPUInput;
    }
    return OrtMemTypeDefault;
  };
  custom->CreateKernelV2 = &CreateKernel;
  custom->KernelComputeV2 = &Compute;
  custom->KernelDestroy = [](void* kernel) { delete static_cast<CustomKernel*>(kernel); };
  custom->GetStartVersion = [](const OrtCustomOp*) { return 1; };
  custom->GetEndVersion = [](const OrtCustomOp*) { return 1; };
  return custom;
}

struct Domain {
  Ort::CustomOpDomain domain{kCustomOpDomain};
  std::vector<std::unique_ptr<CustomOp>> ops;
};

void AppendAllTypes(const OpDefinition& op, Domain& domain) {
  std::vector<size_t> choice(op.constraints.size(), 0);
  for (;;) {
    domain.ops.push_back(MakeCustomOp(op, choice));
    domain.domain.Add(domain.ops.back().get());
    size_t i = 0;
    while (i < choice.size() && ++choice[i] == op.constraints[i].types.size()) choice[i++] = 0;
    if (i == choice.size()) return;
  }
}

}  // namespace

Status AddCustomOps(OrtSessionOptions* options) {
  static Domain* domain = [] {
    auto made = std::make_unique<Domain>();
    const std::span<const OpDefinition> ops = CpuOps();
    for (const OpDefinition& op : ops) {
      if (IsCustomForm(ops, op)) AppendAllTypes(op, *made);
    }
    return made.release();
  }();
  return FromOrtStatus(Ort::GetApi().AddCustomOpDomain(options, domain->domain));
}

}  // namespace batch_invariant::ort
