#include "ort/ops/op.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "batch_invariant/cpu/elementwise.h"
#include "ort/ops/half.h"

namespace batch_invariant::ort {
namespace {

constexpr size_t kScratchAlignment = 64;

const OrtMemoryInfo* CpuMemoryInfo() {
  static const Ort::MemoryInfo info =
      Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  return info;
}

struct ParallelCall {
  cpu::Parallel::Work work;
  void* context;
};

void RunOnIntraOpPool(void* self, int64_t items, cpu::Parallel::Work work, void* context) {
  ParallelCall call{work, context};
  OrtStatus* status = Ort::GetApi().KernelContext_ParallelFor(
      static_cast<OrtKernelContext*>(self),
      [](void* user, size_t item) {
        const auto* call = static_cast<const ParallelCall*>(user);
        call->work(call->context, static_cast<int64_t>(item));
      },
      static_cast<size_t>(items), 0, &call);
  if (status == nullptr) return;
  // Nothing has run when the pool refuses the request.
  Ort::GetApi().ReleaseStatus(status);
  for (int64_t item = 0; item < items; ++item) work(context, item);
}

// ONNX Runtime does not look at what a device's allocator returned before it makes a tensor of it.
Status CheckMemory(const Tensor& tensor) {
  if (!tensor.present || tensor.data != nullptr || tensor.Elements() == 0) return Status::Ok();
  return Status::OutOfMemory("the device has no memory left for a tensor of shape " +
                             ShapeText(tensor.shape));
}

int HardwareThreads() {
  static const int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return threads;
}

}  // namespace

OpContext::OpContext(OrtKernelContext* context, cpu::InstructionSet instruction_set,
                     DeviceServices* device)
    : context_(context), instruction_set_(instruction_set), device_(device) {
  Ort::ThrowOnError(Ort::GetApi().KernelContext_GetInputCount(context, &input_count_));
  Ort::ThrowOnError(Ort::GetApi().KernelContext_GetOutputCount(context, &output_count_));
}

OpContext::~OpContext() {
  for (void* allocation : allocations_) allocator_->Free(allocator_, allocation);
  if (allocator_ != nullptr) Ort::GetApi().ReleaseAllocator(allocator_);
}

Status OpContext::Allocate(const Tensor& tensor, Half* half) {
  *half = {tensor.data, nullptr, tensor.Elements()};
  half->wide = static_cast<float*>(Allocate(sizeof(float) * static_cast<size_t>(half->elements)));
  if (half->wide != nullptr) return Status::Ok();
  return Status::OutOfMemory("no memory for a float16 tensor of shape " + ShapeText(tensor.shape) +
                             " as float32");
}

Status OpContext::InputAsIs(size_t index, Tensor* tensor) {
  *tensor = {};
  if (index >= input_count_) return Status::Ok();
  const OrtValue* value = nullptr;
  BATCH_INVARIANT_RETURN_IF_ERROR(
      FromOrtStatus(Ort::GetApi().KernelContext_GetInput(context_, index, &value)));
  BATCH_INVARIANT_RETURN_IF_ERROR(ViewTensor(value, tensor));
  return CheckMemory(*tensor);
}

Status OpContext::Input(size_t index, Tensor* tensor) {
  BATCH_INVARIANT_RETURN_IF_ERROR(InputAsIs(index, tensor));
  if (device_ != nullptr || !tensor->present || tensor->type != kFloat16) return Status::Ok();
  Half half;
  BATCH_INVARIANT_RETURN_IF_ERROR(Allocate(*tensor, &half));
  BATCH_INVARIANT_RETURN_IF_ERROR(
      cpu::WidenF16(Cpu(), half.elements, tensor->Data<const uint16_t>(), half.wide));
  half_inputs_.push_back(half);
  tensor->data = half.wide;
  tensor->type = kFloat;
  return Status::Ok();
}

Status OpContext::OutputAsIs(size_t index, std::span<const int64_t> shape, Tensor* tensor) {
  *tensor = {};
  OrtValue* value = nullptr;
  BATCH_INVARIANT_RETURN_IF_ERROR(FromOrtStatus(
      Ort::GetApi().KernelContext_GetOutput(context_, index, shape.data(), shape.size(), &value)));
  BATCH_INVARIANT_RETURN_IF_ERROR(ViewTensor(value, tensor));
  return CheckMemory(*tensor);
}

Status OpContext::Output(size_t index, std::span<const int64_t> shape, Tensor* tensor) {
  BATCH_INVARIANT_RETURN_IF_ERROR(OutputAsIs(index, shape, tensor));
  if (device_ != nullptr || !tensor->present || tensor->type != kFloat16) return Status::Ok();
  Half half = {tensor->data, nullptr, tensor->Elements()};
  // A buffer that past and present share stays one buffer.
  for (const Half& input : half_inputs_) {
    if (input.narrow == half.narrow && input.elements == half.elements) half.wide = input.wide;
  }
  if (half.wide == nullptr) BATCH_INVARIANT_RETURN_IF_ERROR(Allocate(*tensor, &half));
  half_outputs_.push_back(half);
  tensor->data = half.wide;
  tensor->type = kFloat;
  return Status::Ok();
}

Status OpContext::Run(OpKernel& kernel) {
  BATCH_INVARIANT_RETURN_IF_ERROR(kernel.Compute(*this));
  for (const Half& half : half_outputs_) {
    BATCH_INVARIANT_RETURN_IF_ERROR(cpu::RoundToF16(Cpu(), half.elements, half.wide,
                                                    static_cast<uint16_t*>(half.narrow)));
  }
  return Status::Ok();
}

void* OpContext::Allocate(size_t bytes) {
  const OrtApi& api = Ort::GetApi();
  if (allocator_ == nullptr) {
    OrtStatus* status = api.KernelContext_GetAllocator(context_, CpuMemoryInfo(), &allocator_);
    if (status != nullptr) {
      api.ReleaseStatus(status);
      allocator_ = nullptr;
      return nullptr;
    }
  }
  void* memory = allocator_->Alloc(allocator_, bytes + kScratchAlignment);
  if (memory == nullptr) return nullptr;
  allocations_.push_back(memory);
  const auto address = reinterpret_cast<uintptr_t>(memory);
  return reinterpret_cast<void*>((address + kScratchAlignment - 1) & ~(kScratchAlignment - 1));
}

cpu::Context OpContext::Cpu() {
  cpu::Context cpu;
  cpu.instruction_set = instruction_set_;
  cpu.parallel = {&RunOnIntraOpPool, context_, HardwareThreads()};
  cpu.scratch = {[](void* self, size_t bytes) -> void* {
                   try {
                     return static_cast<OpContext*>(self)->Allocate(bytes);
                   } catch (...) {
                     return nullptr;
                   }
                 },
                 this};
  return cpu;
}

void* OpContext::Stream() {
  if (stream_ != nullptr) return stream_;
  OrtStatus* status = Ort::GetApi().KernelContext_GetGPUComputeStream(context_, &stream_);
  if (status != nullptr) Ort::GetApi().ReleaseStatus(status);
  const bool is_given = stream_ != nullptr;
  if (!is_given) stream_ = device_->Stream();
  device_->NoteStream(stream_, is_given);
  return stream_;
}

Status OpContext::Workspace(size_t bytes, void** memory) {
  return device_->Workspace(Stream(), bytes, memory);
}

Status ChooseInstructionSet(const std::string& requested, cpu::InstructionSet* chosen) {
  std::string name = requested;
  std::string origin = "the option instruction_set";
  if (name.empty()) {
    const char* variable = std::getenv("ORT_BATCH_INVARIANT_ISA");
    if (variable != nullptr) name = variable;
    origin = "ORT_BATCH_INVARIANT_ISA";
  }
  if (name.empty()) {
    *chosen = cpu::BestInstructionSet();
    return Status::Ok();
  }
  cpu::InstructionSet parsed;
  const auto available = cpu::AvailableInstructionSets();
  if (cpu::Parse(name, &parsed) &&
      std::find(available.begin(), available.end(), parsed) != available.end()) {
    *chosen = parsed;
    return Status::Ok();
  }
  std::string choices;
  for (cpu::InstructionSet each : available) {
    if (!choices.empty()) choices += ", ";
    choices += cpu::Name(each);
  }
  return Status::InvalidArgument(origin + " is '" + name + "', this machine can run " + choices);
}

std::string ShapeText(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ',';
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace batch_invariant::ort
