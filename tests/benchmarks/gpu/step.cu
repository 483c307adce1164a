// Times the layers of a decode step of the Llama-3-8B shape as one CUDA graph, without ONNX
// Runtime: norm, QKV, attention, output projection, norm, gate and up, down; random weights, as
// many sets of them as leave the L2 cache.
//
//   step fp16|int4 ROWS[,ROWS...] [PAST]
//
// Prints microseconds a layer and a hash of the last layer's output, by which two builds are
// compared: kernels of one contract leave the same bytes.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "batch_invariant/cuda/attention.h"
#include "batch_invariant/cuda/gemm.h"
#include "batch_invariant/cuda/matmul_nbits.h"
#include "batch_invariant/cuda/norm.h"
#include "kernels/cuda/common/launch.h"

namespace {

using namespace batch_invariant::cuda;  // NOLINT: a benchmark program's single file

constexpr std::int64_t kHidden = 4096, kQkv = 6144, kFeed = 14336;
constexpr int kHeads = 32, kKvHeads = 8, kHeadSize = 128, kWeightSets = 8, kLayers = 16;

void Check(const batch_invariant::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message.c_str());
  std::exit(1);
}
void Check(cudaError_t error) { Check(ToStatus(error, "CUDA")); }

__global__ void FillHalf(__half* x, std::size_t n, std::uint32_t seed, float scale) {
  for (std::size_t i = blockIdx.x * std::size_t{256} + threadIdx.x; i < n;
       i += std::size_t{gridDim.x} * 256) {
    std::uint32_t h = static_cast<std::uint32_t>(i) * 2654435761u + seed;
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    h *= 3266489917u;
    h ^= h >> 16;
    x[i] = __float2half((static_cast<float>(h & 0xffff) / 32768.0f - 1.0f) * scale);
  }
}
__global__ void FillBytes(std::uint32_t* x, std::size_t n, std::uint32_t seed) {
  for (std::size_t i = blockIdx.x * std::size_t{256} + threadIdx.x; i < n;
       i += std::size_t{gridDim.x} * 256) {
    std::uint32_t h = static_cast<std::uint32_t>(i) * 2654435761u + seed;
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    x[i] = h;
  }
}

void* Raw(std::size_t bytes) {
  void* p = nullptr;
  Check(cudaMalloc(&p, bytes));
  return p;
}
std::uint32_t seed_ = 1;
void* Half(std::size_t n, float scale) {
  void* p = Raw(n * 2);
  FillHalf<<<1024, 256>>>(static_cast<__half*>(p), n, seed_++ * 7919u, scale);
  return p;
}

struct Product {
  std::int64_t k, n;
  bool gated;
  void* weights[kWeightSets];
  MatMulNBitsPlan plan;
};

struct Model {
  bool int4;
  Product products[4];  // qkv, out, gate and up, down
  void* gamma;
  void *cos, *sin;
};

Model MakeModel(bool int4) {
  Model m;
  m.int4 = int4;
  const std::int64_t shapes[4][2] = {
      {kHidden, kQkv}, {kHidden, kHidden}, {kHidden, 2 * kFeed}, {kFeed, kHidden}};
  for (int i = 0; i < 4; ++i) {
    Product& p = m.products[i];
    p.k = shapes[i][0];
    p.n = shapes[i][1];
    p.gated = i == 2;
    const std::int64_t one_n = p.gated ? p.n / 2 : p.n;
    if (int4) {
      Check(MakeMatMulNBitsPlan(ElementType::kFloat16, p.k, one_n, 4, 32, ZeroPoints::kDefault,
                                &p.plan));
    }
    const std::size_t elements = static_cast<std::size_t>(p.k) * p.n;
    void* plain = nullptr;
    void* scales = nullptr;
    if (int4) {
      plain = Raw(elements / 2);
      scales = Raw(elements / 32 * 2);
    } else {
      plain = Raw(elements * 2);
    }
    for (int set = 0; set < kWeightSets; ++set) {
      if (int4) {
        FillBytes<<<1024, 256>>>(static_cast<std::uint32_t*>(plain), elements / 8, seed_++ * 977u);
        FillHalf<<<1024, 256>>>(static_cast<__half*>(scales), elements / 32, seed_++ * 977u,
                                0.004f);
        const MatMulNBitsPlan whole = p.gated ? GatedPlan(p.plan) : p.plan;
        p.weights[set] = Raw(PackedMatMulNBitsBytes(whole));
        if (p.gated) {
          NBitsTensors gate{plain, scales, nullptr};
          NBitsTensors up{static_cast<char*>(plain) + elements / 4,
                          static_cast<char*>(scales) + elements / 32, nullptr};
          Check(PackGatedMatMulNBits(p.plan, gate, up, p.weights[set], nullptr));
        } else {
          Check(PackMatMulNBits(p.plan, plain, scales, nullptr, p.weights[set], nullptr));
        }
      } else {
        FillHalf<<<1024, 256>>>(static_cast<__half*>(plain), elements, seed_++ * 977u, 0.03f);
        p.weights[set] = Raw(PackedGemmWeightBytes(ElementType::kFloat16, p.k, p.n));
        Check(PackGemmWeights(ElementType::kFloat16, p.k, p.n, {plain, p.n, 1}, p.weights[set],
                              nullptr));
      }
    }
    if (int4 && p.gated) p.plan = GatedPlan(p.plan);
    Check(cudaDeviceSynchronize());
    Check(cudaFree(plain));
    if (scales != nullptr) Check(cudaFree(scales));
  }
  m.gamma = Half(kHidden, 1.0f);
  m.cos = Half(40960 * 64, 1.0f);
  m.sin = Half(40960 * 64, 1.0f);
  Check(cudaDeviceSynchronize());
  return m;
}

struct Step {
  std::int64_t rows;
  int past, capacity;
  void *x[2], *normed, *qkv, *attended, *projected, *fed, *down, *workspace;
  std::size_t workspace_bytes;
  void *keys[kWeightSets], *values[kWeightSets];
  std::int32_t* seqlens;
};

GroupQueryAttentionArgs Attend(const Model& m, const Step& s, int set) {
  GroupQueryAttentionArgs a;
  a.type = ElementType::kFloat16;
  a.batch = static_cast<int>(s.rows);
  a.tokens = 1;
  a.heads = kHeads;
  a.kv_heads = kKvHeads;
  a.head_size = kHeadSize;
  a.total_sequence_length = s.past + 1;
  a.query = s.qkv;
  a.past_key = a.present_key = s.keys[set];
  a.past_value = a.present_value = s.values[set];
  a.past_capacity = a.present_capacity = s.capacity;
  a.seqlens_k = s.seqlens;
  a.rotary = true;
  a.rotary_dim = kHeadSize;
  a.rotary_positions = 40960;
  a.cos_cache = m.cos;
  a.sin_cache = m.sin;
  a.output = s.attended;
  return a;
}

Step MakeStep(const Model& m, std::int64_t rows, int past) {
  Step s;
  s.rows = rows;
  s.past = past;
  s.capacity = past + 256;
  for (void*& x : s.x) x = Half(rows * kHidden, 1.0f);
  s.normed = Raw(rows * kHidden * 2);
  s.qkv = Raw(rows * kQkv * 2);
  s.attended = Raw(rows * kHidden * 2);
  s.projected = Raw(rows * kHidden * 2);
  s.fed = Raw(rows * kFeed * 2);
  s.down = Half(rows * kHidden, 1.0f);
  const std::size_t cache = static_cast<std::size_t>(rows) * kKvHeads * s.capacity * kHeadSize;
  for (int i = 0; i < kWeightSets; ++i) {
    s.keys[i] = Half(cache, 1.0f);
    s.values[i] = Half(cache, 1.0f);
  }
  std::vector<std::int32_t> lengths(rows, past);
  s.seqlens = static_cast<std::int32_t*>(Raw(rows * 4));
  Check(cudaMemcpy(s.seqlens, lengths.data(), rows * 4, cudaMemcpyHostToDevice));
  Check(GroupQueryAttentionWorkspaceBytes(Attend(m, s, 0), &s.workspace_bytes));
  s.workspace = Raw(s.workspace_bytes);
  return s;
}
void FreeStep(Step& s) {
  for (void* p : {s.x[0], s.x[1], s.normed, s.qkv, s.attended, s.projected, s.fed, s.down,
                  s.workspace, static_cast<void*>(s.seqlens)})
    Check(cudaFree(p));
  for (int i = 0; i < kWeightSets; ++i) {
    Check(cudaFree(s.keys[i]));
    Check(cudaFree(s.values[i]));
  }
}

void Multiply(const Model& m, int product, int set, std::int64_t rows, const void* a, void* y,
              cudaStream_t stream) {
  const Product& p = m.products[product];
  if (m.int4) {
    MatMulNBitsArgs args;
    args.m = rows;
    args.a = a;
    args.a_row_stride = p.k;
    args.packed = p.weights[set];
    args.packed_is_ready = true;
    args.silu_gated = p.gated;
    args.y = y;
    args.y_row_stride = p.gated ? p.n / 2 : p.n;
    Check(p.gated ? GatedMatMulNBits(p.plan, args, nullptr, stream)
                  : MatMulNBits(p.plan, args, stream));
    return;
  }
  GemmArgs args;
  args.type = ElementType::kFloat16;
  args.m = rows;
  args.n = p.n;
  args.k = p.k;
  args.a = {a, p.k, 1};
  args.packed_b = p.weights[set];
  args.packed_b_is_ready = true;
  args.silu_gated = p.gated;
  args.y = y;
  args.y_row_stride = p.gated ? p.n / 2 : p.n;
  Check(p.gated ? GatedGemm(args, nullptr, stream) : Gemm(args, stream));
}

void Norm(const Model& m, const Step& s, const void* x, const void* skip, void* sum,
          cudaStream_t stream) {
  NormArgs args;
  args.type = ElementType::kFloat16;
  args.rows = s.rows;
  args.width = kHidden;
  args.x = x;
  args.skip = skip;
  args.skip_rows = s.rows;
  args.gamma = m.gamma;
  args.gamma_is_ready = true;
  args.y = s.normed;
  args.sum = sum;
  Check(RmsNorm(args, stream));
}

void Run(const Model& m, const Step& s, cudaStream_t stream) {
  for (int layer = 0; layer < kLayers; ++layer) {
    const int set = layer % kWeightSets;
    Norm(m, s, s.x[0], s.down, s.x[1], stream);
    Multiply(m, 0, set, s.rows, s.normed, s.qkv, stream);
    Check(GroupQueryAttention(Attend(m, s, set), s.workspace, s.workspace_bytes, stream));
    Multiply(m, 1, set, s.rows, s.attended, s.projected, stream);
    Norm(m, s, s.x[1], s.projected, s.x[0], stream);
    Multiply(m, 2, set, s.rows, s.normed, s.fed, stream);
    Multiply(m, 3, set, s.rows, s.fed, s.down, stream);
  }
}

std::uint64_t Hash(const void* device, std::size_t bytes) {
  std::vector<unsigned char> host(bytes);
  Check(cudaMemcpy(host.data(), device, bytes, cudaMemcpyDeviceToHost));
  std::uint64_t h = 1469598103934665603ull;
  for (const unsigned char c : host) h = (h ^ c) * 1099511628211ull;
  return h;
}

}  // namespace

int main(int argc, char** argv) {
  const bool int4 = argc > 1 && std::strcmp(argv[1], "int4") == 0;
  if (argc < 3 || (!int4 && std::strcmp(argv[1], "fp16") != 0)) {
    std::fprintf(stderr, "usage: step fp16|int4 ROWS[,ROWS...] [PAST]\n");
    return 2;
  }
  std::vector<std::int64_t> rows;
  for (char* at = std::strtok(argv[2], ","); at != nullptr; at = std::strtok(nullptr, ",")) {
    rows.push_back(std::atoi(at));
  }
  const int past = argc > 3 ? std::atoi(argv[3]) : 1024;
  const Model model = MakeModel(int4);
  cudaStream_t stream;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  for (const std::int64_t r : rows) {
    Step step = MakeStep(model, r, past);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    Run(model, step, stream);
    Check(cudaStreamEndCapture(stream, &graph));
    Check(cudaGraphInstantiate(&exec, graph, 0));
    Check(cudaGraphLaunch(exec, stream));
    Check(cudaStreamSynchronize(stream));
    const std::uint64_t hash = Hash(step.down, r * kHidden * 2);
    cudaEvent_t begin, end;
    Check(cudaEventCreate(&begin));
    Check(cudaEventCreate(&end));
    std::vector<float> times;
    constexpr int kWarmUp = 4, kRuns = 20;
    for (int i = 0; i < kWarmUp + kRuns; ++i) {
      Check(cudaEventRecord(begin, stream));
      Check(cudaGraphLaunch(exec, stream));
      Check(cudaEventRecord(end, stream));
      Check(cudaEventSynchronize(end));
      float ms;
      Check(cudaEventElapsedTime(&ms, begin, end));
      if (i >= kWarmUp) times.push_back(ms * 1000 / kLayers);
    }
    std::sort(times.begin(), times.end());
    std::printf("%s rows %4lld past %d: %8.2f us a layer (%.2f to %.2f) bytes %016llx\n", argv[1],
                static_cast<long long>(r), past, times[kRuns / 2], times.front(), times.back(),
                static_cast<unsigned long long>(hash));
    std::fflush(stdout);
    Check(cudaGraphExecDestroy(exec));
    Check(cudaGraphDestroy(graph));
    FreeStep(step);
  }
  return 0;
}
