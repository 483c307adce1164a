// Times mixtures of experts, fp16 and int4, of the shapes of known models, against what memory and
// the tensor cores allow.
//
//   nvcc -std=c++20 -O3 --fmad=false -gencode=arch=compute_90a,code=sm_90a -I native
//       -I native/include moe.cu libbatch_invariant_cuda.a -o moe_bench
//   moe_bench [--every-kernel] > moe.jsonl
//
// A line a measurement: microseconds of one mixture, the median of CUDA graphs that run several,
// each with weights of its own, so that they are read from memory. Weights are random bytes, router
// values random numbers. The floor is an H200's and counts the weights of the experts that were
// used, once.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "batch_invariant/cuda/gemm.h"
#include "batch_invariant/cuda/moe.h"
#include "kernels/cuda/moe/grouped_kernels.h"

namespace {

using namespace batch_invariant;        // NOLINT: a benchmark program's single file
using namespace batch_invariant::cuda;  // NOLINT

constexpr double kBytesPerMicrosecond = 4.28e6;  // a copy on an H200, see NOTES.md
constexpr double kOperationsPerMicrosecond = 790e6;
constexpr double kBytesARun = 700e6;

struct Shape {
  const char* name;
  std::int64_t hidden, inter, experts, k;
};
constexpr Shape kShapes[] = {{"qwen3-30b-a3b", 2048, 768, 128, 8},
                             {"mixtral-8x7b", 4096, 14336, 8, 2},
                             {"gpt-oss-20b", 2880, 2880, 32, 4}};
constexpr std::int64_t kRows[] = {1, 8, 64, 512};

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}
void Check(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message.c_str());
  std::exit(1);
}

// Finite fp16 numbers below 0.13 in both halves, which codes of weights may be too.
__global__ void Fill(std::uint32_t* words, std::size_t count, std::uint32_t seed) {
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += std::size_t{gridDim.x} * blockDim.x) {
    std::uint32_t x = static_cast<std::uint32_t>(i) * 2654435761u ^ seed;
    x ^= x >> 15;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    words[i] = x & 0xafffafffu;
  }
}

void* Random(std::size_t bytes) {
  static std::uint32_t seed = 1;
  void* memory = nullptr;
  Check(cudaMalloc(&memory, bytes + 16), "cudaMalloc");
  Fill<<<4096, 256>>>(static_cast<std::uint32_t*>(memory), bytes / 4, seed++ * 0x9e3779b9u);
  return memory;
}

struct Layers {
  MatMulNBitsPlan plans[2];
  MoeArgs args;
  double expert_bytes = 0;
};

// The packed weights are random as they are: what they are decides no time.
void MakeWeights(const Shape& shape, bool quantized, Layers* layers) {
  MoeArgs& args = layers->args;
  const std::int64_t n[2] = {2 * shape.inter, shape.hidden}, k[2] = {shape.hidden, shape.inter};
  layers->expert_bytes = 0;
  for (int i = 0; i < 2; ++i) {
    std::size_t bytes = PackedGemmWeightBytes(ElementType::kFloat16, k[i], n[i]);
    ExpertWeights& weights = i == 0 ? args.fc1 : args.fc2;
    if (quantized) {
      Check(MakeMatMulNBitsPlan(ElementType::kFloat16, k[i], n[i], 4, 32, ZeroPoints::kDefault,
                                &layers->plans[i]));
      bytes = PackedMatMulNBitsBytes(layers->plans[i]);
      weights.plan = &layers->plans[i];
    }
    weights.packed = Random(bytes * shape.experts);
    layers->expert_bytes += static_cast<double>(n[i]) * k[i] * (quantized ? 0.5 + 2.0 / 32 : 2);
  }
}

double UsedExperts(const std::vector<__half>& router, const Shape& shape, std::int64_t rows) {
  std::set<std::int64_t> used;
  for (std::int64_t t = 0; t < rows; ++t) {
    const __half* values = router.data() + t * shape.experts;
    std::vector<std::int64_t> order(shape.experts);
    for (std::int64_t e = 0; e < shape.experts; ++e) order[e] = e;
    std::partial_sort(order.begin(), order.begin() + shape.k, order.end(),
                      [&](std::int64_t a, std::int64_t b) {
                        return static_cast<float>(values[a]) > static_cast<float>(values[b]);
                      });
    used.insert(order.begin(), order.begin() + shape.k);
  }
  return static_cast<double>(used.size());
}

double Median(std::vector<float> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void Measure(const Shape& shape, bool quantized, std::vector<Layers>& copies, std::int64_t rows,
             const MoeKernels* kernels) {
  const std::size_t element = 2;
  std::vector<__half> router(rows * shape.experts);
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (__half& value : router) value = __float2half(normal(random));
  void* device_router = Random(router.size() * element);
  Check(cudaMemcpy(device_router, router.data(), router.size() * element, cudaMemcpyHostToDevice),
        "copy");
  void* input = Random(rows * shape.hidden * element);
  void* output = Random(rows * shape.hidden * element);
  std::size_t bytes = 0;
  for (Layers& copy : copies) {
    copy.args.tokens = rows;
    copy.args.input = input;
    copy.args.router = device_router;
    copy.args.output = output;
  }
  Check(MoeWorkspaceBytes(copies[0].args, &bytes));
  void* workspace = Random(bytes);
  cudaStream_t stream;
  Check(cudaStreamCreate(&stream), "stream");
  Check(cudaDeviceSynchronize(), "fill");
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (const Layers& copy : copies) {
    Check(kernels == nullptr ? MixtureOfExperts(copy.args, workspace, bytes, stream)
                             : MixtureOfExperts(copy.args, *kernels, workspace, bytes, stream));
  }
  Check(cudaStreamEndCapture(stream, &graph), "capture");
  Check(cudaGraphInstantiate(&executable, graph, 0), "instantiate");
  cudaEvent_t start, end;
  cudaEventCreate(&start);
  cudaEventCreate(&end);
  std::vector<float> times;
  for (int i = 0; i < 14; ++i) {
    cudaEventRecord(start, stream);
    Check(cudaGraphLaunch(executable, stream), "launch");
    cudaEventRecord(end, stream);
    Check(cudaStreamSynchronize(stream), "run");
    float milliseconds = 0;
    cudaEventElapsedTime(&milliseconds, start, end);
    if (i >= 3) times.push_back(milliseconds * 1000 / copies.size());
  }
  const double used = UsedExperts(router, shape, rows);
  const double microseconds = Median(times);
  const double memory = used * copies[0].expert_bytes / kBytesPerMicrosecond;
  const double arithmetic =
      6.0 * rows * shape.k * shape.hidden * shape.inter / kOperationsPerMicrosecond;
  const double floor = std::max(memory, arithmetic);
  std::printf(
      "{\"shape\": \"%s\", \"dtype\": \"%s\", \"rows\": %lld, \"fc1\": \"%s\", \"fc2\": \"%s\", "
      "\"experts_used\": %.0f, \"microseconds\": %.1f, \"floor\": %.1f, \"of_floor\": %.2f}\n",
      shape.name, quantized ? "int4" : "fp16", static_cast<long long>(rows),
      kernels == nullptr ? "" : kernels->fc1->name, kernels == nullptr ? "" : kernels->fc2->name,
      used, microseconds, floor, microseconds / floor);
  std::fflush(stdout);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  cudaFree(workspace);
  cudaFree(output);
  cudaFree(input);
  cudaFree(device_router);
}

}  // namespace

int main(int argc, char** argv) {
  const bool every = argc > 1 && std::strcmp(argv[1], "--every-kernel") == 0;
  DeviceInfo device;
  Check(CurrentDevice(&device));
  for (const Shape& shape : kShapes) {
    for (const bool quantized : {true, false}) {
      Layers first;
      first.args.type = ElementType::kFloat16;
      first.args.hidden = shape.hidden;
      first.args.inter = shape.inter;
      first.args.experts = shape.experts;
      first.args.k = shape.k;
      first.args.activation = ExpertActivation::kSwiGlu;
      first.args.normalize = true;
      const double layer_bytes =
          3.0 * shape.hidden * shape.inter * shape.experts * (quantized ? 0.5625 : 2.0);
      // A token reads few of the experts, so that few mixtures would stay in L2.
      const auto count =
          static_cast<std::size_t>(std::clamp(4 * kBytesARun / layer_bytes, 2.0, 12.0));
      std::vector<Layers> copies(count, first);
      for (Layers& copy : copies) MakeWeights(shape, quantized, &copy);
      for (const std::int64_t rows : kRows) {
        Measure(shape, quantized, copies, rows, nullptr);
        if (!every) continue;
        for (const GroupedKernel& fc1 : GroupedKernels()) {
          if (!Serves(fc1, ElementType::kFloat16, copies[0].args.fc1, shape.hidden, device)) {
            continue;
          }
          for (const GroupedKernel& fc2 : GroupedKernels()) {
            if (fc2.rows != fc1.rows || fc2.needs_sm90 != fc1.needs_sm90 ||
                !Serves(fc2, ElementType::kFloat16, copies[0].args.fc2, shape.inter, device)) {
              continue;
            }
            const MoeKernels kernels{&fc1, &fc2};
            Measure(shape, quantized, copies, rows, &kernels);
          }
        }
      }
      for (Layers& copy : copies) {
        cudaFree(const_cast<void*>(copy.args.fc1.packed));
        cudaFree(const_cast<void*>(copy.args.fc2.packed));
      }
    }
  }
  return 0;
}
