#include "worker/data/sampler/shared_tables.h"

#include <arrow/type.h>

#include <filesystem>

#include "worker/data/sampler/table_file.h"

namespace anneal::data {

std::string TablesKey(const std::string& settings, const std::vector<config::SamplerTable>& files,
                      const std::vector<std::string>& attr_fields, const arrow::Schema& input) {
  std::string key = settings + (TextNodeIds() ? "\ntext" : "\nnumbers");
  for (const config::SamplerTable& file : files) {
    std::error_code ignored;
    key += "\n" + std::filesystem::absolute(file.path, ignored).string() + " " +
           std::to_string(std::filesystem::file_size(file.path, ignored)) + " " +
           std::to_string(std::filesystem::last_write_time(file.path, ignored).time_since_epoch().count());
  }
  for (const std::string& name : attr_fields) {
    const auto field = input.GetFieldByName(name);
    key += "\n" + (field ? field->type()->ToString() : "");
  }
  return key;
}

}  // namespace anneal::data
