#include "worker/data/file_list.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>

#include "worker/config/error.h"

namespace anneal::data {
namespace {

std::vector<std::string> FilesOf(const std::string& pattern) {
  if (pattern.find("://") != std::string::npos) {
    throw ConfigError("input path " + pattern + ": only local files are supported yet");
  }
  glob_t found{};
  const int error = glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
  std::vector<std::string> files(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  if (error != 0 && error != GLOB_NOMATCH) throw TemporaryError("input path " + pattern + " cannot be listed");
  for (const std::string& file : files) {
    std::error_code ignored;
    if (std::filesystem::is_symlink(file, ignored) && !std::filesystem::exists(file, ignored))
      throw ConfigError("input path " + pattern + ": " + file + " is a link to nothing");
  }
  std::erase_if(files, [](const std::string& file) { return !std::filesystem::is_regular_file(file); });
  if (files.empty()) throw ConfigError("input path " + pattern + " matches no file");
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

std::vector<std::string> ListFiles(const std::string& input_path) {
  std::vector<std::string> files;
  for (size_t begin = 0; begin <= input_path.size();) {
    const size_t end = std::min(input_path.find(',', begin), input_path.size());
    const std::vector<std::string> part = FilesOf(input_path.substr(begin, end - begin));
    files.insert(files.end(), part.begin(), part.end());
    begin = end + 1;
  }
  return files;
}

}  // namespace anneal::data
