// Loads and runs an exported model with LibTorch alone: no code of Anneal is linked here.
#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  auto module = torch::jit::load(argv[1]);
  c10::Dict<std::string, at::Tensor> row;
  for (const char* name : {"user_id", "item_id", "cate", "city", "brand", "tags", "price_bkt"}) {
    row.insert(std::string(name) + ".values", at::ones({2}, at::kLong));
    row.insert(std::string(name) + ".lengths", at::ones({2}, at::kLong));
  }
  for (const char* name : {"age", "price", "hist"}) row.insert(std::string(name) + ".values", at::zeros({2, 1}));
  row.insert("vec.values", at::zeros({2, 4}));
  const auto outputs = module.forward({row}).toGenericDict();
  const at::Tensor probs = outputs.at("probs").toTensor();
  std::cout << probs << "\n";
  return probs.sizes() == at::IntArrayRef{2} && at::isfinite(probs).all().item<bool>() && probs[0].item<float>() == probs[1].item<float>() ? 0 : 1;
}
