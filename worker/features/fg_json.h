// fg.json: the features as the serving side's feature generator reads them (parity/features.md 8).
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tzrec/pipeline.pb.h"

namespace anneal::features {

struct FgJsonOptions {
  bool remove_bucketizer = false;             ///< leave out hash_bucket_size, vocabularies, boundaries, num_buckets
  std::vector<std::string> reserves;          ///< written as "reserves" when not empty
  std::map<std::string, std::string> assets;  ///< path as configured -> name to write, for copied asset files
};

/// {"features": [...]} with keys in the reference's order; write it with dump(4). Throws ConfigError for a kind that is
/// not supported yet.
nlohmann::ordered_json FgJson(const tzrec::protos::EasyRecConfig& config, const FgJsonOptions& options = {});

}  // namespace anneal::features
