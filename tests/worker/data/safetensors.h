// Reads the tensors of the golden files.
#pragma once

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace anneal::data {

class SafeTensors {
 public:
  explicit SafeTensors(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot open " + path);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    uint64_t header = 0;
    std::memcpy(&header, bytes_.data(), sizeof header);
    header_ = nlohmann::json::parse(bytes_.substr(8, header));
    data_ = 8 + header;
  }

  bool Has(const std::string& name) const { return header_.contains(name); }
  std::vector<int64_t> Ints(const std::string& name) const {
    if (header_.at(name)["dtype"] != "I32") return Values<int64_t>(name, "I64");
    const std::vector<int32_t> narrow = Values<int32_t>(name, "I32");
    return {narrow.begin(), narrow.end()};
  }
  std::vector<float> Floats(const std::string& name) const { return Values<float>(name, "F32"); }

 private:
  template <typename T>
  std::vector<T> Values(const std::string& name, const std::string& dtype) const {
    const auto& entry = header_.at(name);
    if (entry["dtype"] != dtype) throw std::runtime_error(name + " is no " + dtype);
    const size_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    std::vector<T> values((end - begin) / sizeof(T));
    std::memcpy(values.data(), bytes_.data() + data_ + begin, end - begin);
    return values;
  }

  std::string bytes_;
  nlohmann::json header_;
  size_t data_ = 0;
};

}  // namespace anneal::data
