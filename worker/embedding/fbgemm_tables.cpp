// The operators' arguments and their order are those of FBGEMM 1.6.0's own callers
// (fbgemm_gpu/split_embedding_codegen_lookup_invokers); the version is pinned in cmake/deps/pins.json.
//
// One operator call serves the tables of one pooling that are all trained or all frozen. Forward keeps the call's
// output with its autograd graph; BackwardUpdate sends the gradient through it, which updates weights and state.
#include "worker/embedding/fbgemm_tables.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <stdexcept>

#include "worker/config/error.h"
#include "worker/dist/device_copy.h"
#include "worker/nn/parallel.h"

namespace anneal::embedding {
namespace {

namespace fs = std::filesystem;

/// Loads every library of the folder. They need each other, so those that fail are tried again after the others.
void LoadFbgemm() {
  static const bool loaded = [] {
    const char* text = std::getenv("ANNEAL_FBGEMM");
    const fs::path folder = text && *text ? text : ANNEAL_FBGEMM_FOLDER;
    std::set<fs::path> waiting;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      if (entry.path().extension() == ".so") waiting.insert(entry.path());
    }
    if (waiting.empty()) {
      throw ConfigError("FBGEMM's libraries are not in " + folder.string() + " (environment variable ANNEAL_FBGEMM)");
    }
    ::dlopen("libtorch.so", RTLD_NOW | RTLD_GLOBAL);  // asked for by name; the empty one on this program's library path
    std::string why;
    for (bool progress = true; progress && !waiting.empty();) {
      progress = false;
      for (auto library = waiting.begin(); library != waiting.end();) {
        if (::dlopen(library->c_str(), RTLD_NOW | RTLD_GLOBAL)) {
          library = waiting.erase(library);
          progress = true;
        } else {
          why = ::dlerror();
          ++library;
        }
      }
    }
    if (!c10::Dispatcher::singleton().findSchema({"fbgemm::split_embedding_codegen_lookup_sgd_function_pt2", ""})) {
      throw ConfigError("FBGEMM's libraries in " + folder.string() + " could not be loaded: " + why);
    }
    return true;
  }();
  (void)loaded;
}

/// An optimizer as FBGEMM names it, with its own arguments.
struct Operator {
  std::string name;
  std::vector<double> floats;
  std::vector<int64_t> ints;
  int64_t state1 = 0, state2 = 0;  ///< values per row: 0, 1, or kPerColumn
};
constexpr int64_t kPerColumn = -1;

Operator OperatorOf(const OptimizerSpec& o) {
  const double eps = o.eps, beta1 = o.beta1, beta2 = o.beta2, decay = o.weight_decay;
  switch (o.type) {
    case OptimizerType::kSgd:
      return {"sgd", {}, {}, 0, 0};
    case OptimizerType::kAdagrad:
      return {"adagrad", {eps}, {}, kPerColumn, 0};
    case OptimizerType::kRowwiseAdagrad:
      return {"rowwise_adagrad", {eps, decay, 0.0}, {static_cast<int64_t>(o.weight_decay_mode)}, 1, 0};
    case OptimizerType::kAdam:
      return {"adam", {eps, beta1, beta2, decay}, {}, kPerColumn, kPerColumn};
    case OptimizerType::kPartialRowwiseAdam:
      return {"partial_rowwise_adam", {eps, beta1, beta2, decay}, {}, kPerColumn, 1};
    case OptimizerType::kLamb:
      return {"lamb", {eps, beta1, beta2, decay}, {}, kPerColumn, kPerColumn};
    case OptimizerType::kPartialRowwiseLamb:
      return {"partial_rowwise_lamb", {eps, beta1, beta2, decay}, {}, kPerColumn, 1};
    case OptimizerType::kLarsSgd:
      return {"lars_sgd", {o.eta, o.momentum, decay}, {}, kPerColumn, 0};
    case OptimizerType::kAdadelta:
    case OptimizerType::kRmsprop:
      break;
  }
  throw ConfigError(
      "train_config.sparse_optimizer: FBGEMM, which holds the tables on CUDA devices, has no Adadelta and no "
      "RMSprop");
}

/// Calls an operator with arguments by their names in its schema; those not given take the schema's default.
at::Tensor Call(const std::string& name, const std::map<std::string, c10::IValue>& arguments) {
  const auto op = c10::Dispatcher::singleton().findSchema({name, ""});
  if (!op) throw ConfigError("this build of FBGEMM has no operator " + name);
  torch::jit::Stack stack;
  for (const auto& argument : op->schema().arguments()) {
    const auto given = arguments.find(argument.name());
    if (given != arguments.end()) {
      stack.push_back(given->second);
    } else {
      stack.push_back(argument.default_value().value_or(c10::IValue()));
    }
  }
  op->callBoxed(&stack);
  return stack.front().toTensor();
}

c10::IValue Tensors(const std::vector<at::Tensor>& tensors) { return c10::List<at::Tensor>(tensors); }
c10::IValue NoTensors(size_t count) {
  c10::List<std::optional<at::Tensor>> list;
  for (size_t i = 0; i < count; ++i) list.push_back(std::nullopt);
  return list;
}

class FbgemmTableBatch : public TableBatch {
 public:
  FbgemmTableBatch(std::vector<TableSpec> tables, std::vector<FeatureSpec> features, const OptimizerSpec& optimizer,
                   at::Device device)
      : specs_(std::move(tables)),
        features_(std::move(features)),
        optimizer_(optimizer),
        operator_(OperatorOf(optimizer)),
        device_(device),
        copy_(device),
        place_(specs_.size()) {
    LoadFbgemm();
    for (const auto& spec : specs_) {
      if (device_.is_cuda() && spec.dim % 4 != 0) {
        throw ConfigError("embedding table '" + spec.name + "': " + std::to_string(spec.dim) +
                          " columns; on CUDA devices a multiple of 4 is needed");
      }
    }
    set_learning_rate(0);
    for (const Pooling pooling : {Pooling::kSum, Pooling::kMean}) {
      for (const bool trainable : {true, false}) MakeGroup(pooling, trainable);
    }
    // A table that nothing looks up here still holds its rows.
    for (size_t t = 0; t < specs_.size(); ++t) {
      if (place_[t].group < 0) MakeGroup({static_cast<int>(t)}, {}, Pooling::kSum, specs_[t].trainable);
    }
  }

  std::span<const TableSpec> tables() const override { return specs_; }
  std::span<const FeatureSpec> features() const override { return features_; }

  // The operators read the tensor in Forward. A new one each time: the graph of the step before may hold the old one.
  void set_learning_rate(float rate) override { rate_ = at::full({1}, rate, at::kFloat); }

  void Forward(std::span<const Jagged> jagged, int64_t rows, float* out, int64_t out_stride) override {
    for (Group& group : groups_) group.output.reset();
    if (groups_.empty() || rows == 0) return;  // without rows there may be no offsets either
    at::Tensor target = Matrix(out, rows, out_stride);
    for (Group& group : groups_) {
      if (group.features.empty()) continue;
      TakeInput(group, jagged, rows);
      {
        const c10::AutoGradMode gradients(c10::GradMode::is_enabled() && group.trainable);
        group.output = Lookup(group);
      }
      const c10::AutoGradMode no_gradients(false);
      int64_t column = 0;
      for (const Run& run : group.runs) {
        target.narrow(1, run.column, run.width).copy_(group.output.narrow(1, column, run.width));
        column += run.width;
      }
    }
  }

  void BackwardUpdate(std::span<const Jagged>, int64_t rows, const float* grad, int64_t grad_stride, float grad_scale,
                      float lr, const AddOverColumnShards&) override {
    ++iteration_;
    if (groups_.empty() || rows == 0) return;
    if (lr != rate_.item<float>()) throw std::logic_error("set_learning_rate was not called before Forward");
    const at::Tensor source = Matrix(const_cast<float*>(grad), rows, grad_stride);
    for (Group& group : groups_) {
      if (!group.trainable || !group.output.defined()) continue;
      at::Tensor gradient = Columns(group, source);
      if (grad_scale != 1.0f) gradient = gradient * grad_scale;
      group.output.backward(gradient);
      group.output.reset();
    }
  }

  void AccumulateGradients(std::span<const Jagged> jagged, int64_t rows, const float* grad, int64_t grad_stride,
                           std::span<float* const> out) override {
    const c10::AutoGradMode no_gradients(false);
    if (groups_.empty() || rows == 0) return;
    const at::Tensor source = Matrix(const_cast<float*>(grad), rows, grad_stride);
    for (Group& group : groups_) {
      for (size_t i = 0; i < group.features.size(); ++i) {
        const FeatureSpec& feature = features_[group.features[i]];
        const TableSpec& table = specs_[feature.table];
        if (!out[feature.table] || table.rows == 0) continue;
        const Jagged& ids = jagged[group.features[i]];
        const int64_t first = group.first_id[i], count = ids.offsets[rows] - ids.offsets[0];
        const at::Tensor offsets = group.offsets.narrow(0, static_cast<int64_t>(i) * rows, rows + 1);
        const at::Tensor lengths = offsets.slice(0, 1) - offsets.slice(0, 0, -1);
        at::Tensor of_bag = source.narrow(1, feature.out_column, table.dim);
        if (feature.pooling == Pooling::kMean) of_bag = of_bag / lengths.clamp_min(1).unsqueeze(1);
        at::Tensor of_id = of_bag.repeat_interleave(lengths, 0, count);
        if (group.id_weights.defined()) of_id = of_id * group.id_weights.narrow(0, first, count).unsqueeze(1);
        at::Tensor target = at::from_blob(out[feature.table], {table.rows, table.dim}, Options());
        target.index_add_(0, group.ids.narrow(0, first, count), of_id);
      }
    }
  }

  float* weights(int table) override {
    const Place& place = place_[table];
    return groups_[place.group].weights.data_ptr<float>() + place.element;
  }

  std::vector<StateView> state(int table) override {
    const Place& place = place_[table];
    const TableSpec& spec = specs_[table];
    std::vector<StateView> views;
    auto add = [&](const char* name, int64_t per_row, at::Tensor& values) {
      if (per_row == 0) return;
      views.push_back({name, values.data_ptr<float>() + (per_row == 1 ? place.row : place.element), spec.rows,
                       per_row == 1 ? 0 : spec.dim});
    };
    add("momentum1", operator_.state1, groups_[place.group].state1);
    add("exp_avg_sq", operator_.state2, groups_[place.group].state2);
    return views;
  }

  int64_t iteration() const override { return iteration_; }
  void set_iteration(int64_t iteration) override { iteration_ = iteration; }
  int64_t out_of_range() const override { return out_of_range_; }

 private:
  /// Columns of a group's output that lie side by side in the caller's matrix, too.
  struct Run {
    int64_t column = 0, width = 0;
  };
  struct Group {
    Pooling pooling = Pooling::kSum;
    bool trainable = true, mixed_dims = false;
    std::vector<int> features;
    std::vector<Run> runs;
    at::Tensor weights, state1, state2;  ///< of all tables, one after the other
    at::Tensor placements, weight_offsets, row_offsets, column_offsets, hash_size_cumsum;
    int64_t columns = 0, widest = 0, hash_bits = 0;
    // The input and the output of the last Forward.
    at::Tensor ids, offsets, id_weights, output;
    std::vector<int64_t> first_id;  ///< per feature, in `ids`
  };
  /// Where a table lies in its group.
  struct Place {
    int group = -1;
    int64_t row = 0, element = 0;
  };

  at::TensorOptions Options(at::ScalarType type = at::kFloat) const {
    return at::TensorOptions().device(device_).dtype(type);
  }
  at::Tensor Matrix(float* data, int64_t rows, int64_t stride) const {
    return at::from_blob(data, {rows, stride}, Options());
  }
  at::Tensor OnDevice(const std::vector<int64_t>& values, at::ScalarType type) const {
    return at::tensor(values, at::kLong).to(Options(type));
  }

  void MakeGroup(Pooling pooling, bool trainable) {
    std::vector<int> tables, features;
    for (size_t f = 0; f < features_.size(); ++f) {
      const int t = features_[f].table;
      if (features_[f].pooling != pooling || specs_[t].trainable != trainable) continue;
      features.push_back(static_cast<int>(f));
      if (std::find(tables.begin(), tables.end(), t) == tables.end()) tables.push_back(t);
    }
    // FBGEMM reads the size of a table from its neighbours: features of one table have to lie side by side.
    const auto place = [&](int f) { return std::find(tables.begin(), tables.end(), features_[f].table); };
    std::stable_sort(features.begin(), features.end(), [&](int a, int b) { return place(a) < place(b); });
    if (!features.empty()) MakeGroup(tables, features, pooling, trainable);
  }

  void MakeGroup(const std::vector<int>& tables, const std::vector<int>& features, Pooling pooling, bool trainable) {
    Group group;
    group.pooling = pooling;
    group.trainable = trainable;
    group.features = features;
    int64_t rows = 0, elements = 0;
    for (const int t : tables) {
      if (place_[t].group >= 0) throw ConfigError("embedding table '" + specs_[t].name + "' is pooled in two ways");
      place_[t] = {static_cast<int>(groups_.size()), rows, elements};
      rows += specs_[t].rows;
      elements += specs_[t].rows * specs_[t].dim;
      group.widest = std::max(group.widest, specs_[t].dim);
      group.mixed_dims = group.mixed_dims || specs_[t].dim != specs_[tables.front()].dim;
    }
    group.weights = at::zeros({elements}, Options()).set_requires_grad(trainable);
    const auto state = [&](int64_t per_row, float value) {
      return at::full({per_row == 0 ? 0 : per_row == 1 ? rows : elements}, value, Options());
    };
    group.state1 = state(operator_.state1, optimizer_.initial_accumulator);
    group.state2 = state(operator_.state2, 0);
    std::vector<int64_t> weight_offsets, row_offsets, column_offsets{0}, hash_sizes;
    for (const int f : features) {
      const FeatureSpec& feature = features_[f];
      const int64_t dim = specs_[feature.table].dim;
      weight_offsets.push_back(place_[feature.table].element);
      row_offsets.push_back(place_[feature.table].row);
      hash_sizes.push_back(place_[feature.table].row);
      group.columns += dim;
      column_offsets.push_back(group.columns);
      if (!group.runs.empty() && group.runs.back().column + group.runs.back().width == feature.out_column) {
        group.runs.back().width += dim;
      } else {
        group.runs.push_back({feature.out_column, dim});
      }
    }
    hash_sizes.push_back(rows);
    constexpr int64_t kDeviceMemory = 0, kHostMemory = 3;  // FBGEMM's EmbeddingLocation
    group.placements = at::full({static_cast<int64_t>(features.size())},
                                device_.is_cuda() ? kDeviceMemory : kHostMemory, Options(at::kInt));
    group.weight_offsets = OnDevice(weight_offsets, at::kLong);
    group.row_offsets = OnDevice(row_offsets, at::kLong);
    group.column_offsets = OnDevice(column_offsets, at::kInt);
    group.hash_size_cumsum = OnDevice(hash_sizes, at::kLong);
    group.hash_bits = rows > 0 ? static_cast<int64_t>(std::log2(static_cast<double>(rows)) + 1) : 0;
    groups_.push_back(std::move(group));
  }

  /// Ids of the group's features, one after the other, those outside their table as row 0.
  void TakeInput(Group& group, std::span<const Jagged> jagged, int64_t rows) {
    int64_t count = 0;
    for (const int f : group.features) count += jagged[f].offsets[rows] - jagged[f].offsets[0];
    const bool weighted = jagged[group.features.front()].weights != nullptr;
    auto ids = copy_.Stage<int64_t>(count);
    auto offsets = copy_.Stage<int64_t>(static_cast<int64_t>(group.features.size()) * rows + 1);
    auto weights = copy_.Stage<float>(weighted ? count : 0);
    group.first_id.clear();
    int64_t next = 0;
    for (const int f : group.features) {
      group.first_id.push_back(next);
      next += jagged[f].offsets[rows] - jagged[f].offsets[0];
    }
    std::atomic<int64_t> outside = 0;
    at::parallel_for(0, static_cast<int64_t>(group.features.size()), 1, [&](int64_t first, int64_t last) {
      int64_t outside_here = 0;
      for (int64_t i = first; i < last; ++i) {
        const Jagged& source = jagged[group.features[i]];
        const auto table_rows = static_cast<uint64_t>(specs_[features_[group.features[i]].table].rows);
        const int64_t begin = source.offsets[0], length = source.offsets[rows] - begin,
                      shift = group.first_id[i] - begin;
        int64_t* const bags = offsets.data + i * rows;
        for (int64_t b = 0; b < rows; ++b) bags[b] = source.offsets[b] + shift;
        const int64_t* const from = source.values + begin;
        int64_t* const to = ids.data + group.first_id[i];
        for (int64_t n = 0; n < length; ++n) {
          const bool inside = static_cast<uint64_t>(from[n]) < table_rows;
          outside_here += !inside;
          to[n] = inside ? from[n] : 0;
        }
        if (weighted) std::copy_n(source.weights + begin, length, weights.data + group.first_id[i]);
      }
      outside += outside_here;
    });
    out_of_range_ += outside;
    offsets.data[group.features.size() * rows] = count;
    group.ids = copy_.Send(ids);
    group.offsets = copy_.Send(offsets);
    group.id_weights = weighted ? copy_.Send(weights) : at::Tensor();
    copy_.Await();
  }

  at::Tensor Columns(const Group& group, const at::Tensor& matrix) const {
    std::vector<at::Tensor> parts;
    for (const Run& run : group.runs) parts.push_back(matrix.narrow(1, run.column, run.width));
    return parts.size() == 1 ? parts.front().contiguous() : at::cat(parts, 1);
  }

  at::Tensor Lookup(Group& group) {
    const at::Tensor none = at::empty({0}, Options()), no_locations = at::empty({0}, Options(at::kInt));
    const auto stored = [&](const at::Tensor& values, const at::Tensor& offsets, bool is_weights) {
      std::vector<at::Tensor> list{values};
      if (device_.is_cuda()) list.push_back(none);  // nothing in unified memory
      list.push_back(group.placements);
      list.push_back(offsets);
      if (is_weights && device_.is_cuda()) list.push_back(at::empty({0, 0}, Options()));  // and no cache for it
      return Tensors(list);
    };
    const auto offsets_of = [&](int64_t per_row) { return per_row == 1 ? group.row_offsets : group.weight_offsets; };
    c10::List<std::optional<at::Tensor>> tensors;  // B_offsets, two of variable batches, cache, its statistics, ...
    for (int i = 0; i < 7; ++i) tensors.push_back(i == 3 ? std::optional(no_locations) : std::nullopt);
    constexpr int64_t kBagBits = 26;  // of a 32-bit number of feature and bag; as FBGEMM's own default
    const bool clip = optimizer_.max_gradient > 0;
    std::map<std::string, c10::IValue> arguments{
        {"placeholder_autograd_tensor", at::zeros({0}, Options()).set_requires_grad(group.trainable)},
        {"weights", stored(group.weights, group.weight_offsets, true)},
        {"D_offsets", group.column_offsets},
        {"total_D", group.columns},
        {"max_D", group.widest},
        {"hash_size_cumsum", group.hash_size_cumsum},
        {"total_hash_size_bits", group.hash_bits},
        {"indices", group.ids},
        {"offsets", group.offsets},
        {"pooling_mode", static_cast<int64_t>(group.pooling == Pooling::kMean)},
        {"output_dtype", int64_t{0}},  // float32
        {"aux_tensor", tensors},
        {"aux_int", c10::List<int64_t>({iteration_ + 1, kBagBits, (int64_t{1} << kBagBits) - 1})},
        {"aux_float", c10::List<double>({0.0, clip ? static_cast<double>(optimizer_.max_gradient) : 1.0})},
        // experimental, unique cache locations, one placement for all, global weight decay, clipping, stochastic
        // rounding, tables of several widths
        {"aux_bool", c10::List<bool>({false, false, true, false, clip, false, group.mixed_dims})},
        {"learning_rate_tensor", rate_},
        {"optim_float", c10::List<double>(c10::ArrayRef<double>(operator_.floats))},
        {"optim_int", c10::List<int64_t>(c10::ArrayRef<int64_t>(operator_.ints))},
        {"optim_bool", c10::List<bool>({false})},
        {"optim_tensor", NoTensors(5)}};
    if (group.id_weights.defined()) arguments["indice_weights"] = group.id_weights;
    if (operator_.state1) arguments["momentum1"] = stored(group.state1, offsets_of(operator_.state1), false);
    if (operator_.state2) arguments["momentum2"] = stored(group.state2, offsets_of(operator_.state2), false);
    return Call("fbgemm::split_embedding_codegen_lookup_" + operator_.name + "_function_pt2", arguments);
  }

  const std::vector<TableSpec> specs_;
  const std::vector<FeatureSpec> features_;
  const OptimizerSpec optimizer_;
  const Operator operator_;
  const at::Device device_;
  dist::DeviceCopy copy_;
  std::vector<Place> place_;  ///< per table
  std::vector<Group> groups_;
  at::Tensor rate_;  ///< this step's learning rate
  int64_t iteration_ = 0, out_of_range_ = 0;
};

}  // namespace

std::unique_ptr<TableBatch> MakeFbgemmTableBatch(std::vector<TableSpec> tables, std::vector<FeatureSpec> features,
                                                 const OptimizerSpec& optimizer, at::Device device) {
  return std::make_unique<FbgemmTableBatch>(std::move(tables), std::move(features), optimizer, device);
}

std::unique_ptr<TableBatch> MakeTableBatch(std::vector<TableSpec> tables, std::vector<FeatureSpec> features,
                                           const OptimizerSpec& optimizer, int threads, at::Device device) {
  const char* asked = std::getenv("ANNEAL_TABLES");
  if (device.is_cuda() || (asked && std::string(asked) == "fbgemm")) {
    return MakeFbgemmTableBatch(std::move(tables), std::move(features), optimizer, device);
  }
  return MakeCpuTableBatch(std::move(tables), std::move(features), optimizer, threads);
}

}  // namespace anneal::embedding
