// What is stated twice is the same: contract ids in the sources and in CHANGELOG.md, the version in
// the library and in the packages.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

namespace {

namespace fs = std::filesystem;

std::string Text(const fs::path& file) {
  std::ifstream stream(file);
  EXPECT_TRUE(stream.good()) << file;
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::set<std::string> Matches(const std::string& text, const std::regex& pattern) {
  std::set<std::string> found;
  for (std::sregex_iterator match(text.begin(), text.end(), pattern), end; match != end; ++match) {
    found.insert((*match)[1]);
  }
  return found;
}

const fs::path& Root() {
  static const fs::path root = BATCH_INVARIANT_SOURCE_DIR;
  return root;
}

// A contract that is new, changed or gone is a change that users of the bytes must hear of.
TEST(Versions, ChangelogHasTheContractIdsOfTheSources) {
  static const std::regex literal(R"re("([a-z0-9]+(?:\.[a-z0-9]+)*\.v[0-9]+)")re");
  static const std::regex code(R"(`([a-z0-9]+(?:\.[a-z0-9]+)*\.v[0-9]+)`)");
  std::set<std::string> ids;
  for (const auto& entry : fs::recursive_directory_iterator(Root() / "native")) {
    const std::string extension = entry.path().extension().string();
    if (extension != ".h" && extension != ".cc" && extension != ".cu") continue;
    ids.merge(Matches(Text(entry.path()), literal));
  }
  EXPECT_GT(ids.size(), 10u);
  const std::string changelog = Text(Root() / "CHANGELOG.md");
  const size_t newest = changelog.find("\n| where | contract ids |");
  ASSERT_NE(newest, std::string::npos);
  const size_t end = changelog.find("\n\n", newest);
  EXPECT_EQ(Matches(changelog.substr(newest, end - newest), code), ids);
}

TEST(Versions, LibraryAndPackagesAreOneVersion) {
  static const std::regex library(R"re(kLibraryVersion = "([^"]+)")re");
  static const std::regex packages("<VersionPrefix>([^<]+)<");
  const std::set<std::string> version = Matches(Text(Root() / "native/ort/ort_api.h"), library);
  EXPECT_EQ(version.size(), 1u);
  EXPECT_EQ(version, Matches(Text(Root() / "Directory.Build.props"), packages));
}

}  // namespace
