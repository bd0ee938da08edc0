"""torch on the sequences of sequence_encoder_test.cpp, row by row without padding. Usage: encoders.py ENCODERS_FILE"""
import json
import pathlib
import sys

import torch
from torch.nn import functional


def batch_norm(x, state, name, affine):
    """As TorchEasyRec: positions as channels' samples, [B, T, C] transposed around batch norm; padding counts."""
    statistics = torch.zeros(x.shape[2], dtype=x.dtype), torch.ones(x.shape[2], dtype=x.dtype)
    scale = (state[name + "weight"], state[name + "bias"]) if affine else (None, None)
    y = functional.batch_norm(x.transpose(1, 2), *statistics, *scale, training=True).transpose(1, 2)
    for key, value in zip(("running_mean", "running_var"), statistics):
        assert (state[name + key] - value).abs().max() < 1e-6, name + key
    assert state[name + "num_batches_tracked"] == 1
    return y


def mlp(x, state, config):
    """[B, T, in] -> [B, T, out]"""
    for i in range(len(config["hidden_units"])):
        layer = f"mlp.mlp.{i}.perceptron."
        x = functional.linear(x, state[layer + "0.weight"], state.get(layer + "0.bias"))
        part = 1
        if config.get("use_bn"):
            x = batch_norm(x, state, layer + "2.", affine=True)
            part = 4
        if config.get("activation") == "Dice":
            p = torch.sigmoid(batch_norm(x, state, f"{layer}{part}.bn.", affine=False))
            x = state[f"{layer}{part}.alpha"] * (1 - p) * x + p * x
        elif config.get("activation") == "nn.PReLU":
            x = functional.prelu(x, state[f"{layer}{part}.weight"])
        else:
            x = functional.relu(x)
    return x


def scores(pairs, state, config):
    return functional.linear(mlp(pairs, state, config), state["linear.weight"], state["linear.bias"]).squeeze(2)


def attended(score, s, lengths):
    return torch.stack([torch.softmax(score[b, :n], 0) @ s[b, :n] for b, n in enumerate(lengths)])


def widened(q, s):
    return functional.pad(q, (0, s.shape[2] - q.shape[1]))


def cut(s, lengths, config):
    most = config.get("max_seq_length", 0) or s.shape[1]
    return s[:, :most], [min(n, most) for n in lengths]


def din(q, s, lengths, state, config):
    s, lengths = cut(s, lengths, config)
    q = widened(q, s)[:, None, :].expand(-1, s.shape[1], -1)
    return attended(scores(torch.cat([q, s, q - s, q * s], 2), state, config["attn_mlp"]), s, lengths)


def simple_attention(q, s, lengths, state, config):
    s, lengths = cut(s, lengths, config)
    return attended(torch.einsum("btd,bd->bt", s, q), s, lengths)


def pooling(q, s, lengths, state, config):
    s, lengths = cut(s, lengths, config)
    mean = config.get("pooling_type", "mean") == "mean"
    return torch.stack([s[b, :n].sum(0) / (max(n, 1) if mean else 1) for b, n in enumerate(lengths)])


def multi_window_din(q, s, lengths, state, config):
    q = widened(q, s)
    every = q[:, None, :].expand(-1, s.shape[1], -1)
    score = functional.prelu(scores(torch.cat([s, every * s, every], 2), state, config["attn_mlp"]), state["active.weight"])
    ends = torch.tensor(config["windows_len"]).cumsum(0).tolist()
    begins = [end - window for end, window in zip(ends, config["windows_len"])]
    assert state["windows_len"].tolist() == config["windows_len"] and state["cumsum_windows_len"].tolist() == begins
    rows = []
    for b, n in enumerate(lengths):
        sums = [score[b, begin:min(end, n)] @ s[b, begin:min(end, n)] / max(min(n, end) - begin, 1)
                for begin, end in zip(begins, ends)]
        rows.append(torch.cat([*sums, q[b]]))
    return torch.stack(rows)


def self_attention(q, s, lengths, state, config):
    width = config["multihead_attn_dim"]
    attention = torch.nn.MultiheadAttention(width, config["num_heads"], batch_first=True, dtype=torch.float64)
    own = {name.removeprefix("_multihead_attn."): value for name, value in state.items() if name.startswith("_multihead_attn.")}
    assert own.keys() == attention.state_dict().keys()
    rows = []
    for b, n in enumerate(cut(s, lengths, config)[1]):
        if n == 0:
            rows.append(torch.zeros(width, dtype=torch.float64))
            continue
        inputs = [functional.linear(s[b:b + 1, :n], state[name + ".weight"], state[name + ".bias"])
                  for name in ("_query", "_key", "_value")]
        rows.append(torch.func.functional_call(attention, own, tuple(inputs))[0][0].sum(0) / lengths[b])
    return torch.stack(rows)


ENCODERS = {"din_encoder": din, "simple_attention": simple_attention, "pooling_encoder": pooling,
            "multi_window_din_encoder": multi_window_din, "self_attention_encoder": self_attention}


def tensor(entry):
    kind = torch.int64 if entry["integer"] else torch.float64
    return torch.tensor(entry["values"], dtype=kind).reshape(entry["shape"])


def main(path):
    cases = json.loads(path.read_text())
    assert {case["encoder"] for case in cases} == set(ENCODERS), "the two lists of encoders differ"
    worst = 0.0
    for case in cases:
        given = {name: tensor(entry) for name, entry in case["tensors"].items()}
        wanted = {name: tensor(entry) for name, entry in case["gradients"].items()}
        for name in wanted:
            given[name].requires_grad_()
        output = ENCODERS[case["encoder"]](given["query"], given["sequence"], given["length"].tolist(), given, case["config"])
        (output * given["weights"]).sum().backward()
        apart = {"output": (output - given["output"]).abs().max().item()}
        for name, want in wanted.items():
            got = given[name].grad if given[name].grad is not None else torch.zeros_like(want)
            if name == "sequence":  # what flows into padding goes nowhere
                inside = torch.arange(got.shape[1])[None, :, None] < given["length"][:, None, None]
                got, want = got * inside, want * inside
            apart[name] = ((got - want).abs().max() / max(1.0, got.abs().max().item())).item()
        assert max(apart.values()) <= 2e-6, (case["name"], apart)
        worst = max(worst, *apart.values())
    print(f"ok: torch {torch.__version__}: {len(cases)} encoders, outputs and gradients; largest difference {worst:.1e}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
