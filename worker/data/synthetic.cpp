#include "worker/data/synthetic.h"

#include <arrow/builder.h>
#include <arrow/io/file.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <parquet/arrow/writer.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <random>
#include <vector>

#include "worker/config/error.h"

namespace anneal::data {
namespace {

constexpr int kFactors = 4;
constexpr std::array<const char*, 10> kGenres = {"Action", "Adventure", "Animation", "Comedy", "Crime",
                                                 "Drama",  "Fantasy",   "Romance",   "Sci-Fi", "Thriller"};
constexpr std::array<const char*, 8> kOccupations = {"artist", "doctor",  "engineer", "lawyer",
                                                     "other",  "retired", "student",  "writer"};

/// Numbers from raw 64-bit draws, so that the files do not depend on the standard library's distributions.
class Random {
 public:
  explicit Random(uint64_t seed) : bits_(seed) {}
  double Uniform() { return static_cast<double>(bits_() >> 11) * 0x1p-53; }  // [0, 1)
  int64_t Below(int64_t n) { return static_cast<int64_t>(Uniform() * static_cast<double>(n)); }
  double Normal() {
    const double radius = std::sqrt(-2 * std::log(1 - Uniform()));
    return radius * std::cos(2 * M_PI * Uniform());
  }
  /// Small numbers are likelier: the popular users and items.
  int64_t LongTail(int64_t n) { return static_cast<int64_t>(std::pow(Uniform(), 2.0) * static_cast<double>(n)); }

 private:
  std::mt19937_64 bits_;
};

struct User {
  int gender, occupation;
  int64_t age, zip;
  double strength;
  std::array<double, kFactors> factors;
};

struct Item {
  std::vector<int> genres;
  int64_t year;
  double strength;
  std::array<double, kFactors> factors;
};

std::array<double, kFactors> Factors(Random& random) {
  std::array<double, kFactors> factors;
  for (double& factor : factors) factor = random.Normal();
  return factors;
}

struct World {
  std::vector<User> users;
  std::vector<Item> items;
  std::array<std::array<double, kGenres.size()>, 2> gender_genre;

  World(Random& random, int64_t rows) {
    users.resize(std::clamp<int64_t>(rows / 100, 20, 50000));
    for (User& user : users) {
      user = {static_cast<int>(random.Below(2)),
              static_cast<int>(random.Below(kOccupations.size())),
              10 + random.Below(60),
              random.Below(100),
              0.7 * random.Normal(),
              Factors(random)};
    }
    items.resize(std::clamp<int64_t>(rows / 60, 30, 50000));
    for (Item& item : items) {
      item.year = 1950 + random.Below(50);
      item.strength = 0.7 * random.Normal();
      item.factors = Factors(random);
      const int64_t genres = 1 + random.Below(3);
      for (int64_t i = 0; i < genres; ++i) {
        const int genre = static_cast<int>(random.Below(kGenres.size()));
        if (std::find(item.genres.begin(), item.genres.end(), genre) == item.genres.end()) item.genres.push_back(genre);
      }
    }
    for (auto& genres : gender_genre) {
      for (double& effect : genres) effect = 0.8 * random.Normal();
    }
  }

  double Probability(const User& user, const Item& item, int64_t hour) const {
    double z = user.strength + item.strength;
    for (int i = 0; i < kFactors; ++i) z += 0.5 * user.factors[i] * item.factors[i];
    for (const int genre : item.genres) {
      z += gender_genre[user.gender][genre] / static_cast<double>(item.genres.size());
    }
    z += 0.02 * static_cast<double>(user.age - 40) + (hour >= 18 ? 0.4 : -0.1);
    return 1 / (1 + std::exp(-z));
  }
};

void Check(const std::string& path, const arrow::Status& status) {
  if (!status.ok()) throw TemporaryError(path + ": " + status.message());
}

/// The columns of one file.
class RatingTable {
 public:
  void Append(const World& world, int64_t user_id, int64_t item_id, int64_t hour, int64_t label) {
    const User& user = world.users[user_id];
    const Item& item = world.items[item_id];
    std::string genres;
    for (const int genre : item.genres) genres += (genres.empty() ? "" : "\x1d") + std::string(kGenres[genre]);
    Add(user_id_.Append("u" + std::to_string(user_id)));
    Add(item_id_.Append("i" + std::to_string(item_id)));
    Add(gender_.Append(user.gender == 0 ? "F" : "M"));
    Add(age_.Append(user.age));
    Add(occupation_.Append(kOccupations[user.occupation]));
    Add(zip_.Append(std::to_string(user.zip)));
    Add(genres_.Append(genres));
    Add(release_year_.Append(item.year));
    Add(hour_.Append(hour));
    Add(label_.Append(label));
  }

  void Write(const std::string& path) {
    const std::vector<std::pair<const char*, arrow::ArrayBuilder*>> columns = {
        {"user_id", &user_id_}, {"item_id", &item_id_},           {"gender", &gender_},
        {"age", &age_},         {"occupation", &occupation_},     {"zip", &zip_},
        {"genres", &genres_},   {"release_year", &release_year_}, {"hour", &hour_},
        {"label", &label_}};
    arrow::FieldVector fields;
    arrow::ArrayVector arrays;
    for (const auto& [name, builder] : columns) {
      std::shared_ptr<arrow::Array> array;
      Add(builder->Finish(&array));
      fields.push_back(arrow::field(name, array->type()));
      arrays.push_back(std::move(array));
    }
    auto file = arrow::io::FileOutputStream::Open(path);
    Check(path, file.status());
    constexpr int64_t kRowGroup = 1 << 16;
    Check(path, parquet::arrow::WriteTable(*arrow::Table::Make(arrow::schema(fields), arrays),
                                           arrow::default_memory_pool(), *file, kRowGroup));
    Check(path, (*file)->Close());
  }

 private:
  static void Add(const arrow::Status& status) { Check("synthetic ratings", status); }

  arrow::StringBuilder user_id_, item_id_, gender_, occupation_, zip_, genres_;
  arrow::Int64Builder age_, release_year_, hour_, label_;
};

/// Area under the ROC curve; equal scores count half.
double Auc(std::vector<std::pair<double, int64_t>> scored) {
  std::sort(scored.begin(), scored.end());
  double positives = 0, negatives = 0, pairs = 0;
  for (size_t i = 0; i < scored.size();) {
    double tied_positives = 0, tied_negatives = 0;
    const double score = scored[i].first;
    for (; i < scored.size() && scored[i].first == score; ++i) {
      (scored[i].second == 1 ? tied_positives : tied_negatives) += 1;
    }
    pairs += tied_positives * (negatives + tied_negatives / 2);
    positives += tied_positives;
    negatives += tied_negatives;
  }
  return positives == 0 || negatives == 0 ? 0.5 : pairs / (positives * negatives);
}

}  // namespace

double WriteSyntheticRatings(const std::string& directory, uint64_t seed, int64_t rows) {
  if (rows < 100) throw ConfigError("synthetic ratings: " + std::to_string(rows) + " rows are fewer than 100");
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) throw ConfigError("synthetic ratings: folder " + directory + " cannot be made: " + error.message());
  Random random(seed);
  const World world(random, rows);
  const int64_t tenth = rows / 10;
  const struct {
    const char* name;
    int64_t rows;
  } kFiles[] = {{"train.parquet", rows - 2 * tenth}, {"eval.parquet", tenth}, {"test.parquet", tenth}};
  std::vector<std::pair<double, int64_t>> scored;  // of the file written last: test
  for (const auto& file : kFiles) {
    RatingTable table;
    scored.clear();
    for (int64_t i = 0; i < file.rows; ++i) {
      const int64_t user = random.LongTail(static_cast<int64_t>(world.users.size()));
      const int64_t item = random.LongTail(static_cast<int64_t>(world.items.size()));
      const int64_t hour = random.Below(24);
      const double probability = world.Probability(world.users[user], world.items[item], hour);
      const int64_t label = random.Uniform() < probability ? 1 : 0;
      table.Append(world, user, item, hour, label);
      scored.emplace_back(probability, label);
    }
    table.Write(directory + "/" + file.name);
  }
  return Auc(std::move(scored));
}

}  // namespace anneal::data
