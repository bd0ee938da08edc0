// Histograms as torch.utils.tensorboard's add_histogram makes them (bins "tensorflow").
#pragma once

#include <span>
#include <vector>

namespace anneal::train {

struct Histogram {
  double min = 0, max = 0, sum = 0, sum_of_squares = 0;
  double count = 0;
  std::vector<double> limits;  ///< right edges of the buckets
  std::vector<double> counts;  ///< values per bucket
};

/// Edges grow by 10 % from 1e-12 to 1e20 on both sides of 0; leading and trailing empty buckets are left out but one
/// before the first value. Values that are not finite are not counted.
Histogram MakeHistogram(std::span<const float> values);

}  // namespace anneal::train
