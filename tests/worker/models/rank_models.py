"""torch on the rows of rank_models_test.cpp, each model written down once more from its papers' formulas.
Usage: rank_models.py MODELS_FILE"""
import json
import pathlib
import sys

import torch
from torch.nn import functional


class Weights:
    """Parameters by name, below a prefix."""

    def __init__(self, tensors, prefix=""):
        self.tensors, self.prefix = tensors, prefix

    def __truediv__(self, name):
        return Weights(self.tensors, f"{self.prefix}{name}.")

    def __getitem__(self, name):
        return self.tensors.get(self.prefix + str(name))

    def list(self, name):
        """What is below <name>.0, <name>.1, ..."""
        found = []
        while any(key.startswith(f"{self.prefix}{name}.{len(found)}.") for key in self.tensors):
            found.append(self / f"{name}.{len(found)}")
        return found


def linear(w, x):
    return functional.linear(x, w["weight"], w["bias"])


def mlp(w, x):
    for layer in w.list("mlp"):
        x = torch.relu(linear(layer / "perceptron.0", x))
    return x


def layer_norm(w, x):
    return functional.layer_norm(x, w["weight"].shape, w["weight"], w["bias"])


def wide_and_deep(w, g):
    return [g["wide"].sum(1, keepdim=True) + linear(w / "output_mlp", mlp(w / "deep_mlp", g["deep"]))]


def dcn_v1(w, g):
    x0 = x = g["all"]
    for i, layer in enumerate((w / "cross").list("w")):
        x = torch.einsum("bi,bj,j->bi", x0, x, layer["weight"][0]) + (w / "cross.b")[i] + x
    return [linear(w / "output_linear", mlp(w / "final_dnn", torch.cat([x, mlp(w / "deep", g["all"])], 1)))]


def dcn_v2(w, g):
    x0 = x = mlp(w / "backbone", g["all"])
    for u, v in zip((w / "cross").list("u_kernels"), (w / "cross").list("v_kernels")):
        x = x0 * (x @ (v["weight"] @ u["weight"]).T + v["bias"]) + x
    if (w / "deep").list("mlp"):
        x = torch.cat([x, mlp(w / "deep", g["all"])], 1)
    return [linear(w / "output_mlp", mlp(w / "final", x))]


def fields(w, g):
    """[B, fields, 4]"""
    if len(g) == 1:
        return next(iter(g.values())).reshape(-1, 5, 4)
    return torch.cat([mlp(w / "dense_mlp", g["dense"]), g["sparse"]], 1).reshape(-1, 4, 4)


def dlrm(w, g, copied=None):
    v = fields(w, g)
    pairs = [(v[:, i] * v[:, j]).sum(1) for i in range(v.shape[1]) for j in range(i + 1, v.shape[1])]
    x = torch.cat([torch.stack(pairs, 1), v[:, :copied].flatten(1)], 1)
    return [linear(w / "output_mlp", mlp(w / "final_mlp", x))]


def wukong(w, g):
    x = fields(w, g)
    mixed = lambda weights, x: torch.einsum("bfd,fo->bod", x, weights["weight"])
    for layer in w.list("_wukong_layers"):
        machine = layer / "fmb"
        dots = torch.einsum("bfd,bkd->bfk", x, mixed(machine, x)).flatten(1)
        new = linear(machine / "feature_out_liner", mlp(machine / "mlp", layer_norm(machine / "norm", dots)))
        compressed = mixed(layer / "lcb", x)
        rest = mixed(layer / "residual_projection", x) if (layer / "residual_projection")["weight"] is not None else x
        x = layer_norm(layer / "norm", torch.cat([new.reshape(len(x), -1, x.shape[2]), compressed], 1) + rest)
    return [linear(w / "output_mlp", mlp(w / "final_mlp", x.flatten(1)))]


def xdeepfm(w, g):
    maps = inputs = g["wide"].reshape(-1, 3, 16)
    sums = []
    for layer in (w / "cin").list("cin_layers"):
        products = torch.einsum("bhd,bfd->bhfd", maps, inputs).flatten(1, 2)
        maps = functional.conv1d(products, layer["weight"], layer["bias"])
        sums.append(maps.sum(2))
    return [linear(w / "output_mlp", mlp(w / "final", torch.cat([*sums, mlp(w / "deep", g["deep"])], 1)))]


def towers(w, tasks):
    return [linear(tower / "linear", mlp(tower / "tower_mlp", x)) for tower, x in zip(w.list("_task_tower"), tasks)]


def mix(gate, x, experts):
    weights = torch.softmax(linear(gate, x), 1)
    return sum(weights[:, e:e + 1] * expert for e, expert in enumerate(experts))


def ple(w, g):
    tasks, shared = [g["all"]] * 2, g["all"]
    for net in w.list("_extraction_nets"):
        common = [mlp(expert, shared) for expert in net.list("_shared_layers")]
        own = [[mlp(expert, x) for expert in net.list(f"_task_layers.{t}")] for t, x in enumerate(tasks)]
        gates = zip(net.list("_task_gates"), tasks, own)
        tasks = [mix(gate, x, experts + common) for gate, x, experts in gates]
        if (net / "_shared_gate")["weight"] is not None:
            shared = mix(net / "_shared_gate", shared, own[0] + own[1] + common)
    return towers(w, tasks)


def gate_nu(w, x, gamma):
    return gamma * torch.sigmoid(linear(w / "dense_layers.2", torch.relu(linear(w / "dense_layers.0", x))))


def pepnet(w, g, epnet_gamma=2.0, ppnet_gamma=2.0, activation=torch.relu):
    x = g["all"]
    if "domain" in g:
        x = x * gate_nu(w / "epnet.gate_nu", torch.cat([g["domain"], x.detach()], 1), epnet_gamma)
    tasks = [x, x]
    if "uia" in g:
        linears, gates = (w / "ppnet").list("linears"), (w / "ppnet").list("gate_nus")
        layers = len(linears) // 2
        prior = torch.cat([g["uia"], x.detach()], 1)
        for t in range(2):
            for i in range(t * layers, (t + 1) * layers):
                tasks[t] = activation(linear(linears[i], tasks[t])) * gate_nu(gates[i], prior, ppnet_gamma)
    return towers(w, tasks)


def pepnet_domains(w, g):
    prior = torch.cat([g["uia"], g["all"].detach()], 1)
    outputs = []
    for task, (layer, gate) in enumerate(zip((w / "ppnet").list("linears"), (w / "ppnet").list("gate_nus"))):
        x = torch.relu(linear(layer, g["all"])) * gate_nu(gate, prior, 2.0)
        outputs.append(torch.cat([linear(tower / "linear", mlp(tower / "tower_mlp", x))
                                  for tower in w.list("_task_tower")[3 * task:3 * task + 3]], 1))
    return outputs


def rotation(w):
    """The matrix, made by torch's own parametrization. That takes a diagonal of 1 and -1 for granted and cuts it to whole
    numbers; of any other the signs count."""
    original, base = (w / "parametrizations.weight")["original"], (w / "parametrizations.weight.0")["base"]
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(torch.zeros_like(original))
    made = torch.nn.utils.parametrizations.orthogonal(layer).parametrizations.weight[0]
    signed = original.tril(-1) + torch.eye(*original.shape) * original.detach().diagonal().sign()
    return torch.func.functional_call(made, {"base": base}, (signed,))


def dc2vr(w, g):
    x = mlp(w / "bottom_mlp", g["all"])
    experts = [mlp(expert, x) for expert in (w / "mmoe").list("expert_mlps")]
    tasks = {name: mix(gate, x, experts) for name, gate in zip("abc", (w / "mmoe").list("gate_finals"))}
    for name, sources in (("a", ""), ("b", "a"), ("c", "ba")):
        tasks[name] = mlp(w / f"task_mlps.{name}", tasks[name])
        if sources:
            base, source = (rotation(w / f"intervention.{name}.{kind}_rotate_layer") for kind in ("base", "source"))
            other = torch.cat([tasks[task] for task in sources], 1).detach()
            tasks[name] = (tasks[name] @ base - other @ source) @ base.T + tasks[name]
    return [linear(output, x) for output, x in zip(w.list("task_outputs"), tasks.values())]


def layers(w, x):
    found = []
    for layer in w.list("mlp"):
        found.append(torch.relu(linear(layer / "perceptron.0", found[-1] if found else x)))
    return found


def rocket_launching(w, g, similarities=None):
    """Both heads, then the losses of `similarities`, name -> distance, then the hint."""
    shared = mlp(w / "share_mlp", g["all"])
    booster, light = layers(w / "booster_mlp", shared), layers(w / "light_mlp", shared.detach())
    outputs = [linear(w / "booster_linear", booster[-1]), linear(w / "light_linear", light[-1])]
    losses = {}
    for (i, j), distance in (similarities or {}).items():
        losses[f"similarity_{i}_{j}"] = distance(light[i], booster[j].detach())
    losses["hint_l2_loss"] = ((outputs[1] - outputs[0].detach()) ** 2).mean()
    return outputs, losses


def cosine(a, b):
    return -0.1 * ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-30)).mean()


def euclid(a, b):
    return ((a - b) ** 2).sum().sqrt()


def sinkhorn(distances, iterations, epsilon):
    d = (distances - distances.mean()) / (distances.std() + 1e-8)
    q = torch.exp(-epsilon * (d - d.min()))
    q = q / q.sum()
    for _ in range(iterations):
        q = q / (q.sum(0) + 1e-8) / q.shape[1]
        q = q / (q.sum(1, keepdim=True) + 1e-8) / q.shape[0]
    return q.argmax(1)


def turned(x, target):
    """x by the rotation and the scale that bring each row onto its target, made of the rows' own plane, as matrices."""
    rows = []
    for a, b in zip(x, target.detach()):
        u, v = a.detach() / a.detach().norm(), b / b.norm()
        across = torch.outer(v, u) - torch.outer(u, v)
        rows.append((torch.eye(len(a), dtype=a.dtype) + across + across @ across / (1 + u @ v)) @ a * (b.norm() / a.detach().norm()))
    return torch.stack(rows)


def distance(kind, a, b):
    if kind == "cos":
        return (1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))).mean()
    return {"l1": (a - b).abs(), "l2": (a - b) ** 2}[kind].mean()


def sid_rqvae(w, g, losses={"recon_loss": "l2", "commitment_loss": "l2"}, weights=(1, 0.5), assign=lambda d: sinkhorn(d, 5, 10),
              cosine_distance=False, normalized=False, rotated=False):
    x, unit = g["all"], lambda v: v / v.norm(dim=1, keepdim=True)
    encoded = linear(w / "_encoder.1", mlp(w / "_encoder.0", x))
    residual, codes, sums = encoded, [], []
    for layer in w.list("_quantizer.layers"):
        table = layer["embedding.weight"]
        residual = unit(residual) if normalized else residual
        d = -unit(residual) @ unit(table).T if cosine_distance else torch.cdist(residual, table) ** 2
        codes.append(assign(d.detach()))
        sums.append(table[codes[-1]] + (sums[-1] if sums else 0))
        residual = residual - table[codes[-1]].detach()
    latents = torch.stack(sums, 1)
    decoded = turned(encoded, sums[-1]) if rotated else encoded + (sums[-1] - encoded).detach()
    decoded = linear(w / "_decoder.1", mlp(w / "_decoder.0", decoded))
    beside = encoded.unsqueeze(1).expand_as(latents)
    value = {"recon_loss": lambda kind: distance(kind, decoded, x),
             "commitment_loss": lambda kind: weights[0] * distance(kind, beside, latents.detach()) +
                                             weights[1] * distance(kind, beside.detach(), latents)}
    return [torch.stack(codes, 1).double()], {name: value[name](kind) for name, kind in losses.items()}


MODELS = {
    "wide_and_deep": wide_and_deep, "dcn_v1": dcn_v1, "dcn_v2": dcn_v2, "dcn_v2_backbone_only": dcn_v2, "dlrm": dlrm,
    "dlrm_pairs_only": lambda w, g: dlrm(w, g, copied=1), "dlrm_one_group": dlrm, "wukong": wukong, "xdeepfm": xdeepfm,
    "ple": ple, "pepnet": lambda w, g: pepnet(w, g, 1.5, 3.0, torch.tanh), "pepnet_epnet_only": pepnet,
    "pepnet_ppnet_only": pepnet, "pepnet_neither": pepnet, "pepnet_domains": pepnet_domains, "dc2vr": dc2vr,
    "rocket_launching": lambda w, g: rocket_launching(w, g, {(0, 2): cosine, (2, 1): cosine}),
    "rocket_launching_euclid": lambda w, g: rocket_launching(w, g, {(0, 1): euclid}),
    "rocket_launching_hint_only": rocket_launching,
    "sid_rqvae": sid_rqvae,
    "sid_rqvae_cosine": lambda w, g: sid_rqvae(w, g, {"commitment_loss": "cos", "recon_loss": "cos"}, (0.5, 2), lambda d: d.argmin(1),
                                               cosine_distance=True, normalized=True, rotated=True),
    "sid_rqvae_l1": lambda w, g: sid_rqvae(w, g, {"recon_loss": "l1", "commitment_loss": "l1"}, assign=lambda d: sinkhorn(d, 2, 3)),
}


def tensor(entry, key="values"):
    return torch.tensor(entry[key], dtype=torch.float64).reshape(entry["shape"])


def judged(case, kinds, compared, most, unread=()):
    """The largest difference of (what, wanted, got) and of the gradients of `kinds`, tensors by name; no more than `most`.
    `unread`: the parameters that nothing is computed from."""
    for kind, tensors in kinds.items():
        for name, x in tensors.items():
            gradient = torch.zeros_like(x) if x.grad is None else x.grad
            compared.append((name, gradient, tensor(case[kind][name], "gradient")))
    worst = 0.0
    for what, want, got in compared:
        apart = ((want - got).abs().max() / want.abs().max().clamp(min=1.0)).item()
        assert apart <= most, (case["name"], case.get("arithmetic"), what, apart)
        worst = max(worst, apart)
    unused = [name for name, x in kinds["parameters"].items() if x.grad is None]
    assert set(unused) == set(unread), (case["name"], "not used by the second implementation", unused)
    return worst


def main(path):
    cases = json.loads(path.read_text())
    assert {case["name"] for case in cases} == set(MODELS), "the two lists of cases differ"
    worst = 0.0
    for case in cases:
        inputs = {name: tensor(entry).requires_grad_() for name, entry in case["groups"].items()}
        parameters = {name: tensor(entry).requires_grad_() for name, entry in case["parameters"].items()}
        buffers = {name: tensor(entry) for name, entry in case.get("buffers", {}).items()}
        outputs = MODELS[case["name"]](Weights({**parameters, **buffers}), inputs)
        outputs, losses = outputs if isinstance(outputs, tuple) else (outputs, {})
        assert list(losses) == (case["own_losses"] or []), (case["name"], case["own_losses"])
        outputs += losses.values()
        assert len(outputs) == len(case["outputs"]), case["name"]
        sum((y * tensor(seed)).sum() for y, seed in zip(outputs, case["seeds"])).backward()
        compared = [(f"output {i}", y, tensor(entry)) for i, (y, entry) in enumerate(zip(outputs, case["outputs"]))]
        worst = max(worst, judged(case, {"groups": inputs, "parameters": parameters}, compared, 1e-5))
    print(f"ok: torch {torch.__version__}: {len(cases)} models and gradients; largest difference {worst:.1e}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
