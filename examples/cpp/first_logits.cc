// Runs a converted model through the C++ API of ONNX Runtime: the same prompt alone, and in a batch
// among other prompts. The logits of its last token are the same bytes; their digests are printed.
//   ortbi convert MODEL CONVERTED
//   c++ -std=c++17 first_logits.cc -I ORT/include -L ORT/lib -lonnxruntime -o first_logits
//   ./first_logits CONVERTED/model.onnx CONVERTED/libort_batch_invariant.so HEAD_SIZE
// HEAD_SIZE is `head_size` of genai_config.json.
#include <onnxruntime_cxx_api.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

// The FNV-1a digest of the last token's logits of the first of `batch` rows.
static uint64_t FirstRow(Ort::Session& session, int64_t batch, int64_t head_size) {
  const int64_t length = 8;
  Ort::AllocatorWithDefaultOptions allocator;
  std::vector<Ort::AllocatedStringPtr> owned;
  std::vector<const char*> names;
  std::vector<Ort::Value> inputs;
  for (size_t i = 0; i < session.GetInputCount(); ++i) {
    owned.push_back(session.GetInputNameAllocated(i, allocator));
    names.push_back(owned.back().get());
    const auto type_info = session.GetInputTypeInfo(i);
    const auto info = type_info.GetTensorTypeAndShapeInfo();
    std::vector<int64_t> shape = info.GetShape();
    const bool is_past = shape.size() == 4;  // [batch, heads, past, head size], nothing past yet
    shape[0] = batch;
    shape[is_past ? 2 : 1] = is_past ? 0 : length;
    if (is_past) shape[3] = head_size;
    inputs.push_back(
        Ort::Value::CreateTensor(allocator, shape.data(), shape.size(), info.GetElementType()));
    for (int64_t j = 0; !is_past && j < batch * length; ++j) {
      const bool is_mask = std::string(names.back()) == "attention_mask";
      inputs.back().GetTensorMutableData<int64_t>()[j] = is_mask ? 1 : 3 + (7 * j) % 50;
    }
  }
  const char* output = "logits";
  const auto outputs =
      session.Run(Ort::RunOptions(), names.data(), inputs.data(), inputs.size(), &output, 1);
  const auto shape = outputs[0].GetTensorTypeAndShapeInfo().GetShape();  // [batch, tokens, words]
  const auto* bytes = reinterpret_cast<const unsigned char*>(outputs[0].GetTensorData<float>() +
                                                             (shape[1] - 1) * shape[2]);
  uint64_t digest = 14695981039346656037u;
  for (size_t i = 0; i < shape[2] * sizeof(float); ++i) {
    digest = (digest ^ bytes[i]) * 1099511628211u;
  }
  return digest;
}

int main(int, char** arguments) {
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR);
  Ort::SessionOptions options;
  options.RegisterCustomOpsLibrary(arguments[2]);  // the line that is new
  Ort::Session session(env, arguments[1], options);
  for (const int64_t batch : {1, 2, 8}) {
    const uint64_t digest = FirstRow(session, batch, std::atoi(arguments[3]));
    std::printf("%016llx\n", static_cast<unsigned long long>(digest));
  }
}
