#include "ort/custom_ops/custom_ops.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "ort/custom_ops/custom_device.h"
#include "ort/custom_ops/shape_inference.h"
#include "ort/ops/custom_form.h"
#include "ort/ops/half.h"

namespace batch_invariant::ort {
namespace {

// One op with one choice of types, of one device. Ops of one name share a schema, so that each
// combination of types is an op of its own, and only the newest form of an op is offered under its
// name.
struct CustomOp : OrtCustomOp {
  const OpDefinition* op;
  const char* provider;  // null: ONNX Runtime's CPU provider
  std::vector<ElementType> input_types;
  std::vector<ElementType> output_types;
};

struct CustomKernel {
  std::shared_ptr<CustomDevice> device;  // null on the CPU
  std::unique_ptr<OpKernel> kernel;      // gives its weights back to the device
  cpu::InstructionSet instruction_set = cpu::InstructionSet::kScalar;

  DeviceServices* services() const { return device == nullptr ? nullptr : device->services(); }
};

const CustomOp& Self(const OrtCustomOp* op) { return *static_cast<const CustomOp*>(op); }

Status OfNode(const KernelNodeInfo& node, Status status) {
  status.message = "node '" + node.Name() + "' (" + node.OpType() + "): " + status.message;
  return status;
}

// A custom op cannot take a weight's place: the original stays, beside what a kernel packs.
Status PackConstants(const KernelNodeInfo& node, size_t inputs, CustomKernel& kernel) {
  if (node.ConfigEntry("session.disable_prepacking") == "1") return Status::Ok();
  for (size_t i = 0; i < inputs; ++i) {
    Tensor constant = node.ConstantInput(i);
    if (!constant.present) continue;
    if (kernel.device == nullptr) constant = Widened(constant);
    bool packed = false;
    BATCH_INVARIANT_RETURN_IF_ERROR(kernel.kernel->Prepack(i, constant, &packed));
  }
  return Status::Ok();
}

OrtStatusPtr ORT_API_CALL CreateKernel(const OrtCustomOp* self, const OrtApi*,
                                       const OrtKernelInfo* info, void** out) {
  *out = nullptr;
  return Guarded([&]() -> Status {
    const OpDefinition& op = *Self(self).op;
    const KernelNodeInfo node(info, op.name, op.since_first);
    if (Status accepted = op.accept(node); !accepted.ok()) return OfNode(node, accepted);
    auto kernel = std::make_unique<CustomKernel>();
    if (Self(self).provider != nullptr) {
      Status opened = OpenCudaDevice(info, &kernel->device);
      if (!opened.ok()) return OfNode(node, opened);
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(
        ChooseInstructionSet(node.ConfigEntry("ep.batchinvariantexecutionprovider.instruction_set"),
                             &kernel->instruction_set));
    BATCH_INVARIANT_RETURN_IF_ERROR(op.create(node, &kernel->kernel));
    kernel->kernel->set_device(kernel->services());
    BATCH_INVARIANT_RETURN_IF_ERROR(PackConstants(node, op.inputs.size(), *kernel));
    *out = kernel.release();
    return Status::Ok();
  });
}

OrtStatusPtr ORT_API_CALL Compute(void* self, OrtKernelContext* context) {
  return Guarded([&] {
    auto* kernel = static_cast<CustomKernel*>(self);
    OpContext op_context(context, kernel->instruction_set, kernel->services());
    const auto run = [&] { return op_context.Run(*kernel->kernel); };
    return kernel->device == nullptr ? run() : kernel->device->Enqueue(op_context.Stream(), run);
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

// An op's pairs of an input and an output that may share memory, as the C interface asks for them:
// from a function that is not told which op it is asked about.
template <int... kPairs>
size_t MayInplace(int** inputs, int** outputs) {
  static constexpr int kFlat[] = {kPairs...};
  constexpr size_t kCount = sizeof...(kPairs) / 2;
  *inputs = new (std::nothrow) int[kCount];
  *outputs = new (std::nothrow) int[kCount];
  if (*inputs == nullptr || *outputs == nullptr) return 0;
  for (size_t i = 0; i < kCount; ++i) {
    (*inputs)[i] = kFlat[2 * i];
    (*outputs)[i] = kFlat[2 * i + 1];
  }
  return kCount;
}

void SetMayInplace(const OpDefinition& op, OrtCustomOp* custom) {
  using Pairs = std::vector<std::pair<int, int>>;
  if (op.may_inplace == Pairs{{0, 0}}) {
    custom->GetMayInplace = &MayInplace<0, 0>;
  } else if (op.may_inplace == Pairs{{0, 0}, {1, 0}}) {
    custom->GetMayInplace = &MayInplace<0, 0, 1, 0>;
  } else if (op.may_inplace == Pairs{{3, 1}, {4, 2}}) {
    custom->GetMayInplace = &MayInplace<3, 1, 4, 2>;
  }
  custom->ReleaseMayInplace = [](int* inputs, int* outputs) {
    delete[] inputs;
    delete[] outputs;
  };
}

std::unique_ptr<CustomOp> MakeCustomOp(const OpDefinition& op, const char* provider,
                                       const std::vector<size_t>& choice) {
  auto custom = std::make_unique<CustomOp>();
  std::memset(static_cast<OrtCustomOp*>(custom.get()), 0, sizeof(OrtCustomOp));
  custom->op = &op;
  custom->provider = provider;
  for (const Argument& input : op.inputs) custom->input_types.push_back(TypeOf(op, input, choice));
  for (const Argument& output : op.outputs) {
    custom->output_types.push_back(TypeOf(op, output, choice));
  }
  custom->version = kOrtApiVersion;
  custom->GetName = [](const OrtCustomOp* self) { return CustomName(*Self(self).op); };
  custom->GetExecutionProviderType = [](const OrtCustomOp* self) { return Self(self).provider; };
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
  SetMayInplace(op, custom.get());
  custom->InferOutputShapeFn = ShapeRuleOf(op);
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

// How many type parameters have another type than the first one, though they might have it.
int Mixed(const OpDefinition& op, const std::vector<size_t>& choice) {
  int mixed = 0;
  for (size_t i = 1; i < choice.size(); ++i) {
    const ElementType first = op.constraints[0].types[choice[0]];
    const std::vector<ElementType>& types = op.constraints[i].types;
    const bool might = std::find(types.begin(), types.end(), first) != types.end();
    mixed += might && types[choice[i]] != first ? 1 : 0;
  }
  return mixed;
}

// ONNX Runtime takes an output's type from the first op that fits the inputs. A parameter that no
// input of a node has, such as that of a cache without a past, then is as the first parameter is.
void AppendAllTypes(const OpDefinition& op, const char* provider, Domain& domain) {
  std::vector<std::vector<size_t>> choices;
  for (std::vector<size_t> choice(op.constraints.size(), 0);;) {
    choices.push_back(choice);
    size_t i = 0;
    while (i < choice.size() && ++choice[i] == op.constraints[i].types.size()) choice[i++] = 0;
    if (i == choice.size()) break;
  }
  std::stable_sort(choices.begin(), choices.end(),
                   [&](const auto& a, const auto& b) { return Mixed(op, a) < Mixed(op, b); });
  for (const std::vector<size_t>& choice : choices) {
    domain.ops.push_back(MakeCustomOp(op, provider, choice));
    domain.domain.Add(domain.ops.back().get());
  }
}

}  // namespace

Status AddCustomOps(OrtSessionOptions* options) {
  static Domain* domain = [] {
    auto made = std::make_unique<Domain>();
    for (const OpDefinition& op : CpuOps()) {
      if (IsCustomForm(CpuOps(), op)) AppendAllTypes(op, nullptr, *made);
    }
    for (const OpDefinition& op : CudaOps()) {
      if (IsCustomForm(CudaOps(), op)) AppendAllTypes(op, kCudaProvider, *made);
    }
    return made.release();
  }();
  return FromOrtStatus(Ort::GetApi().AddCustomOpDomain(options, domain->domain));
}

}  // namespace batch_invariant::ort
