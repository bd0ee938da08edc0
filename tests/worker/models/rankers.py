"""torch on the rows of rankers_test.cpp: each row for itself, each token for itself. Usage: rankers.py MODELS_FILE"""
import json
import math
import pathlib
import sys

import torch
from torch.nn import functional

from rank_models import Weights, judged, layer_norm, linear, mlp, tensor


def swish_mlp(w, x):
    x = linear(w / "0", x)
    x = linear(w / "2", x * torch.sigmoid(layer_norm(w / "1", x)))
    return x if w["3.weight"] is None else layer_norm(w / "3", x)


def token_mlp(w, x, context):
    if w["_mlp.0.weight"] is not None:
        return swish_mlp(w / "_mlp", x)
    c = linear(w / "_dense_features_compress", context)
    matrix = layer_norm(w / "_attn_weights_norm", linear(w / "_attn_raw_weights.0", c).reshape(w["_attn_weights_norm.weight"].shape))
    return x @ matrix + swish_mlp(w / "_res_weights", c)


def action_vector(w, config, action, watched):
    encoder = config["simple_action_encoder"]
    bits, added = int(action), encoder["watchtime_to_action_weights"]
    for threshold, weight in zip(encoder["watchtime_to_action_thresholds"], added):
        if watched >= threshold:
            bits |= weight
    masks = encoder["action_weights"] + added
    return torch.cat([vector if bits & mask else torch.zeros_like(vector) for mask, vector in zip(masks, w["_action_embedding_table"])])


def contents(w, config, history, candidates):
    """A list of vectors, the history's and then the candidates'."""
    if "mlp_content_encoder" in config:
        return [mlp(w / "uih_mlp", x) for x in history] + [mlp(w / "target_mlp", x) for x in candidates]
    if "pad_content_encoder" in config:
        return [torch.cat([x, w["_target_enrich_dummy_embeddings"][0]]) for x in history] + list(candidates)
    width = w.width
    return list(history) + [x[:width] for x in candidates]


def visible(i, j, stu, contextual, before, count):
    """Whether token i of `count` sees token j; the candidates begin at `before`."""
    if stu["sla_k1"] or stu["sla_k2"]:
        if i >= before:
            return j < before
        whole = max(stu["sla_k2"], contextual)
        return j < min(whole, i + 1) or max(whole, i - stu["sla_k1"] + 1) <= j < i + 1
    most = before - contextual + 1 if contextual else before
    number = lambda p: min(max(p - contextual + 1, 0) if contextual else p, most)
    row, column = number(i), number(j)
    if i == j or (contextual and row == 0 and column < most):
        return True
    return row > column and (not stu["max_attn_len"] or row - column <= stu["max_attn_len"])


def stu_layer(w, x, stu, contextual, before, most):
    """x: the tokens of a row [n, D]"""
    heads, values, queries = stu["num_heads"], stu["hidden_dim"], stu["attention_dim"]
    normed = functional.layer_norm(x, x.shape[1:], w["_input_norm_weight"], w["_input_norm_bias"], 1e-6)
    sizes = [heads * values] * 2 + [heads * queries] * 2
    u, v, q, k = (normed @ w["_uvqk_weight"] + w["_uvqk_beta"]).split(sizes, 1)
    alpha = stu["attn_alpha"] or 1 / math.sqrt(queries)
    divisor = stu["scaling_seqlen"] if stu["scaling_seqlen"] >= 0 else most
    contextual = stu["contextual_seq_len"] if stu["contextual_seq_len"] >= 0 else contextual
    rows = []
    for i in range(len(x)):
        of_heads = []
        for h in range(heads):
            at, of = slice(h * queries, (h + 1) * queries), slice(h * values, (h + 1) * values)
            total = torch.zeros(values, dtype=x.dtype)
            for j in range(len(x)):
                if visible(i, j, stu, contextual, before, len(x)):
                    total = total + functional.silu(alpha * (q[i, at] @ k[j, at])) / divisor * v[j, of]
            of_heads.append(total)
        rows.append(torch.stack(of_heads))
    a = torch.stack(rows)  # [n, H, V]
    if stu["use_group_norm"]:
        normed = functional.layer_norm(a, [values], eps=1e-6) * w["_output_norm_weight"][:, None] + w["_output_norm_bias"][:, None]
        normed = normed.flatten(1)
    else:
        normed = functional.layer_norm(a.flatten(1), [heads * values], w["_output_norm_weight"], w["_output_norm_bias"], 1e-6)
    u = functional.silu(u)
    return x + torch.cat([u, a.flatten(1), u * normed], 1) @ w["_output_weight"]


def positioned(w, config, x, times, contextual, before):
    places, rows = config["num_position_buckets"], []
    for p, token in enumerate(x):
        row = token * math.sqrt(x.shape[1])
        if not config["use_time_encoding"]:
            rows.append(row + w["_position_embeddings_weight"][min(p, before, places - 1)])
            continue
        place = p if p < contextual else min(before - min(p, before) + contextual, places - 1)
        apart = (torch.tensor(times[-1] - times[p], dtype=torch.float32).clamp(min=1e-6)) / config["time_bucket_increments"]
        grown = apart.sqrt() if config["time_bucket_fn"] == "sqrt" else apart.log()
        bucket = int((grown / config["num_time_buckets"]).clamp(0, 1) * config["num_time_buckets"])
        rows.append(row + w["_position_embeddings_weight"][place] + w["_timestamp_embeddings_weight"][bucket])
    return torch.stack(rows)


def postprocessed(w, config, x, times):
    if "l2norm_postprocessor" in config:
        return x / x.norm(dim=1, keepdim=True).clamp(min=1e-6)
    if "layernorm_postprocessor" in config:
        return layer_norm(w / "_layer_norm", x)
    periods, rows = config["timestamp_layernorm_postprocessor"], []
    for token, t in zip(x, times):
        features = []
        for unit, period in zip(periods["time_duration_period_units"], periods["time_duration_units_per_period"]):
            angle = (math.floor(t / unit) % period) / period * 2 * 3.14
            features += [math.cos(angle), math.sin(angle)]
        rows.append(torch.cat([token, torch.tensor(features, dtype=x.dtype)]))
    return layer_norm(w / "_layer_norm", linear(w / "_time_feature_combiner", torch.stack(rows)))


def transduced(w, hstu, row, most, training, slots):
    """The candidates of one row as vectors. row: tensors and numbers of its own."""
    config = hstu["input_preprocessor"]
    interleaves = "contextual_interleave_preprocessor" in config
    config = next(iter(config.values()))
    pre, context = w / "_input_preprocessor", row["contextual"]
    of_content = pre / "_content_encoder"
    of_content.width = row["history"].shape[1]
    content = contents(of_content, config["content_encoder"], row["history"], row["candidate"])
    content = [token_mlp(pre / "_content_embedding_mlp", x, context) for x in content]
    actions = None
    if "action_encoder" in config:
        encoder = pre / "_action_encoder"
        actions = [action_vector(encoder, config["action_encoder"], a, t) for a, t in zip(row["action"], row["watchtime"])]
        actions += [encoder["_target_action_embedding_table"][0]] * len(row["candidate"])
        actions = [token_mlp(pre / "_action_embedding_mlp", x, context) for x in actions]
    weight, bias = pre["_batched_contextual_linear_weights"], pre["_batched_contextual_linear_bias"]
    tokens = [part @ weight[s] + bias[s][0] for s, part in enumerate(context.chunk(slots))]
    times, judged_tokens, before = [0.0] * slots, [], None
    for e, x in enumerate(content):
        is_candidate = e >= len(row["history"])
        if is_candidate:
            before = len(tokens) if before is None else before
            judged_tokens.append(len(tokens) - before)
        time = row["candidate_time"][e - len(row["history"])] if is_candidate else row["time"][e]
        doubled = interleaves and (not is_candidate or (training and config["enable_interleaving"]))
        tokens += [x, actions[e]] if doubled else [x + actions[e] if actions and not interleaves else x]
        times += [time] * (1 + doubled)
    before = len(tokens) if before is None else before
    x = positioned(w / "_positional_encoder", hstu["positional_encoder"], torch.stack(tokens), times, slots, before)
    for i, layer in enumerate((w / "_stu_module").list("_stu_layers")):
        if hstu["attn_truncation_split_layer"] and i == hstu["attn_truncation_split_layer"]:
            kept = min(before - slots, hstu["attn_truncation_tail_len"])
            x = torch.cat([x[:slots], x[before - kept:]])
            before = slots + kept
        x = stu_layer(layer, x, hstu["stu"], slots, before, most)
    if not judged_tokens:
        return x[:0]
    return postprocessed(w / "_output_postprocessor", hstu["output_postprocessor"], x[[before + t for t in judged_tokens]], row["candidate_time"])


def rows_of(case, inputs, name, ascending):
    """The elements of each row in the order of time: tensors, or numbers."""
    lengths = case["lengths"]["candidate" if name.startswith("candidate") else name.split("_")[0]]
    values = inputs[name] if name in inputs else case["numbers"][name]
    rows, at = [], 0
    for length in lengths:
        row = values[at:at + length]
        rows.append(row if ascending else row.flip(0) if torch.is_tensor(row) else row[::-1])
        at += length
    return rows


def computed(case, inputs, w):
    kind = "ultra_hstu" if "ultra_hstu" in case["config"] else "dlrm_hstu"
    config = case["config"][kind]
    ascending = config["sequence_timestamp_is_ascending"]
    channels = config["hstu"] if kind == "ultra_hstu" else [config["hstu"]]
    rows = lambda name: rows_of(case, inputs, name, ascending)
    users = []
    for i, hstu in enumerate(channels):
        history = hstu["name"] or "uih"
        fields = {"history": rows(history), "action": rows(history + "_action"), "watchtime": rows(history + "_watchtime"),
                  "time": rows(history + "_timestamp"), "candidate": rows("candidate"), "candidate_time": rows("candidate_timestamp"),
                  "contextual": inputs["contextual"]}
        own = w / ("_hstu_transducer" + (f"._transducers.{i}" if len(channels) > 1 else ""))
        slots = 1 if config["concat_contextual_features"] else 3
        users.append([transduced(own, hstu, {name: of[b] for name, of in fields.items()}, config["max_seq_len"], case["training"], slots)
                      for b in range(len(inputs["contextual"]))])
    outputs = []
    for b, candidates in enumerate(rows("candidate")):
        x = torch.cat([of[b] for of in users], 1) * swish_mlp(w / "_item_embedding_mlp", candidates)
        x = linear(w / "_multitask_module.linear", mlp(w / "_multitask_module.tower_mlp", x))
        outputs.append(x if ascending else x.flip(0))
    return torch.cat(outputs).split([1, 2], 1)


def main(path):
    cases = json.loads(path.read_text())
    assert len(cases) >= 11
    worst = 0.0
    for case in cases:
        inputs, parameters = ({name: tensor(entry).requires_grad_() for name, entry in case[kind].items()} for kind in ("inputs", "parameters"))
        outputs = computed(case, inputs, Weights(parameters))
        sum((y * tensor(seed)).sum() for y, seed in zip(outputs, case["seeds"])).backward()
        compared = [(f"output {t}", y, tensor(got)) for t, (y, got) in enumerate(zip(outputs, case["outputs"]))]
        # Where candidates have no action token among interleaved ones.
        row = "_hstu_transducer._input_preprocessor._action_encoder._target_action_embedding_table"
        unread = [row] if case["name"] in ("interleaved_in_use", "interleaved_history") else []
        worst = max(worst, judged(case, {"inputs": inputs, "parameters": parameters}, compared, 5e-5, unread))
    print(f"ok: torch {torch.__version__}: {len(cases)} rankers and gradients; largest difference {worst:.1e}")


main(pathlib.Path(sys.argv[1]))
