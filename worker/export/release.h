// A checked export on its way out: where to, and what the manifest says of it.
#pragma once

#include <string>

#include "worker/io/publish.h"

namespace anneal::exporting {

using io::Destination;

/// Publishes a folder that `anneal export` made. The manifest gets step, format, metrics, max_abs_diff and
/// config_sha256 (of pipeline.config) of its export_report.json, and the torch version. Throws ConfigError for a folder
/// without a passed report: what was not checked is not published.
io::Published Release(const std::string& folder, io::ObjectStore& store);

/// `anneal publish`: Release of a folder, e.g. after an upload that failed.
int RunPublish(const std::string& folder, const Destination& destination);

}  // namespace anneal::exporting
