// Everything the library exports: the plugin provider, the custom-op library, and what the C# host
// asks for.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "ort/custom_ops/custom_ops.h"
#include "ort/ep/coverage.h"
#include "ort/ep/ep_factory.h"

#if defined(_WIN32)
#define BATCH_INVARIANT_EXPORT extern "C" __declspec(dllexport)
#else
#define BATCH_INVARIANT_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace bi = batch_invariant;
namespace bi_ort = batch_invariant::ort;

namespace {

// Copies as much as fits with a final NUL; gives the whole length without it.
int32_t CopyText(const std::string& text, char* buffer, int32_t capacity) {
  if (buffer != nullptr && capacity > 0) {
    const size_t count = std::min(text.size(), static_cast<size_t>(capacity) - 1);
    std::memcpy(buffer, text.data(), count);
    buffer[count] = '\0';
  }
  return static_cast<int32_t>(text.size());
}

}  // namespace

BATCH_INVARIANT_EXPORT OrtStatus* CreateEpFactories(const char*, const OrtApiBase* base,
                                                    const OrtLogger*, OrtEpFactory** factories,
                                                    size_t max_factories,
                                                    size_t* factory_count) noexcept {
  *factory_count = 0;
  if (OrtStatus* status = bi_ort::InitializeOrtApi(base)) return status;
  return bi_ort::Guarded([&]() -> bi::Status {
    if (max_factories < 1) {
      return bi::Status::InvalidArgument("ONNX Runtime offers no room for a provider factory");
    }
    factories[0] = std::make_unique<bi_ort::EpFactory>().release();
    *factory_count = 1;
    return bi::Status::Ok();
  });
}

BATCH_INVARIANT_EXPORT OrtStatus* ReleaseEpFactory(OrtEpFactory* factory) noexcept {
  delete static_cast<bi_ort::EpFactory*>(factory);
  return nullptr;
}

BATCH_INVARIANT_EXPORT OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options,
                                                                 const OrtApiBase* base) noexcept {
  if (OrtStatus* status = bi_ort::InitializeOrtApi(base)) return status;
  return bi_ort::Guarded([&] { return bi_ort::AddCustomOps(options); });
}

BATCH_INVARIANT_EXPORT const char* OrtBatchInvariant_Version(void) noexcept {
  return bi_ort::kLibraryVersion;
}

BATCH_INVARIANT_EXPORT const char* OrtBatchInvariant_InstructionSet(void) noexcept {
  bi::cpu::InstructionSet chosen = bi::cpu::BestInstructionSet();
  try {
    if (!bi_ort::ChooseInstructionSet("", &chosen).ok()) return "";
  } catch (...) {
    return "";
  }
  return bi::cpu::Name(chosen).data();
}

BATCH_INVARIANT_EXPORT int32_t OrtBatchInvariant_GetCoverageReport(const char* report_id,
                                                                   char* buffer,
                                                                   int32_t capacity) noexcept {
  try {
    std::string json;
    if (report_id == nullptr || !bi_ort::FindReport(report_id, &json)) return -1;
    return CopyText(json, buffer, capacity);
  } catch (...) {
    return -1;
  }
}

BATCH_INVARIANT_EXPORT int32_t OrtBatchInvariant_GetInvariantOps(char* buffer,
                                                                 int32_t capacity) noexcept {
  try {
    return CopyText(bi_ort::InvariantOpsToJson(), buffer, capacity);
  } catch (...) {
    return -1;
  }
}

BATCH_INVARIANT_EXPORT void OrtBatchInvariant_ReleaseCoverageReport(
    const char* report_id) noexcept {
  try {
    if (report_id != nullptr) bi_ort::ReleaseReport(report_id);
  } catch (...) {
  }
}
