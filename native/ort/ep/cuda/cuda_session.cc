#include "ort/ep/cuda/cuda_session.h"

#include <cstdlib>

#include "ort/cuda/cuda_error.h"
#include "ort/ep/cuda/cuda_allocator.h"

namespace batch_invariant::ort {
namespace {

constexpr int kRunsBeforeCapture = 2;

// The run's gpu_graph_id: 0 when absent, -1 for a run that is neither captured nor replayed.
int GraphId(const OrtRunOptions* options) {
  const char* value =
      options == nullptr ? nullptr : Ort::GetApi().GetRunConfigEntry(options, "gpu_graph_id");
  return value == nullptr ? 0 : std::atoi(value);
}

}  // namespace

Status CudaSession::Create(const CudaDevice& device, const EpOptions& options,
                           std::string self_test, std::unique_ptr<DeviceSession>* session) {
  const ScopedDevice current(device.ordinal);
  std::unique_ptr<CudaSession> made(
      new CudaSession(device, options.enable_cuda_graph, std::move(self_test)));
  // A blocking stream: a copy on the default stream waits for it, which orders the copies of
  // inputs and outputs that ONNX Runtime makes without naming a stream.
  BATCH_INVARIANT_RETURN_IF_ERROR(
      CudaStatus(cudaStreamCreate(&made->stream_), "creating a stream"));
  if (made->capture_) {
    // Not a blocking one: a copy on the default stream, from any thread, would end its capture.
    BATCH_INVARIANT_RETURN_IF_ERROR(
        CudaStatus(cudaStreamCreateWithFlags(&made->capture_stream_, cudaStreamNonBlocking),
                   "creating a stream"));
  }
  made->pool_ = std::make_shared<DevicePool>(device.ordinal, MemoryKind::kDevice);
  made->workspaces_ = std::make_unique<StreamWorkspaces>(made->pool_);
  *session = std::move(made);
  return Status::Ok();
}

CudaSession::~CudaSession() {
  const ScopedDevice current(device_.ordinal);
  (void)cudaStreamSynchronize(stream_);
  for (auto& [id, graph] : graphs_) {
    if (graph.executable != nullptr) (void)cudaGraphExecDestroy(graph.executable);
  }
  if (capture_stream_ != nullptr) (void)cudaStreamDestroy(capture_stream_);
  (void)cudaStreamDestroy(stream_);
}

std::string CudaSession::Describe() const {
  return "cuda:" + std::to_string(device_.ordinal) + " " + device_.name;
}

Status CudaSession::CreateAllocator(const OrtMemoryInfo* info, OrtAllocator** allocator) {
  OrtDeviceMemoryType kind = Ort::GetApi().MemoryInfoGetDeviceMemType(info);
  if (kind == OrtDeviceMemoryType_HOST_ACCESSIBLE) {
    *allocator = new CudaAllocator(
        device_.pinned, std::make_shared<DevicePool>(device_.ordinal, MemoryKind::kPinnedHost));
  } else {
    *allocator = new CudaAllocator(device_.memory, pool_);
  }
  return Status::Ok();
}

Status CudaSession::OnRunStart(const OrtRunOptions* options) {
  BATCH_INVARIANT_RETURN_IF_ERROR(
      CudaStatus(cudaSetDevice(device_.ordinal), "selecting the device"));
  stream_of_run_ = nullptr;
  is_on_several_ = false;
  if (!capture_) return Status::Ok();
  const int id = GraphId(options);
  if (id < 0) return Status::Ok();
  const std::lock_guard lock(graph_mutex_);
  const Graph& graph = graphs_[id];
  if (graph.executable == nullptr && graph.runs >= kRunsBeforeCapture) {
    BATCH_INVARIANT_RETURN_IF_ERROR(BeginCapture());
    capturing_ = id;
  }
  return Status::Ok();
}

Status CudaSession::OnRunEnd(const OrtRunOptions* options, bool sync) {
  if (capture_) {
    const int id = GraphId(options);
    if (id >= 0) {
      const std::lock_guard lock(graph_mutex_);
      Graph& graph = graphs_[id];
      if (capturing_ == id) {
        capturing_ = kNotCapturing;
        BATCH_INVARIANT_RETURN_IF_ERROR(EndCapture(graph));
      } else {
        ++graph.runs;
      }
    }
  }
  return sync ? Sync() : Status::Ok();
}

void CudaSession::NoteStream(void* stream, bool is_given) {
  ++(is_given ? stream_use_->calls_on_given : stream_use_->calls_on_own);
  if (stream_of_run_ == nullptr) {
    stream_of_run_ = stream;
    ++stream_use_->runs;
  } else if (stream != stream_of_run_ && !is_on_several_) {
    is_on_several_ = true;
    ++stream_use_->runs_on_several;
  }
}

Status CudaSession::Sync() {
  return CudaStatus(cudaStreamSynchronize(stream_), "waiting for the device");
}

bool CudaSession::IsGraphCaptured(int id) const {
  const std::lock_guard lock(graph_mutex_);
  const auto found = graphs_.find(id);
  return found != graphs_.end() && found->second.executable != nullptr;
}

Status CudaSession::ReplayGraph(int id) {
  const std::lock_guard lock(graph_mutex_);
  const auto found = graphs_.find(id);
  if (found == graphs_.end() || found->second.executable == nullptr) {
    return Status::InvalidArgument("graph " + std::to_string(id) + " was never captured");
  }
  const ScopedDevice current(device_.ordinal);
  BATCH_INVARIANT_RETURN_IF_ERROR(
      CudaStatus(cudaGraphLaunch(found->second.executable, stream_), "replaying a graph"));
  return Sync();
}

Status CudaSession::BeginCapture() {
  // Addresses inside a graph must stay valid from now on.
  pool_->set_may_trim(false);
  // Relaxed: a kernel that asks the pool for more memory may reach cudaMalloc.
  return CudaStatus(cudaStreamBeginCapture(capture_stream_, cudaStreamCaptureModeRelaxed),
                    "starting to capture a graph");
}

Status CudaSession::EndCapture(Graph& graph) {
  cudaGraph_t captured = nullptr;
  BATCH_INVARIANT_RETURN_IF_ERROR(
      CudaStatus(cudaStreamEndCapture(capture_stream_, &captured), "capturing a graph"));
  const cudaError_t error = cudaGraphInstantiate(&graph.executable, captured, 0);
  (void)cudaGraphDestroy(captured);
  BATCH_INVARIANT_RETURN_IF_ERROR(CudaStatus(error, "instantiating a graph"));
  // Capturing recorded the run without doing it.
  return CudaStatus(cudaGraphLaunch(graph.executable, stream_), "running a captured graph");
}

Status CudaSession::Copy(void* to, const void* from, size_t bytes) {
  BATCH_INVARIANT_RETURN_IF_ERROR(
      CudaStatus(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_), "copying weights"));
  return Sync();
}

Status CudaSession::Workspace(void* stream, size_t bytes, void** memory) {
  // What is captured is replayed on the session's own stream.
  return workspaces_->Get(stream == capture_stream_ ? stream_ : stream, bytes, memory);
}

Status CudaSession::AllocateWeights(size_t bytes, void** memory) {
  *memory = pool_->Allocate(bytes);
  if (*memory != nullptr || bytes == 0) return Status::Ok();
  return Status::OutOfMemory("the device has no " + std::to_string(bytes >> 20) +
                             " MiB left for packed weights");
}

void CudaSession::FreeWeights(void* memory) { pool_->Free(memory); }

}  // namespace batch_invariant::ort
