"""The floor under a step: its matrix products alone, each by the fastest of LibTorch's float32 back ends on this machine."""
import time

import torch


def _cpu_ms(function, repeats=5):
    function()
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        function()
        best = min(best, time.process_time() - began)
    return 1e3 * best


def _onednn(x, weight):
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


def layers(workload):
    """(in, out, how often) of the model's linear layers."""
    width = workload.floats + len(workload.ids) * workload.dim
    if workload.model == "deepfm":
        return [(width, 512, 1), (512, 256, 1), (256, 128, 1), (1 + workload.dim + 128, 64, 1), (64, 1, 1)]
    return [(width, 512, 3), (512, 256, 3), (256, 128, 3), (width, 3, 2), (128, 256, 2), (256, 128, 2), (128, 64, 2), (64, 1, 2)]


def products_ms(workload, backward):
    """CPU milliseconds of one thread for all products of a step: y = x W', and for training g W and g' x."""
    before, total = torch.get_num_threads(), 0.0
    torch.set_num_threads(1)
    with torch.no_grad():
        for width, out, times in layers(workload):
            x, weight, g = torch.randn(workload.batch, width), torch.randn(out, width), torch.randn(workload.batch, out)
            products = [(lambda: torch.nn.functional.linear(x, weight), lambda: _onednn(x, weight))]
            if backward:
                transposed = weight.t().contiguous()
                products += [(lambda: g @ weight, lambda: _onednn(g, transposed)), (lambda: g.t() @ x, lambda: _onednn(g.t(), x.t()))]
            total += times * sum(min(map(_cpu_ms, pair)) for pair in products)
    torch.set_num_threads(before)
    return total
