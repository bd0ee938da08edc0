// Which losses and metrics a prediction head may have (parity/models.md 6-8).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "tzrec/loss.pb.h"
#include "tzrec/metric.pb.h"

namespace anneal::config {

/// The fields of model_config or of a task tower.
struct HeadFields {
  const google::protobuf::RepeatedPtrField<tzrec::protos::LossConfig>& losses;
  const google::protobuf::RepeatedPtrField<tzrec::protos::MetricConfig>& metrics;
  const google::protobuf::RepeatedPtrField<tzrec::protos::TrainMetricConfig>& train_metrics;
  uint32_t num_class;
  std::string path;  ///< "model_config", "model_config.mmoe.task_towers[0]"
};

/// Calls fail(path, message) for every fault. `sparse_fault`: why a name is no sparse feature; empty when it is one.
void CheckHead(const HeadFields& head, const std::function<void(const std::string&, const std::string&)>& fail,
               const std::function<std::string(const std::string&)>& sparse_fault);

/// Likewise for what train_metrics have beside their metric.
void CheckDecay(const tzrec::protos::TrainMetricConfig& metric, const std::string& path,
                const std::function<void(const std::string&, const std::string&)>& fail);

}  // namespace anneal::config
