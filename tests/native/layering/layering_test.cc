// Dependencies point one way: include <- kernels <- ort/ops <- ort/cuda <- ort/{ep,custom_ops} <-
// ort/library.cc. Only ort/ort_api.h includes ONNX Runtime. This test reads every include under
// native/.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct Layer {
  std::string_view prefix;                    // a path under native/, the longest match wins
  std::vector<std::string_view> may_include;  // prefixes of what it includes
};

const std::vector<Layer>& Layers() {
  static const std::vector<Layer> layers = {
      {"include/batch_invariant/", {"batch_invariant/"}},
      {"kernels/reference/", {"batch_invariant/", "kernels/reference/"}},
      {"kernels/common/", {"batch_invariant/", "kernels/common/"}},
      {"kernels/cpu/", {"batch_invariant/", "kernels/common/", "kernels/cpu/"}},
      {"kernels/cuda/", {"batch_invariant/", "kernels/common/", "kernels/cuda/"}},
      {"ort/ort_api", {"batch_invariant/", "ort/ort_api.h"}},
      {"ort/ops/", {"batch_invariant/", "ort/ort_api.h", "ort/ops/"}},
      {"ort/cuda/", {"batch_invariant/", "ort/ort_api.h", "ort/ops/", "ort/cuda/"}},
      {"ort/ep/", {"batch_invariant/", "ort/ort_api.h", "ort/ops/", "ort/cuda/", "ort/ep/"}},
      {"ort/custom_ops/",
       {"batch_invariant/", "ort/ort_api.h", "ort/ops/", "ort/cuda/", "ort/custom_ops/"}},
      {"ort/library.cc", {"batch_invariant/", "ort/"}},
  };
  return layers;
}

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// One line for each include of `content`, the text of native/`path`, that points the wrong way.
std::vector<std::string> Violations(const std::string& path, const std::string& content) {
  const Layer* layer = nullptr;
  for (const Layer& candidate : Layers()) {
    if (StartsWith(path, candidate.prefix)) layer = &candidate;
  }
  std::vector<std::string> violations;
  if (layer == nullptr) return {path + " belongs to no layer"};
  static const std::regex include(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"])");
  std::istringstream lines(content);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (!std::regex_search(line, match, include)) continue;
    const std::string target = match[2];
    bool allowed = match[1] == "<";
    if (target.find("onnxruntime") != std::string::npos) {
      allowed = path == "ort/ort_api.h";
    } else if (!allowed) {
      for (const std::string_view prefix : layer->may_include) {
        allowed = allowed || StartsWith(target, prefix);
      }
    }
    if (!allowed) violations.push_back(path + " includes " + target);
  }
  return violations;
}

TEST(Layering, EveryIncludePointsDown) {
  const fs::path native = fs::path(BATCH_INVARIANT_SOURCE_DIR) / "native";
  int files = 0;
  std::string found;
  for (const auto& entry : fs::recursive_directory_iterator(native)) {
    const std::string extension = entry.path().extension().string();
    if (extension != ".h" && extension != ".cc" && extension != ".cu" && extension != ".cuh") {
      continue;
    }
    std::ostringstream content;
    content << std::ifstream(entry.path()).rdbuf();
    const std::string path = fs::relative(entry.path(), native).generic_string();
    for (const std::string& violation : Violations(path, content.str())) found += violation + "\n";
    ++files;
  }
  EXPECT_EQ(found, "");
  EXPECT_GT(files, 20);
  RecordProperty("files", files);
}

TEST(Layering, PlantedViolationsAreFound) {
  const auto count = [](const std::string& path, const std::string& content) {
    return Violations(path, content).size();
  };
  EXPECT_EQ(count("kernels/cpu/norm/norm.cc", "#include <onnxruntime_c_api.h>\n"), 1u);
  EXPECT_EQ(count("kernels/cpu/norm/norm.cc", "#include \"ort/ops/op.h\"\n"), 1u);
  EXPECT_EQ(count("kernels/cpu/norm/norm.cc", "#include \"kernels/cuda/norm/norm.h\"\n"), 1u);
  EXPECT_EQ(count("include/batch_invariant/status.h", "#include \"kernels/cpu/x.h\"\n"), 1u);
  EXPECT_EQ(count("ort/ops/norm.cc", "#include \"ort/ep/ep.h\"\n"), 1u);
  EXPECT_EQ(count("ort/ops/norm.cc", "#include \"kernels/cpu/norm/norm_body.h\"\n"), 1u);
  EXPECT_EQ(count("ort/custom_ops/custom_ops.cc", "#include \"ort/ep/ep.h\"\n"), 1u);
  EXPECT_EQ(count("ort/cuda/device_pool.cc", "#include \"ort/ep/ep.h\"\n"), 1u);
  EXPECT_EQ(count("elsewhere/x.cc", ""), 1u);
  EXPECT_EQ(count("ort/ep/ep.cc", "#include \"ort/ops/op.h\"\n#include <string>\n"), 0u);
}

}  // namespace
