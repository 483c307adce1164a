// The start-up self-test passes on this device, and refuses a path that adds in another order.
#include <cmath>
#include <string>
#include <vector>

#include "batch_invariant/cuda/self_test.h"
#include "cuda/common/device_test.h"
#include "kernels/cuda/self_test/paths.h"

namespace batch_invariant::cuda::test {
namespace {

TEST(SelfTest, PassesOnThisDevice) {
  SelfTestResult result;
  ASSERT_STATUS_OK(SelfTest(nullptr, &result));
  std::printf("self-test: %d comparisons of %lld elements in %.1f ms\n", result.comparisons,
              static_cast<long long>(result.elements), result.milliseconds);
  EXPECT_GT(result.comparisons, 0);
  Compared() += static_cast<std::uint64_t>(result.elements);
}

// The status must refuse, in one sentence that names the op, the path and the device.
void ExpectRefused(const SelfTestPaths& paths, const std::string& op, const std::string& path) {
  SelfTestResult result;
  const Status status = SelfTest(paths, nullptr, &result);
  EXPECT_EQ(status.code, StatusCode::kDeviceError);
  for (const std::string& part : {op, path, std::string("CUDA device 0 (")}) {
    EXPECT_NE(status.message.find(part), std::string::npos) << status.message;
  }
  std::printf("refused: %s\n", status.message.c_str());
}

// Products of the same numbers with K descending.
Status Descending(const GemmArgs& args, const DeviceInfo& device, Stream stream) {
  GemmArgs reversed = args;
  const auto reverse = [&](MatrixView* view, std::int64_t* stride) {
    view->data = static_cast<const char*>(view->data) +
                 (args.k - 1) * *stride * static_cast<std::int64_t>(ElementSize(args.type));
    *stride = -*stride;
  };
  reverse(&reversed.a, &reversed.a.column_stride);
  reverse(&reversed.b, &reversed.b.row_stride);
  for (const GemmKernel& kernel : GemmKernels()) {
    if (kernel.type == args.type && kernel.needs == GemmNeeds::kAnything) {
      return kernel.launch(reversed, device, stream);
    }
  }
  return Status::Unsupported("no kernel takes any stride");
}

TEST(SelfTest, RefusesAProductThatAddsInAnotherOrder) {
  for (const ElementType type :
       {ElementType::kFloat32, ElementType::kFloat16, ElementType::kBFloat16}) {
    std::vector<GemmKernel> table(GemmKernels().begin(), GemmKernels().end());
    table.push_back({"planted", type, GemmNeeds::kAnything, 64, 64, 1, 1, &Descending});
    SelfTestPaths paths;
    paths.gemm = table;
    ExpectRefused(paths, "MatMul in ", "planted");
  }
}

const NBitsKernel* nbits_original;

__global__ void FlipOneBit(unsigned char* y) { *y ^= 1; }

Status Flipped(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args, const DeviceInfo& device,
               Stream stream) {
  const Status status = nbits_original->launch(plan, args, device, stream);
  FlipOneBit<<<1, 1, 0, stream>>>(static_cast<unsigned char*>(args.y));
  return status;
}

TEST(SelfTest, RefusesOneFlippedBit) {
  for (const NBitsKernel& original : NBitsKernels()) {
    if (original.needs_sm90) continue;
    nbits_original = &original;
    NBitsKernel planted = original;
    planted.name = "planted";
    planted.launch = &Flipped;
    const std::vector<NBitsKernel> table = {original, planted};
    SelfTestPaths paths;
    paths.nbits = table;
    ExpectRefused(paths, "MatMulNBits of 4 bits in ", "planted");
  }
}

TEST(SelfTest, RefusesAMixtureThatDiffersInOneBit) {
  for (const GroupedKernel& original : GroupedKernels()) {
    if (original.needs_sm90) continue;
    static const GroupedKernel* grouped;
    grouped = &original;
    GroupedKernel planted = original;
    planted.name = "planted";
    planted.launch = [](const GroupedArgs& args, const DeviceInfo& device, Stream stream) {
      const Status status = grouped->launch(args, device, stream);
      FlipOneBit<<<1, 1, 0, stream>>>(static_cast<unsigned char*>(args.y));
      return status;
    };
    const std::vector<GroupedKernel> table = {original, planted};
    SelfTestPaths paths;
    paths.grouped = table;
    ExpectRefused(paths, "MixtureOfExperts", "planted");
  }
}

TEST(SelfTest, RefusesAttentionWhoseDecodeDiffersFromPrefill) {
  SelfTestPaths paths;
  paths.attention = [](const AttentionArgs& args, void* workspace, std::size_t bytes,
                       Stream stream) {
    AttentionArgs planted = args;
    const float scale = 1.0f / std::sqrt(static_cast<float>(args.head_size));
    if (args.tokens == 1) planted.scale = std::nextafter(scale, 1.0f);
    return Attention(planted, workspace, bytes, stream);
  };
  ExpectRefused(paths, "attention with heads of 64 in fp16", "1 token at once");
}

TEST(SelfTest, RefusesAMergeThatDiffersFromPrefill) {
  SelfTestPaths paths;
  paths.group_query_attention = [](const GroupQueryAttentionArgs& args, void* workspace,
                                   std::size_t bytes, Stream stream) {
    GroupQueryAttentionArgs planted = args;
    planted.scale = 1.01f / std::sqrt(static_cast<float>(args.head_size));
    return GroupQueryAttention(planted, workspace, bytes, stream);
  };
  ExpectRefused(paths, "GroupQueryAttention with heads of 64 in fp16", "1 new token");
}

TEST(SelfTest, RefusesAGateOfAnotherSum) {
  for (const GemmKernel& original : GemmKernels()) {
    if (original.needs != GemmNeeds::kKVectorsSm90) continue;
    static const GemmKernel* gated;
    gated = &original;
    std::vector<GemmKernel> table(GemmKernels().begin(), GemmKernels().end());
    table.push_back(original);
    table.back().name = "planted";
    table.back().launch = [](const GemmArgs& args, const DeviceInfo& device, Stream stream) {
      const Status status = gated->launch(args, device, stream);
      if (args.silu_gated) {
        FlipOneBit<<<1, 1, 0, stream>>>(static_cast<unsigned char*>(args.y));
      }
      return status;
    };
    DeviceInfo device;
    ASSERT_STATUS_OK(CurrentDevice(&device));
    if (device.compute_capability != 90) return;
    SelfTestPaths paths;
    paths.gemm = table;
    ExpectRefused(paths, "MatMul in ", "planted");
    return;
  }
}

TEST(SelfTest, RefusesANormThatDiffersInTheLastPlace) {
  SelfTestPaths paths;
  paths.norm = [](const NormArgs& args, Stream stream) {
    NormArgs planted = args;
    if (args.rows == 1) planted.epsilon = args.epsilon + 1e-6f;
    return RmsNorm(planted, stream);
  };
  ExpectRefused(paths, "RMS normalisation in fp32", "each row alone");
}

}  // namespace
}  // namespace batch_invariant::cuda::test

int main(int argc, char** argv) { return batch_invariant::cuda::test::RunTests(argc, argv); }
