#include "ort/ort_api.h"

#include <cstdio>

namespace batch_invariant::ort {
namespace {

OrtErrorCode ToOrtErrorCode(StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
      return ORT_OK;
    case StatusCode::kInvalidArgument:
      return ORT_INVALID_ARGUMENT;
    case StatusCode::kUnsupported:
      return ORT_NOT_IMPLEMENTED;
    case StatusCode::kOutOfMemory:
    case StatusCode::kDeviceError:
      return ORT_FAIL;
  }
  return ORT_FAIL;
}

uint32_t g_runtime_minor_version = kOrtApiVersion;

}  // namespace

uint32_t RuntimeMinorVersion() { return g_runtime_minor_version; }

OrtStatus* InitializeOrtApi(const OrtApiBase* base) noexcept {
  // An older runtime prints a line of its own when asked for a version that it does not have, so
  // its version string is looked at first.
  const char* version = base->GetVersionString();
  int major = 0;
  int minor = 0;
  bool too_old = true;
  if (version != nullptr && std::sscanf(version, "%d.%d", &major, &minor) == 2) {
    too_old = major < 1 || (major == 1 && minor < static_cast<int>(kOrtApiVersion));
  }
  const OrtApi* api = too_old ? nullptr : base->GetApi(kOrtApiVersion);
  if (api == nullptr) {
    const OrtApi* first = base->GetApi(1);
    if (first == nullptr) return nullptr;
    const std::string message = std::string("ort_batch_invariant ") + kLibraryVersion +
                                " needs ONNX Runtime 1." + std::to_string(kOrtApiVersion) +
                                " or later, this is " +
                                (version != nullptr ? version : "an unknown version") +
                                ": update the package Microsoft.ML.OnnxRuntime";
    return first->CreateStatus(ORT_NOT_IMPLEMENTED, message.c_str());
  }
  Ort::InitApi(api);
  g_runtime_minor_version = static_cast<uint32_t>(minor);
  return nullptr;
}

OrtStatus* ToOrtStatus(const Status& status) noexcept {
  if (status.ok()) return nullptr;
  return Ort::GetApi().CreateStatus(ToOrtErrorCode(status.code), status.message.c_str());
}

Status FromOrtStatus(OrtStatus* status) {
  if (status == nullptr) return Status::Ok();
  Ort::Status owned(status);
  return Status::InvalidArgument(owned.GetErrorMessage());
}

}  // namespace batch_invariant::ort
