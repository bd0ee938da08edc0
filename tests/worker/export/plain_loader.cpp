// Runs exported models with LibTorch alone: no code of Anneal is linked here. The bodies are the C++ of docs/export.md,
// word for word; e2e_Formats compares the two.
//
// Usage: plain_loader FORMAT [NAME WIDTH]...    in the folder of an export of golden/zoo/deepfm; prints the
// probabilities of two rows. NAME, WIDTH: boundary tensors of RTP and distributed exports, which are filled with a
// number.
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/script.h>

#include <iostream>
#include <map>

namespace {

using Tensors = c10::Dict<std::string, at::Tensor>;

at::Tensor TorchScript(const Tensors& rows) {
  auto model = torch::jit::load("scripted_model.pt");
  c10::InferenceMode no_gradients;
  auto outputs = model.forward({rows}).toGenericDict();
  at::Tensor probs = outputs.at("probs").toTensor();
  return probs;
}

at::Tensor Aot(const Tensors& rows) {
  auto sparse = torch::jit::load("scripted_sparse_model.pt");
  torch::inductor::AOTIModelPackageLoader dense("aoti/aoti_model.pt2", "model", false, /*threads at once*/ 4);
  c10::InferenceMode no_gradients;
  auto cut = sparse.forward({rows}).toGenericDict();
  std::map<std::string, at::Tensor> boundary;
  for (const auto& entry : cut) boundary[entry.key().toStringRef()] = entry.value().toTensor();
  std::vector<at::Tensor> inputs;
  for (const auto& [name, tensor] : boundary) inputs.push_back(tensor);
  at::Tensor probs = dense.run(inputs)[1];  // logits, probs
  return probs;
}

at::Tensor AotUnified(const Tensors& rows) {
  torch::inductor::AOTIModelPackageLoader model("aoti/aoti_model.pt2", "model", false, /*threads at once*/ 4);
  std::map<std::string, at::Tensor> sorted;
  for (const auto& entry : rows) sorted[entry.key()] = entry.value();
  std::vector<at::Tensor> inputs;
  for (const auto& [name, tensor] : sorted) inputs.push_back(tensor);
  at::Tensor probs = model.run(inputs)[1];  // logits, probs
  return probs;
}

at::Tensor Rtp(const Tensors& boundary) {
  auto dense = torch::jit::load("fx_user_model/scripted_model.pt");
  c10::InferenceMode no_gradients;
  at::Tensor probs = dense.forward({boundary}).toGenericDict().at("probs").toTensor();
  return probs;
}

at::Tensor Distributed(const Tensors& blocks) {
  auto dense = torch::jit::load("scripted_model.pt");
  c10::InferenceMode no_gradients;
  at::Tensor probs = dense.forward({blocks}).toGenericDict().at("probs").toTensor();
  return probs;
}

/// The first lines are those of the document; then what this model has besides.
Tensors TwoRows() {
  c10::Dict<std::string, at::Tensor> rows;
  rows.insert("user_id.values", torch::tensor({7, 8}, torch::kLong));
  rows.insert("user_id.lengths", torch::tensor({1, 1}, torch::kLong));
  rows.insert("age.values", torch::tensor({0.25f, 0.5f}).reshape({2, 1}));
  for (const char* name : {"item_id", "cate", "city", "brand", "tags", "price_bkt"}) {
    rows.insert(std::string(name) + ".values", at::ones({2}, at::kLong));
    rows.insert(std::string(name) + ".lengths", at::ones({2}, at::kLong));
  }
  for (const char* name : {"price", "hist"}) rows.insert(std::string(name) + ".values", at::zeros({2, 1}));
  rows.insert("vec.values", at::zeros({2, 4}));
  return rows;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string format = argc > 1 ? argv[1] : "";
  Tensors given;
  for (int i = 2; i + 1 < argc; i += 2) {
    const int64_t width = std::stoll(argv[i + 1]);
    given.insert(argv[i], width > 0 ? at::full({2, width}, 0.125) : at::scalar_tensor(1, at::kLong));
  }
  at::Tensor probs;
  if (format == "TorchScript") probs = TorchScript(TwoRows());
  if (format == "AOT") probs = Aot(TwoRows());
  if (format == "AOTUnified") probs = AotUnified(TwoRows());
  if (format == "RTP") probs = Rtp(given);
  if (format == "Distributed") probs = Distributed(given);
  if (!probs.defined()) return 2;
  std::cout.precision(9);
  for (int64_t row = 0; row < probs.size(0); ++row) std::cout << probs[row].item<float>() << "\n";
  return probs.sizes() == at::IntArrayRef{2} && at::isfinite(probs).all().item<bool>() ? 0 : 1;
}
