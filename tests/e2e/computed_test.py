"""Features that are computed (expr_feature, overlap_feature, kv_dot_product, normalizers that are expressions) through train,
eval, export and predict: a model learns of them what it learns of the same numbers computed in Python."""
import json
import math
import random
import unittest

import numpy
import pyarrow
import pyarrow.parquet

from harness import ANNEAL, Case, weights

CONFIG = """
train_config {
  sparse_optimizer { adagrad_optimizer { lr: 0.01 } constant_learning_rate { } }
  dense_optimizer { adam_optimizer { lr: 0.001 } constant_learning_rate { } }
  num_steps: 20
}
eval_config { }
data_config { batch_size: 128 dataset_type: ParquetDataset fg_mode: FG_DAG label_fields: "clk" num_workers: 2 }
FEATURES
model_config {
  feature_groups {
    group_name: "deep" group_type: DEEP
    feature_names: ["user_id", "gap", "gap_bucket", "income", "far", "ratio", "near", "similar", "double_gap"]
  }
  feature_groups { group_name: "seq" group_type: SEQUENCE feature_names: ["item_id", "price", "click_seq__item_id", "click_seq__price"] }
  multi_tower_din {
    towers { input: "deep" mlp { hidden_units: [16, 8] } }
    din_towers { input: "seq" attn_mlp { hidden_units: [8] } }
    final { hidden_units: [8] }
  }
  losses { binary_cross_entropy { } }
  metrics { auc { } }
}
"""
SHARED = """
feature_configs { id_feature { feature_name: "user_id" expression: "user:user_id" num_buckets: 50 embedding_dim: 4 } }
feature_configs { id_feature { feature_name: "item_id" expression: "item:item_id" num_buckets: 30 embedding_dim: 4 embedding_name: "item" } }
"""
CLICKED = """
feature_configs { sequence_feature { sequence_name: "click_seq" sequence_length: 8 sequence_delim: ";"
  features { id_feature { feature_name: "item_id" expression: "item:item_id" num_buckets: 30 embedding_dim: 4 embedding_name: "item" } }
  features { PRICE }
} }
"""
BUCKETS = "embedding_dim: 4 boundaries: "
COMPUTED = SHARED + CLICKED.replace("PRICE", 'expr_feature { feature_name: "price" expression: "log(p + 1)" variables: "item:p" }') + f"""
feature_configs {{ expr_feature {{ feature_name: "gap" expression: "abs(age - i_age) / 10" variables: ["user:age", "item:i_age"]
  default_value: "-1" }} }}
feature_configs {{ expr_feature {{ feature_name: "gap_bucket" expression: "age > i_age ? age - i_age : 0"
  variables: ["user:age", "item:i_age"] default_value: "50" {BUCKETS} [1, 5, 10, 40] }} }}
feature_configs {{ raw_feature {{ feature_name: "income" expression: "user:income" normalizer: "method=expression,expr=log(x+3)" }} }}
feature_configs {{ expr_feature {{ feature_name: "far" expression: "sigmoid(haversine(lng, lat, i_lng, i_lat) / 100 - 3)"
  variables: ["user:lng", "user:lat", "item:i_lng", "item:i_lat"] }} }}
feature_configs {{ overlap_feature {{ feature_name: "ratio" query: "user:query" title: "item:title" method: "title_common_ratio" }} }}
feature_configs {{ overlap_feature {{ feature_name: "near" query: "user:query" title: "item:title" method: "proximity_min_cover"
  {BUCKETS} [1, 2, 4] }} }}
feature_configs {{ kv_dot_product {{ feature_name: "similar" query: "user:likes" document: "item:tags" separator: "|"
  default_value: "-0.5" }} }}
feature_configs {{ expr_feature {{ feature_name: "double_gap" expression: "2 * gap + offset" variables: ["feature:gap", "feature:offset"] }} }}
feature_configs {{ raw_feature {{ feature_name: "offset" expression: "const:0.25" stub_type: true }} }}
feature_configs {{ raw_feature {{ feature_name: "price" expression: "item:p" normalizer: "method=expression,expr=log(x+1)" }} }}
"""
NUMBERS = SHARED + CLICKED.replace("PRICE", 'raw_feature { feature_name: "price" expression: "item:price" }')
for name in ("gap", "income", "far", "ratio", "similar", "double_gap", "price"):
    NUMBERS += f'feature_configs {{ raw_feature {{ feature_name: "{name}" expression: "user:{name}" }} }}\n'
for name, bounds in (("gap_bucket", "[1, 5, 10, 40]"), ("near", "[1, 2, 4]")):
    NUMBERS += f'feature_configs {{ raw_feature {{ feature_name: "{name}" expression: "user:{name}" {BUCKETS} {bounds} }} }}\n'


def haversine(lng1, lat1, lng2, lat2):
    degree = math.pi / 180
    h = math.sin((lat2 - lat1) * degree / 2) ** 2
    h += math.cos(lat1 * degree) * math.cos(lat2 * degree) * math.sin((lng2 - lng1) * degree / 2) ** 2
    return 2 * 6371 * math.asin(math.sqrt(h))


def cover(query, title):
    pieces = [end - begin for begin in range(len(title)) for end in range(begin + 1, len(title) + 1) if set(query) <= set(title[begin:end])]
    return min(pieces, default=0)


def rows(count, seed):
    """(the inputs, the numbers computed of them)"""
    draw = random.Random(seed)

    def maybe(value):
        return None if draw.random() < 0.1 else value

    inputs, numbers = [], []
    for _ in range(count):
        words = [f"w{i}" for i in range(8)]
        query, title = (draw.choices(words, k=draw.randrange(1, most)) for most in (3, 7))
        likes, tags = ({f"t{draw.randrange(6)}": draw.randrange(1, 9) / 8 for _ in range(4)} for _ in range(2))
        clicked = draw.choices(range(30), k=draw.randrange(1, 6))
        one = {"user_id": draw.randrange(50), "item_id": draw.randrange(30), "age": maybe(float(draw.randrange(15, 80))),
               "i_age": maybe(draw.randrange(15, 80)), "income": maybe(draw.randrange(1000)), "p": draw.randrange(200) / 4,
               "lng": draw.uniform(5, 15), "lat": draw.uniform(40, 50), "i_lng": draw.uniform(5, 15), "i_lat": draw.uniform(40, 50),
               "query": maybe("\x1d".join(query)), "title": maybe("\x1d".join(title)),
               "likes": maybe("|".join(f"{key}:{value}" for key, value in likes.items())), "tags": maybe(list(tags.items())),
               "click_seq__item_id": clicked, "click_seq__p": [draw.randrange(200) / 4 for _ in clicked], "clk": draw.randrange(2)}
        inputs.append(one)
        there = one["age"] is not None and one["i_age"] is not None
        words_there = one["query"] is not None and one["title"] is not None
        gap = float(numpy.float32(abs(one["age"] - one["i_age"]) / 10)) if there else -1.0
        far = haversine(*(one[name] for name in ("lng", "lat", "i_lng", "i_lat")))
        numbers.append({
            **{name: one[name] for name in ("user_id", "item_id", "click_seq__item_id", "clk")},
            "gap": gap, "double_gap": 2 * gap + 0.25,
            "gap_bucket": max(one["age"] - one["i_age"], 0) if there else 50.0,
            "income": 0.0 if one["income"] is None else math.log(one["income"] + 3),
            "far": 1 / (1 + math.exp(3 - far / 100)),
            "ratio": len(set(query) & set(title)) / len(set(title)) if words_there else 0.0,
            "near": float(cover(query, title)) if words_there else 0.0,
            "similar": sum(likes[key] * tags[key] for key in likes if key in tags)
                       if one["likes"] is not None and one["tags"] is not None else -0.5,
            "price": math.log(one["p"] + 1), "click_seq__price": [math.log(p + 1) for p in one["click_seq__p"]]})
    return inputs, numbers


def table(entries, **types):
    return pyarrow.table({name: pyarrow.array([entry[name] for entry in entries], types.get(name)) for name in entries[0]})


class Computed(Case):
    def setUp(self):
        super().setUp()
        map_type = pyarrow.map_(pyarrow.string(), pyarrow.float32())
        numbers = {name: pyarrow.float32() for name in
                   ("gap", "double_gap", "gap_bucket", "income", "far", "ratio", "near", "similar", "price")}
        for part, count in (("train", 2560), ("eval", 300)):
            inputs, computed = rows(count, part)
            pyarrow.parquet.write_table(table(inputs, tags=map_type), self.dir / f"computed-{part}.parquet")
            pyarrow.parquet.write_table(table(computed, click_seq__price=pyarrow.list_(pyarrow.float32()), **numbers),
                                        self.dir / f"numbers-{part}.parquet")
        for name, features in (("computed", COMPUTED), ("numbers", NUMBERS)):
            head = "".join(f'{part}_input_path: "{self.dir}/{name}-{part}.parquet"\n' for part in ("train", "eval"))
            (self.dir / f"{name}.config").write_text(f'{head}model_dir: "{self.dir}/{name}"\n' + CONFIG.replace("FEATURES", features))

    def anneal(self, command, name, *more):
        return self.run_program(ANNEAL, command, "--pipeline_config_path", self.dir / f"{name}.config", *more)

    def test_a_model_learns_of_them_what_it_learns_of_the_numbers(self):
        for name in ("computed", "numbers"):
            self.anneal("train", name)
            self.anneal("eval", name)
        self.assertEqual((self.dir / "computed/eval_result.txt").read_text(), (self.dir / "numbers/eval_result.txt").read_text())
        one, two = (weights(self.dir / name / "model.ckpt-19") for name in ("computed", "numbers"))
        self.assertEqual(one.keys(), two.keys())
        for tensor in one:
            numpy.testing.assert_allclose(numpy.frombuffer(one[tensor], numpy.float32), numpy.frombuffer(two[tensor], numpy.float32),
                                          atol=1e-6, err_msg=tensor)

        self.anneal("export", "computed", "--quantization", "FP32", "--export_dir", self.dir / "x",
                    "--verify_input_path", self.dir / "computed-eval.parquet")
        written = ["--predict_input_path", self.dir / "computed-eval.parquet", "--predict_output_path"]
        self.run_program(ANNEAL, "predict", "--scripted_model_path", self.dir / "x", *written, self.dir / "q")
        self.anneal("predict", "computed", *written, self.dir / "p")
        exported, own = (pyarrow.parquet.read_table(self.dir / folder / "part-0.parquet")["probs"].to_numpy() for folder in "qp")
        self.assertEqual(len(own), 300)
        numpy.testing.assert_allclose(exported, own, atol=1e-6)

        entries = {entry.get("feature_name", "click_seq"): entry for entry in json.loads((self.dir / "x/fg.json").read_text())["features"]}
        self.assertEqual(entries["gap_bucket"]["boundaries"], [1, 5, 10, 40])
        self.assertEqual(entries["double_gap"]["variables"], ["feature:gap", "feature:offset"])
        self.assertEqual(entries["similar"], {"feature_type": "kv_dot_product", "feature_name": "similar", "query": "user:likes",
                                              "document": "item:tags", "default_value": "-0.5", "separator": "|"})

    def test_what_is_wrong_is_told_with_its_line(self):
        for old, new, message in (
                ("abs(age - i_age) / 10", "abs(age - years) / 10", "'years' is no variable (age, i_age)"),
                ("abs(age - i_age) / 10", "abs(age - i_age", "character 16: expected an operator, ',' or ')', not the end"),
                ("expr=log(x+3)", "expr=log(y+3)", "'y' is no variable (x)"),
                ("title_common_ratio", "common_ratio", "'common_ratio' is not one of query_common_ratio, title_common_ratio"),
                ('separator: "|"', 'separator: "|" kv_delimiter: 2', "kv_delimiter: not supported yet")):
            text = (self.dir / "computed.config").read_text()
            line = text[:text.index(old)].count("\n") + 1
            (self.dir / "wrong.config").write_text(text.replace(old, new, 1))
            told = self.run_program(ANNEAL, "check", self.dir / "wrong.config", expect=64)
            self.assertIn(message, told)
            self.assertRegex(told, rf"wrong\.config:{line}:")


if __name__ == "__main__":
    unittest.main(verbosity=2)
