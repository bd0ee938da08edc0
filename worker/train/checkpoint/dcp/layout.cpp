#include "worker/train/checkpoint/dcp/layout.h"

#include <filesystem>

namespace anneal::checkpoint::dcp {
namespace {

constexpr const char *kEma = "//dense_ema", *kState = "state";

/// Splits "model.a.weight.exp_avg" without the metadata's help. The key of a fused table's state holds a dot itself:
/// "<...>.<table>.weight.<table>.momentum1".
std::string SplitState(const std::string& path) {
  const std::string weight = ".weight.";
  if (const size_t at = path.rfind(weight); at != std::string::npos) {
    const std::string parameter = path.substr(0, at), key = path.substr(at + weight.size());
    const std::string table = parameter.substr(parameter.rfind('.') + 1);
    if (key.find('.') == std::string::npos || key.starts_with(table + ".")) return parameter + ".weight//" + key;
  }
  const size_t dot = path.rfind('.');
  return dot == std::string::npos ? path : path.substr(0, dot) + "//" + path.substr(dot + 1);
}

}  // namespace

bool IsTorchEasyRec(const std::string& checkpoint) {
  return DcpFolder::Is((std::filesystem::path(checkpoint) / kParts[0]).string());
}

std::string OurName(const std::string& part, const std::string& name, const Tensor& tensor) {
  if (part == "model") return name;
  if (part == "dense_ema") return name == "__n_averaged__" ? "" : name + kEma;
  if (tensor.keys.size() == 3 && tensor.keys[0] == kState) return tensor.keys[1] + "//" + tensor.keys[2];
  return name.starts_with("state.") ? SplitState(name.substr(6)) : "";
}

std::string PlaceInLayout::name() const {
  std::string joined;
  for (const std::string& key : keys) joined += (joined.empty() ? "" : ".") + key;
  return joined;
}

PlaceInLayout PlaceOf(const std::string& our_name) {
  const size_t cut = our_name.find("//");
  if (cut == std::string::npos) return {"model", {our_name}};
  const std::string parameter = our_name.substr(0, cut);
  if (our_name.substr(cut) == kEma) return {"dense_ema", {parameter}};
  return {"optimizer", {kState, parameter, our_name.substr(cut + 2)}};
}

}  // namespace anneal::checkpoint::dcp
