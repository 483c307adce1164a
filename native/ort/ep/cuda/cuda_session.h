// The CUDA side of one session: its stream, its memory, its captured graphs.
#ifndef BATCH_INVARIANT_ORT_EP_CUDA_CUDA_SESSION_H_
#define BATCH_INVARIANT_ORT_EP_CUDA_CUDA_SESSION_H_

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "ort/cuda/device_pool.h"
#include "ort/cuda/stream_workspaces.h"
#include "ort/ep/device.h"

namespace batch_invariant::ort {

// One GPU as ONNX Runtime knows it.
struct CudaDevice {
  int ordinal = 0;
  std::string name;
  const OrtHardwareDevice* hardware = nullptr;
  Ort::MemoryInfo memory{nullptr};
  Ort::MemoryInfo pinned{nullptr};
};

class CudaSession final : public DeviceSession, private DeviceServices {
 public:
  static Status Create(const CudaDevice& device, const EpOptions& options, std::string self_test,
                       std::unique_ptr<DeviceSession>* session);
  ~CudaSession() override;

  DeviceServices* services() override { return this; }
  std::string Describe() const override;
  std::string SelfTest() const override { return self_test_; }
  std::shared_ptr<const StreamUse> Streams() const override { return stream_use_; }
  Status CreateAllocator(const OrtMemoryInfo* info, OrtAllocator** allocator) override;
  Status OnRunStart(const OrtRunOptions* options) override;
  Status OnRunEnd(const OrtRunOptions* options, bool sync) override;
  Status Sync() override;
  bool IsGraphCaptureEnabled() const override { return capture_; }
  bool IsGraphCaptured(int id) const override;
  Status ReplayGraph(int id) override;

 private:
  struct Graph {
    int runs = 0;  // uncaptured ones, which load kernels and fill the pool
    cudaGraphExec_t executable = nullptr;
  };

  CudaSession(const CudaDevice& device, bool capture, std::string self_test)
      : device_(device), self_test_(std::move(self_test)), capture_(capture) {}

  // Only the thread of the one run at a time asks, and only it begins and ends a capture.
  void* Stream() override { return capturing_ == kNotCapturing ? stream_ : capture_stream_; }
  void NoteStream(void* stream, bool is_given) override;
  Status Synchronize() override { return Sync(); }
  Status Copy(void* to, const void* from, size_t bytes) override;
  Status Workspace(void* stream, size_t bytes, void** memory) override;
  Status AllocateWeights(size_t bytes, void** memory) override;
  void FreeWeights(void* memory) override;

  Status BeginCapture();
  Status EndCapture(Graph& graph);

  const CudaDevice& device_;
  const std::string self_test_;
  const bool capture_;
  cudaStream_t stream_ = nullptr;
  cudaStream_t capture_stream_ = nullptr;  // records graphs; nothing runs on it
  std::shared_ptr<DevicePool> pool_;
  std::unique_ptr<StreamWorkspaces> workspaces_;
  mutable std::mutex graph_mutex_;
  std::map<int, Graph> graphs_;
  int capturing_ = kNotCapturing;
  const std::shared_ptr<StreamUse> stream_use_ = std::make_shared<StreamUse>();
  void* stream_of_run_ = nullptr;  // that the first kernel of the run had
  bool is_on_several_ = false;

  static constexpr int kNotCapturing = -1;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_EP_CUDA_CUDA_SESSION_H_
