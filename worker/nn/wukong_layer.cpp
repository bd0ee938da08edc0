#include "worker/nn/wukong_layer.h"

#include <ATen/ATen.h>

#include <cmath>

namespace anneal::nn {
namespace {

/// torch.nn.init.kaiming_uniform_ of [fields, out], whose fan-in is the number of columns.
at::Tensor KaimingUniform(int64_t fields, int64_t out) {
  const double bound = std::sqrt(6.0 / static_cast<double>(out));
  return at::empty({fields, out}, at::kFloat).uniform_(-bound, bound);
}

/// [B*dim, fields] -> [B, fields, dim], not contiguous.
at::Tensor Fields(const at::Tensor& columns, int64_t dim, int64_t fields) {
  return columns.reshape({-1, dim, fields}).transpose(1, 2);
}

}  // namespace

LinearCompressBlock::LinearCompressBlock(int64_t fields, int64_t out)
    : weight_(RegisterParameter("weight", KaimingUniform(fields, out))) {}

at::Tensor LinearCompressBlock::Forward(const at::Tensor& columns) const { return at::mm(columns, weight_); }

FactorizationMachineBlock::FactorizationMachineBlock(int64_t fields, int64_t dim, int64_t out, int64_t k,
                                                     const tzrec::protos::MLP& mlp)
    : dim_(dim),
      out_(out),
      weight_(RegisterParameter("weight", KaimingUniform(fields, k))),
      norm_(fields * k),
      mlp_(fields * k, mlp),
      output_(mlp_.output_dim(), out * dim) {
  RegisterModule("norm", norm_);
  RegisterModule("mlp", mlp_);
  RegisterModule("feature_out_liner", output_);
}

at::Tensor FactorizationMachineBlock::Forward(const at::Tensor& x, const at::Tensor& columns) {
  const at::Tensor mixtures = at::mm(columns, weight_).reshape({-1, dim_, weight_.size(1)});  // [B, dim, k]
  const at::Tensor dots = at::bmm(x, mixtures).flatten(1);                                    // [B, fields*k]
  return output_.Forward(mlp_.Forward(norm_.Forward(dots))).reshape({-1, out_, dim_});
}

WuKongLayer::WuKongLayer(int64_t fields, int64_t dim, const tzrec::protos::WuKongLayer& config)
    : fields_(fields),
      dim_(dim),
      output_fields_(int64_t{config.lcb_feature_num()} + config.fmb_feature_num()),
      lcb_(fields, config.lcb_feature_num()),
      fmb_(fields, dim, config.fmb_feature_num(), config.compressed_feature_num(), config.feature_num_mlp()),
      norm_(dim) {
  RegisterModule("lcb", lcb_);
  RegisterModule("fmb", fmb_);
  RegisterModule("norm", norm_);
  if (fields != output_fields_) {
    residual_ = std::make_unique<LinearCompressBlock>(fields, output_fields_);
    RegisterModule("residual_projection", *residual_);
  }
}

at::Tensor WuKongLayer::Forward(const at::Tensor& x) {
  const at::Tensor columns = x.transpose(1, 2).reshape({-1, fields_});
  const at::Tensor compressed = Fields(lcb_.Forward(columns), dim_, lcb_.output_fields());
  const at::Tensor y = at::cat({fmb_.Forward(x, columns), compressed}, 1);
  return norm_.Forward(y + (residual_ ? Fields(residual_->Forward(columns), dim_, output_fields_) : x));
}

}  // namespace anneal::nn
