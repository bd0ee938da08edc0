// Tables that several streams of a process read: each set of files is in memory once.
#pragma once

#include <arrow/type_fwd.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "worker/config/sampler_settings.h"

namespace anneal::data {

/// What decides the contents of a sampler's tables: `settings` (a message as text), the files with their sizes and
/// times, the types of the columns that attributes become, and what ids are.
std::string TablesKey(const std::string& settings, const std::vector<config::SamplerTable>& files,
                      const std::vector<std::string>& attr_fields, const arrow::Schema& input);

/// The tables of that key, made by `make` unless a stream still has them.
template <typename Tables, typename Make>
std::shared_ptr<const Tables> SharedTables(const std::string& key, Make make) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<const Tables>> known;
  const std::lock_guard lock(mutex);
  std::weak_ptr<const Tables>& entry = known[key];
  std::shared_ptr<const Tables> tables = entry.lock();
  if (!tables) entry = tables = make();
  return tables;
}

}  // namespace anneal::data
