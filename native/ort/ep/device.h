// What a device with memory of its own adds to the provider. The CPU has neither of these: it works
// in ONNX Runtime's own memory and threads.
#ifndef BATCH_INVARIANT_ORT_EP_DEVICE_H_
#define BATCH_INVARIANT_ORT_EP_DEVICE_H_

#include <memory>
#include <span>
#include <string>

#include "ort/ep/coverage.h"
#include "ort/ops/fusion.h"
#include "ort/ops/op.h"

namespace batch_invariant::ort {

struct EpOptions {
  bool strict = true;
  bool fuse = true;  // false: every node by itself, with the same bytes
  cpu::InstructionSet instruction_set = cpu::InstructionSet::kScalar;
  std::string report_id;
  std::string device;      // "cpu", "cuda", or empty: the GPU if the session was given one
  int64_t device_id = -1;  // CUDA ordinal; -1: the first one given
  bool enable_cuda_graph = false;
  bool dry_run = false;  // end the session once its report is made: no weight is read
};

// The device side of one session.
class DeviceSession {
 public:
  virtual ~DeviceSession() = default;

  virtual DeviceServices* services() = 0;
  virtual std::string Describe() const = 0;
  // What the process compared on this device before it took it; empty if there is nothing to say.
  virtual std::string SelfTest() const = 0;

  // Counts on while the session runs.
  virtual std::shared_ptr<const StreamUse> Streams() const = 0;

  // Memory of this session alone, for what ONNX Runtime allocates while it runs.
  virtual Status CreateAllocator(const OrtMemoryInfo* info, OrtAllocator** allocator) = 0;

  virtual Status OnRunStart(const OrtRunOptions* options) = 0;
  // Waits for the device when `sync` is set.
  virtual Status OnRunEnd(const OrtRunOptions* options, bool sync) = 0;
  virtual Status Sync() = 0;

  virtual bool IsGraphCaptureEnabled() const = 0;
  virtual bool IsGraphCaptured(int id) const = 0;
  virtual Status ReplayGraph(int id) = 0;
};

// One kind of device, for the whole process.
class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;

  virtual std::span<const OpDefinition> ops() const = 0;
  virtual std::span<const FusionDefinition> fusions() const = 0;

  // Creates a provider device for `hardware`; leaves `ep_device` null when it is none of ours.
  virtual Status Offer(OrtEpFactory* factory, const OrtHardwareDevice* hardware,
                       OrtEpDevice** ep_device) = 0;
  virtual bool Owns(const OrtHardwareDevice* hardware) const = 0;

  virtual Status CreateAllocator(const OrtMemoryInfo* info, OrtAllocator** allocator) = 0;
  virtual void ReleaseAllocator(OrtAllocator* allocator) = 0;
  virtual Status CreateDataTransfer(OrtDataTransferImpl** transfer) = 0;

  // `hardware` are the devices of this kind that the session was given.
  virtual Status CreateSession(std::span<const OrtHardwareDevice* const> hardware,
                               const EpOptions& options,
                               std::unique_ptr<DeviceSession>* session) = 0;
};

// Null where this build or this machine has no such device; `why` then says so in a few words.
std::unique_ptr<DeviceBackend> MakeCudaBackend(std::string* why);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_EP_DEVICE_H_
