#include "worker/export/verify.h"

#include <ATen/ATen.h>

#include <limits>

#include "worker/export/scripted_model.h"

namespace anneal::exporting {

VerifyReport Verify(eval::TrainedModel& model, const std::string& folder, data::BatchStream& stream, int64_t batches) {
  const ScriptedModel exported(folder);
  VerifyReport report;
  while (report.batches < batches) {
    auto batch = stream.Next();
    if (!batch) break;
    const auto expected = model.Predict(*batch);
    const auto got = exported.Predict(*batch, model.features());
    for (const auto& [name, value] : expected.values) {
      const double difference = (got.at(name) - value).abs().max().item<double>();
      // A NaN on one side only compares as no difference at all: it is the largest one.
      const bool nan = at::isnan(got.at(name)).ne(at::isnan(value)).any().item<bool>();
      report.max_abs_diff = std::max(report.max_abs_diff, nan ? std::numeric_limits<double>::infinity() : difference);
    }
    ++report.batches;
    report.rows += batch->rows;
    stream.Recycle(std::move(batch));
  }
  return report;
}

}  // namespace anneal::exporting
