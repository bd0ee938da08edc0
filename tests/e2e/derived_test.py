"""A model of every kind of feature in FG_DAG, from check to prediction; its features are computed once more in Python."""
import json
import random
import unittest

import numpy
import pyarrow
import pyarrow.parquet
import torch

from harness import ANNEAL, Case

SEPARATOR = "\x1d"
ROWS = 300


def murmur(text):
    """MurmurHash64A as std::hash<std::string> has it."""
    data, mul, mask = text.encode(), 0xC6A4A7935BD1E995, 2**64 - 1
    mix = lambda value: value ^ (value >> 47)
    state = (0xC70F6907 ^ (len(data) * mul)) & mask
    for at in range(0, len(data) - 7, 8):
        block = mix(int.from_bytes(data[at:at + 8], "little") * mul & mask) * mul & mask
        state = (state ^ block) * mul & mask
    if len(data) % 8:
        state = (state ^ int.from_bytes(data[len(data) // 8 * 8:], "little")) * mul & mask
    return mix(mix(state) * mul & mask)


FEATURES = """
feature_configs { id_feature { feature_name: "user_id" expression: "user:user_id" num_buckets: 50 embedding_dim: 8 } }
feature_configs { id_feature { feature_name: "first_tag" expression: "item:tags" value_dim: 1 default_value: "none"
  hash_bucket_size: 9 embedding_dim: 8 stub_type: true } }
feature_configs { combo_feature { feature_name: "city_tag" expression: "user:city" expression: "feature:first_tag"
  hash_bucket_size: 60 embedding_dim: 8 pooling: "mean" } }
feature_configs { combine_feature { feature_name: "spent" expression: "user:amounts" combiner: "mean"
  normalizer: "method=minmax,min=0,max=10" } }
feature_configs { combine_feature { feature_name: "spent_rank" expression: "user:amounts" combiner: "max"
  boundaries: [2.5, 5, 7.5] embedding_dim: 8 } }
feature_configs { lookup_feature { feature_name: "tag_score" map: "user:scores" key: "item:tags" default_value: "-0.5" } }
feature_configs { lookup_feature { feature_name: "tag_vector" map: "user:vectors" key: "item:tags" value_dim: 2 } }
feature_configs { lookup_feature { feature_name: "tag_word" map: "user:words" key: "item:tags" value_dim: 0 default_value: ""
  vocab_file: "words.txt" asset_dir: "ASSETS" default_bucketize_value: 3 embedding_dim: 8 } }
feature_configs { match_feature { feature_name: "hits" nested_map: "user:nested" pkey: "item:shop" skey: "feature:first_tag" } }
feature_configs { match_feature { feature_name: "hit_ids" nested_map: "user:nested" pkey: "ALL" skey: "feature:first_tag"
  value_dim: 0 default_value: "" hash_bucket_size: 40 embedding_dim: 8 show_pkey: true } }
feature_configs { bool_mask_feature { feature_name: "shown_tags" expression: "item:tags" expression: "item:shown"
  hash_bucket_size: 30 embedding_dim: 8 } }
feature_configs { raw_feature { feature_name: "score_again" expression: "feature:tag_score" } }
feature_configs { sequence_feature { sequence_name: "clicks" sequence_length: 4 sequence_delim: ";"
  features { combo_feature { feature_name: "city" expression: "user:city" expression: "item:item" hash_bucket_size: 70 embedding_dim: 8 } }
  features { lookup_feature { feature_name: "score" map: "user:scores" key: "item:item" default_value: "0.25" } } } }
feature_configs { sequence_combine_feature { feature_name: "basket" expression: "user:baskets" sequence_length: 3 separator: "," } }
"""

CONFIG = """
model_dir: "m"
train_config { sparse_optimizer { adagrad_optimizer { lr: 0.05 } constant_learning_rate { } }
  dense_optimizer { adam_optimizer { lr: 0.01 } constant_learning_rate { } } num_steps: 12 save_checkpoints_steps: 100 }
eval_config { }
data_config { batch_size: 100 dataset_type: ParquetDataset fg_mode: FG_DAG label_fields: "label" num_workers: 2 }
""" + FEATURES + """
model_config {
  feature_groups { group_name: "all" group_type: DEEP
    feature_names: ["user_id", "city_tag", "spent", "spent_rank", "tag_score", "tag_vector", "tag_word", "hits", "hit_ids",
                    "shown_tags", "score_again"]
    sequence_groups { group_name: "clicks" feature_names: ["clicks__city", "clicks__score"] }
    sequence_groups { group_name: "baskets" feature_names: ["basket"] }
    sequence_encoders { pooling_encoder { input: "clicks" pooling_type: "mean" } }
    sequence_encoders { pooling_encoder { input: "baskets" pooling_type: "sum" } } }
  multi_tower { towers { input: "all" mlp { hidden_units: [16] } } final { hidden_units: [8] } }
  num_class: 1
  losses { binary_cross_entropy { } }
  metrics { auc { } }
}
"""


def make_rows(rng):
    """Columns of texts, lists and maps; some cells are null or empty."""
    tags, items = ["red", "blue", "big", "x"], ["i1", "i2", "red"]
    table = {name: [] for name in ("user_id", "city", "tags", "amounts", "scores", "vectors", "words", "nested", "shop", "shown",
                                   "clicks__item", "baskets", "label")}

    def some(values, most):
        return [rng.choice(values) for _ in range(rng.randrange(most + 1))]

    for _ in range(ROWS):
        table["user_id"].append(rng.randrange(50))
        table["city"].append(rng.choice(["rome", "oslo" + SEPARATOR + "bergen", "", None]))
        table["tags"].append(some(tags, 3))
        table["amounts"].append(rng.choice([None, [rng.randrange(10) / 2 for _ in range(rng.randrange(4))]]))
        table["scores"].append([(key, rng.randrange(8) / 4) for key in set(some(tags + items, 4))])
        table["vectors"].append(SEPARATOR.join(f"{key}:{rng.randrange(9)},{rng.randrange(9)}" for key in set(some(tags, 3))))
        table["words"].append(SEPARATOR.join(f"{key}:{rng.choice(['up', 'down', 'odd'])}" for key in set(some(tags, 4))))
        table["nested"].append("|".join(f"{shop}^" + ",".join(f"{key}:{rng.randrange(6)}" for key in set(some(tags, 3)) | {"none"})
                                        for shop in set(some(["s1", "s2"], 3))))
        table["shop"].append(rng.choice(["s1", "s2", None]))
        table["shown"].append([rng.randrange(2) for _ in table["tags"][-1]])
        table["clicks__item"].append(rng.choice([None, ";".join(rng.choice(items + [""]) for _ in range(rng.randrange(1, 6)))]))
        table["baskets"].append([",".join(str(rng.randrange(5)) for _ in range(rng.randrange(3))) for _ in range(rng.randrange(5))])
        table["label"].append(float(rng.random() < (0.8 if "red" in table["tags"][-1] else 0.2)))
    return table


TYPES = {"scores": pyarrow.map_(pyarrow.string(), pyarrow.float64()), "label": pyarrow.float32(),
         "amounts": pyarrow.list_(pyarrow.float64()), "tags": pyarrow.list_(pyarrow.string()),
         "shown": pyarrow.list_(pyarrow.int64()), "baskets": pyarrow.list_(pyarrow.string())}


def features_of(row):
    """What feature generation makes of a row: name -> list of values, of sequences list of elements."""
    cities = [city for city in (row["city"] or "").split(SEPARATOR) if city]
    tag = row["tags"][0] if row["tags"] else "none"
    pairs = lambda text: dict(pair.split(":") for pair in text.split(SEPARATOR) if pair)
    scores, vectors, words = dict(row["scores"]), pairs(row["vectors"]), pairs(row["words"])
    nested = {shop: dict(pair.split(":") for pair in inner.split(","))
              for shop, inner in (outer.split("^") for outer in row["nested"].split("|") if outer)}
    found = [scores[tag] for tag in row["tags"] if tag in scores]
    hit = nested.get(row["shop"], {}).get(tag, 0)
    vector = next((vectors[tag].split(",") for tag in row["tags"] if tag in vectors), [0, 0])
    elements = (row["clicks__item"] or "").split(";")[:4]
    baskets = [[float(number) for number in element.split(",") if number] for element in row["baskets"]][:3] or [[]]
    vocabulary = {"up": 0, "down": 1}
    return {
        "user_id": [row["user_id"]],
        "city_tag": [murmur(f"{city}_{tag}") % 60 for city in cities],
        "spent": [numpy.mean(row["amounts"]) / 10 if row["amounts"] else 0],
        "spent_rank": [sum(bound <= max(row["amounts"]) for bound in (2.5, 5, 7.5))] if row["amounts"] else [],
        "tag_score": [sum(found) if found else -0.5],
        "score_again": [sum(found) if found else -0.5],
        "tag_vector": vector,
        "tag_word": [vocabulary.get(words[tag], 3) for tag in row["tags"] if tag in words],
        "hits": [hit],
        "hit_ids": [murmur(f"hit_ids_{shop}_{inner[tag]}") % 40 for shop, inner in nested.items() if tag in inner],
        "shown_tags": [murmur(tag) % 30 for tag, shown in zip(row["tags"], row["shown"]) if shown],
        "clicks__city": [murmur(f"{cities[0]}_{item}" if item and cities else "0") % 70 for item in elements],
        "clicks__score": [[scores.get(item, 0.25)] for item in elements],
        "basket": [[sum(element)] for element in baskets],
    }


def dictionary(rows):
    """The input of the exported model."""
    data, each = {}, [features_of(row) for row in rows]
    for name in each[0]:
        cells = [features[name] for features in each]
        dense = name in ("spent", "tag_score", "score_again", "tag_vector", "hits")
        kind = torch.float32 if dense or name in ("clicks__score", "basket") else torch.int64
        if dense:
            data[name + ".values"] = torch.tensor([[float(value) for value in cell] for cell in cells], dtype=kind)
            continue
        data[name + ".values"] = torch.tensor([value for cell in cells for value in cell], dtype=kind)
        data[name + ".lengths"] = torch.tensor([len(cell) for cell in cells])
    return data


class Derived(Case):
    def test_all_kinds_from_check_to_prediction(self):
        rows = make_rows(random.Random(3))
        table = pyarrow.table({name: pyarrow.array(cells, TYPES.get(name)) for name, cells in rows.items()})
        pyarrow.parquet.write_table(table, self.dir / "rows.parquet", row_group_size=64)
        (self.dir / "assets").mkdir()
        (self.dir / "assets/words.txt").write_text("up 0\ndown 1\nother 3\n")
        (self.dir / "p.config").write_text(CONFIG.replace("ASSETS", str(self.dir / "assets")))
        inputs = json.dumps({"train_input_path": str(self.dir / "rows.parquet"), "eval_input_path": str(self.dir / "rows.parquet")})
        common = ["--pipeline_config_path", "p.config", "--edit_config_json", inputs]
        self.assertIn("good", self.run_program(ANNEAL, "check", "p.config"))
        self.run_program(ANNEAL, "train", *common)
        self.run_program(ANNEAL, "eval", *common)
        self.assertGreater(json.loads((self.dir / "m/eval_result.txt").read_text())["auc"], 0.7)
        self.run_program(ANNEAL, "export", *common, "--quantization", "FP32", "--export_dir", "x", "--verify_input_path", "rows.parquet")
        # The export stands for itself.
        (self.dir / "assets/words.txt").unlink()
        asset = [path.name for path in (self.dir / "x").glob("words_*.txt")]
        entries = {entry.get("feature_name"): entry for entry in json.loads((self.dir / "x/fg.json").read_text())["features"]}
        self.assertEqual([entries["tag_word"]["vocab_file"]], asset)
        self.assertEqual(entries["tag_vector"]["expression"], "feature:tag_vector__lookup")
        self.assertTrue(entries["tag_vector__lookup"]["stub_type"] and entries["first_tag"]["stub_type"])
        self.run_program(ANNEAL, "predict", "--scripted_model_path", "x", "--predict_input_path", "rows.parquet", "--predict_output_path", "p1")
        (self.dir / "assets/words.txt").write_text("up 0\ndown 1\nother 3\n")
        self.run_program(ANNEAL, "predict", *common, "--predict_input_path", "rows.parquet", "--predict_output_path", "p2", "--batch_size", "77")
        one, two = (pyarrow.parquet.read_table(self.dir / out / "part-0.parquet")["probs"].to_numpy() for out in ("p1", "p2"))
        numpy.testing.assert_allclose(one, two, atol=1e-6)
        self.assertGreater(one.std(), 0.05)
        # The features as Python computes them, in the exported model.
        answers = torch.jit.load(str(self.dir / "x/scripted_model.pt"))(dictionary(table.to_pylist()))["probs"].detach().numpy()
        numpy.testing.assert_allclose(answers, one, atol=1e-6)

    def test_faults_have_a_place(self):
        text = CONFIG.replace("feature:first_tag\"\n", "feature:first_tags\"\n").replace("combiner: \"max\"", "combiner: \"gap_max\"")
        (self.dir / "p.config").write_text(text.replace("ASSETS", "a"))
        said = self.run_program(ANNEAL, "check", "p.config", expect=64)
        self.assertRegex(said, r"p.config:\d+:\d+: feature_configs\[2\]\.combo_feature\.expression\[1\]: there is no feature 'first_tags' "
                               r"\(did you mean 'first_tag'\?\)")
        self.assertRegex(said, r"p.config:\d+:\d+: feature_configs\[4\]\.combine_feature\.combiner: 'gap_max': not supported yet")


if __name__ == "__main__":
    unittest.main(verbosity=2)
