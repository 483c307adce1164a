// Which kernels a test program launched: the linker sends every launch through here (--wrap, see
// CMakeLists.txt). Where BATCH_INVARIANT_LAUNCHED_KERNELS names a file, each kernel is appended to
// it once a test, as "test kernel", both as the program calls them.
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <string>

namespace {

void Record(const char* kernel) {
  static const char* const file_name = std::getenv("BATCH_INVARIANT_LAUNCHED_KERNELS");
  if (file_name == nullptr || kernel == nullptr) return;
  static std::mutex mutex;
  static std::set<std::string> recorded;
  const ::testing::TestInfo* test = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::string line =
      test == nullptr ? std::string("- ") + kernel
                      : std::string(test->test_suite_name()) + '.' + test->name() + ' ' + kernel;
  const std::lock_guard lock(mutex);
  if (!recorded.insert(line).second) return;
  std::FILE* file = std::fopen(file_name, "a");
  if (file == nullptr) {
    std::fprintf(stderr, "%s cannot be written\n", file_name);
    std::exit(1);
  }
  std::fprintf(file, "%s\n", line.c_str());
  std::fclose(file);
}

void RecordFunction(const void* function) {
  const char* name = nullptr;
  if (cudaFuncGetName(&name, function) == cudaSuccess) Record(name);
}

// The driver is not linked.
void RecordHandle(cudaKernel_t kernel) {
  static const auto get_name = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found{};
    (void)cudaGetDriverEntryPoint("cuKernelGetName", &entry, cudaEnableDefault, &found);
    return reinterpret_cast<CUresult (*)(const char**, CUkernel)>(entry);
  }();
  const char* name = nullptr;
  if (get_name != nullptr && get_name(&name, reinterpret_cast<CUkernel>(kernel)) == CUDA_SUCCESS) {
    Record(name);
  }
}

}  // namespace

// By the age of the compiler <<<>>> becomes the first or the second of these.
extern "C" {

cudaError_t __real_cudaLaunchKernel(const void*, dim3, dim3, void**, std::size_t, cudaStream_t);
cudaError_t __wrap_cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                                    std::size_t shared_bytes, cudaStream_t stream) {
  RecordFunction(function);
  return __real_cudaLaunchKernel(function, grid, block, arguments, shared_bytes, stream);
}

cudaError_t __real___cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, std::size_t, cudaStream_t);
cudaError_t __wrap___cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                                      std::size_t shared_bytes, cudaStream_t stream) {
  RecordHandle(kernel);
  return __real___cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream);
}

cudaError_t __real_cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void*, void**);
cudaError_t __wrap_cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                       void** arguments) {
  RecordFunction(function);
  return __real_cudaLaunchKernelExC(config, function, arguments);
}

}  // extern "C"
