#include "worker/features/derived/feature_value.h"

#include "worker/features/dense_value.h"
#include "worker/features/number_text.h"

namespace anneal::features {
namespace {

using tzrec::protos::IdFeature;
using tzrec::protos::RawFeature;

std::vector<InputColumn> One(InputColumn input) {
  std::vector<InputColumn> inputs;
  inputs.push_back(std::move(input));
  return inputs;
}

class FeatureValue : public Derivation {
 public:
  FeatureValue(const Feature& feature, InputColumn input, std::shared_ptr<arrow::DataType> value)
      : Derivation(feature, One(std::move(input)), std::move(value)) {}

 protected:
  /// Calls put(position) for the values of every cell that are kept, put_default() for a cell or row without any.
  template <typename Column, typename Put, typename PutDefault>
  void EachValue(const DerivationRows& rows, const Cells& cells, Column& out, Put&& put,
                 PutDefault&& put_default) const {
    for (int64_t row = 0; row < rows.slice.count; ++row) {
      const int64_t elements = cells.sequence() ? cells.Elements(row) : 1;
      for (int64_t element = 0; element < elements; ++element) {
        const CellRange range = cells[cells.At(row, element)];
        const int64_t end = range.begin + std::min(range.size(), most_);
        for (int64_t at = range.begin; at < end; ++at) put(at);
        if (range.size() == 0) put_default();
        out.EndCell();
      }
      if (elements == 0) {
        put_default();
        out.EndCell();
      }
      out.EndRow();
    }
  }
};

class TextValue : public FeatureValue {
 public:
  TextValue(const IdFeature& config, const Feature& feature, InputColumn input)
      : FeatureValue(feature, std::move(input), arrow::utf8()), weighted_(config.weighted()) {
    CheckTexts(inputs_[0]);
    SplitText(config.default_value(), inputs_[0].separator, [&](std::string_view part) {
      if (!part.empty()) defaults_.emplace_back(WithoutWeight(part));
      return true;
    });
  }

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    const TextInput input = ReadTexts(inputs_[0], rows);
    TextColumn out(sequence_);
    EachValue(
        rows, input, out, [&](int64_t at) { out.Put(WithoutWeight(input.texts[at])); },
        [&] {
          for (const std::string& text : defaults_) out.Put(text);
        });
    return out.Finish();
  }

 private:
  std::string_view WithoutWeight(std::string_view text) const {
    return weighted_ ? text.substr(0, text.rfind(':')) : text;
  }

  const bool weighted_;
  std::vector<std::string> defaults_;
};

class NumberValue : public FeatureValue {
 public:
  NumberValue(const RawFeature& config, const Feature& feature, InputColumn input)
      : FeatureValue(feature, std::move(input), arrow::float32()),
        normalizer_(Normalizer::FromText(config.normalizer(), feature.name)) {
    CheckNumbers(inputs_[0]);
    if (config.default_value().empty() && feature.sparse) return;
    DenseValue value;
    value.dim = std::max<int64_t>(feature.value_dim, 1);
    value.separator = inputs_[0].separator;
    value.SetDefaults(config.default_value().empty() ? "0" : config.default_value(), feature.name);
    defaults_ = value.defaults;
  }

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    const NumberInput input = ReadNumbers(inputs_[0], rows);
    NumberColumn<float> out(sequence_);
    EachValue(
        rows, input, out, [&](int64_t at) { out.Put(normalizer_(static_cast<float>(input.numbers[at]))); },
        [&] {
          for (const float number : defaults_) out.Put(number);
        });
    return out.Finish();
  }

 private:
  const Normalizer normalizer_;
  std::vector<float> defaults_;
};

}  // namespace

std::unique_ptr<Derivation> MakeFeatureValue(const config::Encoding& encoding, const Feature& feature,
                                             InputColumn input) {
  if (const auto* id = std::get_if<IdFeature>(&encoding)) {
    return std::make_unique<TextValue>(*id, feature, std::move(input));
  }
  return std::make_unique<NumberValue>(std::get<RawFeature>(encoding), feature, std::move(input));
}

}  // namespace anneal::features
