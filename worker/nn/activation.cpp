#include "worker/nn/activation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <map>
#include <vector>

#include "worker/config/error.h"
#include "worker/nn/normalization.h"

namespace anneal::nn {
namespace {

/// "nn.LeakyReLU(negative_slope=0.2)" taken apart: positional values are kept under "0", "1", ...
struct Call {
  std::string name;
  std::map<std::string, double> arguments;

  double Get(const std::string& key, int position, double fallback) const {
    if (auto found = arguments.find(key); found != arguments.end()) return found->second;
    if (auto found = arguments.find(std::to_string(position)); found != arguments.end()) return found->second;
    return fallback;
  }
};

std::string Strip(const std::string& text) {
  const auto begin = text.find_first_not_of(" \t\n");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1);
}

Call ParseCall(const std::string& text) {
  Call call;
  const auto open = text.find('(');
  call.name = Strip(text.substr(0, open));
  for (const char* prefix : {"torch.nn.", "nn."}) {
    if (call.name.rfind(prefix, 0) == 0) {
      call.name.erase(0, std::string(prefix).size());
      break;
    }
  }
  if (open == std::string::npos) return call;
  const auto close = text.rfind(')');
  if (close == std::string::npos || close < open) throw ConfigError("activation '" + text + "': missing ')'");
  std::string inside = text.substr(open + 1, close - open - 1);
  for (int position = 0; !Strip(inside).empty(); ++position) {
    const auto comma = inside.find(',');
    std::string item = Strip(inside.substr(0, comma));
    inside = comma == std::string::npos ? "" : inside.substr(comma + 1);
    std::string key = std::to_string(position);
    if (const auto equals = item.find('='); equals != std::string::npos) {
      key = Strip(item.substr(0, equals));
      item = Strip(item.substr(equals + 1));
    }
    if (item == "True" || item == "False") {
      call.arguments[key] = item == "True";
      continue;
    }
    try {
      size_t used = 0;
      call.arguments[key] = std::stod(item, &used);
      if (used != item.size()) throw std::invalid_argument(item);
    } catch (const std::exception&) {
      throw ConfigError("activation '" + text + "': '" + item + "' is not a number");
    }
  }
  return call;
}

class Stateless : public Activation {
 public:
  Stateless(std::function<at::Tensor(const at::Tensor&)> function, bool relu)
      : function_(std::move(function)), relu_(relu) {}
  at::Tensor Forward(const at::Tensor& x) override { return function_(x); }
  bool is_relu() const override { return relu_; }

 private:
  std::function<at::Tensor(const at::Tensor&)> function_;
  bool relu_;
};

class PRelu : public Activation {
 public:
  PRelu(int64_t parameters, double init) { weight_ = RegisterParameter("weight", at::full({parameters}, init)); }
  at::Tensor Forward(const at::Tensor& x) override { return at::prelu(x, weight_); }

 private:
  at::Tensor weight_;
};

/// y = a (1 - p) x + p x with p = sigmoid(batch norm of x) and a learned a per column. Zhou et al., "Deep Interest
/// Network for Click-Through Rate Prediction", KDD 2018.
class Dice : public Activation {
 public:
  explicit Dice(int64_t hidden) : norm_(hidden, /*affine=*/false) {
    RegisterModule("bn", norm_);
    alpha_ = RegisterParameter("alpha", at::zeros({hidden}));
  }
  at::Tensor Forward(const at::Tensor& x) override {
    const at::Tensor p = at::sigmoid(norm_.Forward(x));
    return alpha_ * (1 - p) * x + p * x;
  }
  bool mixes_rows() const override { return true; }

 private:
  BatchNorm1d norm_;
  at::Tensor alpha_;
};

/// What an activation may be given, in the order of its positional arguments. Throws ConfigError for anything else.
void CheckArguments(const Call& call, const std::string& text) {
  static const std::map<std::string, std::vector<std::string>> known = {{"ReLU", {"inplace"}},
                                                                        {"SiLU", {"inplace"}},
                                                                        {"LeakyReLU", {"negative_slope", "inplace"}},
                                                                        {"ELU", {"alpha", "inplace"}},
                                                                        {"PReLU", {"num_parameters", "init"}}};
  const auto found = known.find(call.name);
  const std::vector<std::string> names = found == known.end() ? std::vector<std::string>() : found->second;
  for (const auto& [key, value] : call.arguments) {
    const bool positional = key.find_first_not_of("0123456789") == std::string::npos;
    if (positional ? std::stoul(key) < names.size() : std::find(names.begin(), names.end(), key) != names.end())
      continue;
    throw ConfigError("activation '" + text + "': " + call.name + " has no " +
                      (positional ? "argument " + std::to_string(std::stoul(key) + 1) : "argument '" + key + "'"));
  }
}

std::unique_ptr<Activation> MakePRelu(const Call& call, const std::string& text, int64_t hidden) {
  const double parameters = call.Get("num_parameters", 0, 1);
  if (parameters != 1 && parameters != static_cast<double>(hidden)) {
    throw ConfigError("activation '" + text + "': num_parameters has to be 1 or the layer's width, " +
                      std::to_string(hidden));
  }
  return std::make_unique<PRelu>(static_cast<int64_t>(parameters), call.Get("init", 1, 0.25));
}

}  // namespace

std::unique_ptr<Activation> MakeActivation(const std::string& text, int64_t hidden) {
  if (Strip(text).empty()) return nullptr;
  const Call call = ParseCall(text);
  CheckArguments(call, text);
  auto stateless = [](auto function, bool relu = false) { return std::make_unique<Stateless>(function, relu); };
  if (call.name == "ReLU") return stateless([](const at::Tensor& x) { return at::relu(x); }, true);
  if (call.name == "GELU") return stateless([](const at::Tensor& x) { return at::gelu(x); });
  if (call.name == "Sigmoid") return stateless([](const at::Tensor& x) { return at::sigmoid(x); });
  if (call.name == "Tanh") return stateless([](const at::Tensor& x) { return at::tanh(x); });
  if (call.name == "SiLU") return stateless([](const at::Tensor& x) { return at::silu(x); });
  if (call.name == "Identity") return stateless([](const at::Tensor& x) { return x; });
  if (call.name == "ELU") {
    return stateless([alpha = call.Get("alpha", 0, 1.0)](const at::Tensor& x) { return at::elu(x, alpha); });
  }
  if (call.name == "LeakyReLU") {
    const double slope = call.Get("negative_slope", 0, 0.01);
    return stateless([slope](const at::Tensor& x) { return at::leaky_relu(x, slope); });
  }
  if (call.name == "Dice") return std::make_unique<Dice>(hidden);
  if (call.name == "PReLU") return MakePRelu(call, text, hidden);
  throw ConfigError("activation '" + text +
                    "': not supported; one of nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, "
                    "nn.Tanh, nn.Identity, Dice or an empty text");
}

}  // namespace anneal::nn
