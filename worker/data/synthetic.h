// A made-up data set with a known answer: what `make demo --synthetic` trains on when nothing may be downloaded.
#pragma once

#include <cstdint>
#include <string>

namespace anneal::data {

/// Writes train.parquet (80 % of `rows`), eval.parquet and test.parquet (10 % each) into `directory`, columns as those
/// of the MovieLens demo:
///
///     user_id, item_id, gender, occupation, zip   string      age, release_year, hour   int64
///     genres   string, several separated by 0x1D              label                      int64, 0 or 1
///
/// A label is drawn with probability sigmoid(z), z a sum of a user's and an item's own strength, tastes (the dot
/// product of four hidden factors), an effect of gender x genre, of age and of the hour. Users and items are drawn with
/// a long tail. The same seed and rows give the same files.
///
/// Returns the best AUC that any model can expect on test.parquet: that of the true probabilities. Throws ConfigError
/// for fewer than 100 rows, TemporaryError when writing fails.
double WriteSyntheticRatings(const std::string& directory, uint64_t seed, int64_t rows);

}  // namespace anneal::data
