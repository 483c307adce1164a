// The result of every call below the ONNX Runtime adapters: no kernel throws, prints, exits or aborts.
#ifndef BATCH_INVARIANT_STATUS_H_
#define BATCH_INVARIANT_STATUS_H_

#include <string>
#include <utility>

namespace batch_invariant {

enum class StatusCode {
  kOk = 0,
  kInvalidArgument,  // a shape, type or value that contradicts the op's definition
  kUnsupported,      // a legal request that this library does not serve; the message names it
  kOutOfMemory,
  kDeviceError,  // the driver or a launch failed
};

// `message` is one clause in plain words: what is wrong, where, what to do. Empty when ok.
struct [[nodiscard]] Status {
  StatusCode code = StatusCode::kOk;
  std::string message;

  bool ok() const { return code == StatusCode::kOk; }

  static Status Ok() { return {}; }
  static Status InvalidArgument(std::string message) {
    return {StatusCode::kInvalidArgument, std::move(message)};
  }
  static Status Unsupported(std::string message) {
    return {StatusCode::kUnsupported, std::move(message)};
  }
  static Status OutOfMemory(std::string message) {
    return {StatusCode::kOutOfMemory, std::move(message)};
  }
  static Status DeviceError(std::string message) {
    return {StatusCode::kDeviceError, std::move(message)};
  }
};

}  // namespace batch_invariant

#define BATCH_INVARIANT_RETURN_IF_ERROR(expression)            \
  do {                                                         \
    ::batch_invariant::Status status_ = (expression);          \
    if (!status_.ok()) return status_;                         \
  } while (false)

#endif  // BATCH_INVARIANT_STATUS_H_
