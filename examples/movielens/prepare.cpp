// anneal-movielens-prepare: MovieLens-100k (as recbole packs it) or a synthetic stand-in -> train, eval, test Parquet.
//
// Rows: label = rating >= 4; a seeded random split of 80/10/10. No feature is computed from labels, so nothing leaks.
#include <arrow/builder.h>
#include <arrow/io/file.h>
#include <arrow/table.h>
#include <parquet/arrow/writer.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <random>

#include "worker/config/error.h"
#include "worker/data/synthetic.h"

namespace {

namespace fs = std::filesystem;
using anneal::DataError;

/// A recbole atomic file: a header "name:type<TAB>name:type...", then tab separated rows.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path) : path_(path), in_(path) {
    if (!in_) throw DataError("cannot read " + path);
    std::string header;
    std::getline(in_, header);
    for (const std::string& column : Split(header)) columns_.push_back(column.substr(0, column.find(':')));
  }

  /// The next row by column name; nullopt at the end.
  std::optional<std::map<std::string, std::string>> Next() {
    std::string line;
    if (!std::getline(in_, line)) return std::nullopt;
    ++line_;
    const auto cells = Split(line);
    if (cells.size() != columns_.size()) Fail("has " + std::to_string(cells.size()) + " columns, the header " + std::to_string(columns_.size()));
    std::map<std::string, std::string> row;
    for (size_t i = 0; i < cells.size(); ++i) row[columns_[i]] = cells[i];
    return row;
  }

  /// A whole number of the row just read; nullopt when the cell holds none.
  static std::optional<int64_t> Number(const std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end) return std::nullopt;
    return static_cast<int64_t>(value);
  }

  [[noreturn]] void Fail(const std::string& what) const { throw DataError(path_ + ":" + std::to_string(line_) + ": " + what); }

 private:
  static std::vector<std::string> Split(std::string line) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    std::vector<std::string> cells(1);
    for (const char c : line) {
      if (c == '\t') {
        cells.emplace_back();
      } else {
        cells.back() += c;
      }
    }
    return cells;
  }

  std::string path_;
  std::ifstream in_;
  std::vector<std::string> columns_;
  int64_t line_ = 1;
};

struct Row {
  std::string user, item;
  int64_t hour = 0, label = 0;
};

using Facts = std::map<std::string, std::map<std::string, std::string>>;

Facts ReadFacts(const std::string& path, const std::string& id) {
  Facts facts;
  AtomicFile file(path);
  while (auto row = file.Next()) {
    if (!row->count(id)) file.Fail("there is no column " + id);
    facts[row->at(id)] = *row;
  }
  return facts;
}

std::vector<Row> ReadRatings(const std::string& path) {
  std::vector<Row> rows;
  AtomicFile file(path);
  while (auto row = file.Next()) {
    const auto rating = AtomicFile::Number((*row)["rating"]), time = AtomicFile::Number((*row)["timestamp"]);
    if (!rating || !time) file.Fail("rating or timestamp is not a number");
    rows.push_back({(*row)["user_id"], (*row)["item_id"], *time / 3600 % 24, *rating >= 4});
  }
  return rows;
}

void Check(const arrow::Status& status, const std::string& what) {
  if (!status.ok()) throw anneal::TemporaryError(what + ": " + status.ToString());
}

/// Writes rows [begin, end) whole or not at all.
void Write(const std::string& path, const std::vector<Row>& rows, size_t begin, size_t end, const Facts& users, const Facts& items) {
  arrow::StringBuilder user, item, gender, occupation, zip, genres;
  arrow::Int64Builder age, year, hour, label;
  auto text = [](const Facts& facts, const std::string& id, const char* column) {
    const auto found = facts.find(id);
    return found == facts.end() || !found->second.count(column) ? std::string() : found->second.at(column);
  };
  auto number = [&](arrow::Int64Builder& builder, const std::string& cell) {
    const auto value = AtomicFile::Number(cell);
    Check(value ? builder.Append(*value) : builder.AppendNull(), path);
  };
  for (size_t i = begin; i < end; ++i) {
    const Row& row = rows[i];
    Check(user.Append(row.user), path);
    Check(item.Append(row.item), path);
    Check(gender.Append(text(users, row.user, "gender")), path);
    Check(occupation.Append(text(users, row.user, "occupation")), path);
    Check(zip.Append(text(users, row.user, "zip_code").substr(0, 2)), path);
    std::string classes = text(items, row.item, "class");
    for (char& c : classes) c = c == ' ' ? '\x1d' : c;
    Check(genres.Append(classes), path);
    number(age, text(users, row.user, "age"));
    number(year, text(items, row.item, "release_year"));
    Check(hour.Append(row.hour), path);
    Check(label.Append(row.label), path);
  }
  std::vector<std::shared_ptr<arrow::Array>> columns;
  std::vector<std::shared_ptr<arrow::Field>> fields;
  auto add = [&](const char* name, arrow::ArrayBuilder& builder) {
    std::shared_ptr<arrow::Array> column;
    Check(builder.Finish(&column), path);
    fields.push_back(arrow::field(name, column->type()));
    columns.push_back(column);
  };
  add("user_id", user), add("item_id", item), add("gender", gender), add("age", age), add("occupation", occupation);
  add("zip", zip), add("genres", genres), add("release_year", year), add("hour", hour), add("label", label);
  const auto table = arrow::Table::Make(arrow::schema(fields), columns);
  const std::string temporary = path + ".tmp";
  auto out = arrow::io::FileOutputStream::Open(temporary);
  Check(out.status(), path);
  Check(parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), *out, 8192), path);
  Check((*out)->Close(), path);
  fs::rename(temporary, path);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Makes the demo's data: MovieLens-100k, or a synthetic stand-in with a known best AUC."};
  std::string source, out = ".";
  uint64_t seed = 2026;
  int64_t synthetic_rows = 0;
  app.add_option("--source", source, "folder with ml-100k.inter, ml-100k.item, ml-100k.user");
  app.add_option("--out", out, "folder for train.parquet, eval.parquet, test.parquet")->capture_default_str();
  app.add_option("--seed", seed, "of the split")->capture_default_str();
  app.add_option("--synthetic", synthetic_rows, "make so many synthetic rows instead");
  CLI11_PARSE(app, argc, argv);
  try {
    fs::create_directories(out);
    if (synthetic_rows > 0) {
      const double best = anneal::data::WriteSyntheticRatings(out, seed, synthetic_rows);
      std::cout << "synthetic data: " << synthetic_rows << " rows; no model can expect a test AUC above " << best << "\n";
      return 0;
    }
    const Facts users = ReadFacts(source + "/ml-100k.user", "user_id"), items = ReadFacts(source + "/ml-100k.item", "item_id");
    std::vector<Row> rows = ReadRatings(source + "/ml-100k.inter");
    // Fisher-Yates on raw draws: the same split with any standard library.
    std::mt19937_64 random(seed);
    for (size_t i = rows.size(); i > 1; --i) std::swap(rows[i - 1], rows[random() % i]);
    const size_t train = rows.size() * 8 / 10, eval = rows.size() * 9 / 10;
    Write(out + "/train.parquet", rows, 0, train, users, items);
    Write(out + "/eval.parquet", rows, train, eval, users, items);
    Write(out + "/test.parquet", rows, eval, rows.size(), users, items);
    std::cout << "MovieLens-100k: " << rows.size() << " ratings of " << users.size() << " users and " << items.size() << " items\n";
    return 0;
  } catch (const anneal::Error& error) {
    std::cerr << "anneal-movielens-prepare: " << error.what() << "\n";
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    std::cerr << "anneal-movielens-prepare: " << error.what() << "\n";
    return 1;
  }
}
