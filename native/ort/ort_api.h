// The only place that includes ONNX Runtime. The library links no ONNX Runtime: the API arrives as
// function pointers, at the lowest version that has everything used here, so that one binary serves
// every later runtime.
#ifndef BATCH_INVARIANT_ORT_ORT_API_H_
#define BATCH_INVARIANT_ORT_ORT_API_H_

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

#include <string>
#include <string_view>

#include "batch_invariant/status.h"

namespace batch_invariant::ort {

// 1.24 introduced kernel registries for plugin providers.
inline constexpr uint32_t kOrtApiVersion = 24;

inline constexpr const char* kProviderName = "BatchInvariantExecutionProvider";
inline constexpr const char* kCustomOpDomain = "ort.batch_invariant";
inline constexpr const char* kLibraryVersion = "0.1.0";

// The newest version whose OrtEp members are used, where the runtime has them.
inline constexpr uint32_t kNewestEpVersion = 26;

// The N of the running ONNX Runtime 1.N. Only after InitializeOrtApi.
uint32_t RuntimeMinorVersion();

// Makes Ort::GetApi() usable, or says in one sentence why this ONNX Runtime will not do.
// The returned status was made by `base`, whatever its version. Null when all is well.
OrtStatus* InitializeOrtApi(const OrtApiBase* base) noexcept;

// Null for an ok status.
OrtStatus* ToOrtStatus(const Status& status) noexcept;

// Turns a failed OrtStatus into ours and releases it; null is ok.
Status FromOrtStatus(OrtStatus* status);

// Runs `body`, which returns Status, inside a C callback: nothing escapes as an exception.
template <typename Body>
OrtStatus* Guarded(Body&& body) noexcept {
  try {
    return ToOrtStatus(body());
  } catch (const Ort::Exception& e) {
    return Ort::GetApi().CreateStatus(e.GetOrtErrorCode(), e.what());
  } catch (const std::bad_alloc&) {
    return Ort::GetApi().CreateStatus(ORT_FAIL, "out of host memory");
  } catch (const std::exception& e) {
    return Ort::GetApi().CreateStatus(ORT_FAIL, e.what());
  } catch (...) {
    return Ort::GetApi().CreateStatus(ORT_FAIL, "something was thrown that is no exception");
  }
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_ORT_API_H_
