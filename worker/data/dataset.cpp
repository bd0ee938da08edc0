#include "worker/data/dataset.h"

#include "worker/config/error.h"
#include "worker/data/csv_dataset.h"
#include "worker/data/parquet_dataset.h"

namespace anneal::data {

std::unique_ptr<Dataset> OpenDataset(const tzrec::protos::DataConfig& config, const DatasetOptions& options) {
  switch (config.dataset_type()) {
    case tzrec::protos::ParquetDataset:
      return std::make_unique<ParquetDataset>(options);
    case tzrec::protos::CsvDataset:
      return std::make_unique<CsvDataset>(config, options);
    default:
      throw ConfigError("data_config.dataset_type " + tzrec::protos::DatasetType_Name(config.dataset_type()) +
                        " is not supported yet (supported: ParquetDataset, CsvDataset)");
  }
}

}  // namespace anneal::data
