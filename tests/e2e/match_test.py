"""Match models as a user runs them: towers exported, vectors predicted and compared, ranks, resuming, what is refused."""
import json
import math
import unittest

import numpy
import pyarrow.parquet
import torch

from export_test import tensors
from harness import ANNEAL, GOLDEN, TWO_RANKS, Case, edits, scalars, weights

ZOO = GOLDEN / "zoo"
DATA, EVAL = ZOO / "data/seq_train.parquet", ZOO / "data/seq_eval.parquet"


def cross_entropy(users, items, temperature):
    """Mean over batches of 256 rows, each row's own item among the batch's."""
    losses = []
    for first in range(0, len(users), 256):
        similarity = torch.tensor(users[first:first + 256] @ items[first:first + 256].T / temperature)
        losses.append(torch.nn.functional.cross_entropy(similarity, torch.arange(len(similarity))).item())
    return sum(losses) / len(losses)


@unittest.skipUnless(ZOO.exists(), "the golden files are not on this machine")
class Match(Case):
    def config(self, case, model, *more, path=None, **config):
        return ["--pipeline_config_path", path or ZOO / case / "pipeline.config", "--edit_config_json",
                edits(**{"train_input_path": str(DATA), "eval_input_path": str(EVAL), "model_dir": str(self.dir / model),
                         "train_config.use_tensorboard": True, **config}), *more]

    def train(self, case, model, *more, **config):
        return self.run_program(ANNEAL, "train", *self.config(case, model, *more, **config))

    def predict(self, export, tower, data=EVAL):
        out = self.dir / f"predicted-{export.name}-{tower}"
        self.run_program(ANNEAL, "predict", "--scripted_model_path", export / tower, "--predict_input_path", data,
                         "--predict_output_path", out, "--batch_size", "100")
        table = pyarrow.parquet.read_table(out / "part-0.parquet")
        self.assertEqual(table.column_names, [f"{tower}_tower_emb"])
        return numpy.array(table[0].to_pylist())

    def test_towers_give_the_references_vectors(self):
        whole = self.dir / "whole.safetensors"
        for case in ("QUANT_EMB=0", "default", "QUANT_EMB=FP16", "QUANT_EMB=INT4"):
            golden, export = ZOO / "dssm/export" / case, self.dir / case
            if not whole.exists():  # of both towers, before their tables were quantised
                state = {**tensors(golden / "user/scripted_state.safetensors"), **tensors(golden / "item/scripted_state.safetensors")}
                self.write_safetensors(whole, state)
            environment = dict([case.split("=")]) if "=" in case else {}
            self.run_program(ANNEAL, "export", *self.config("dssm", "none"), "--checkpoint_path", whole, "--export_dir", export,
                             env=environment)
            report = json.loads((export / "export_report.json").read_text())
            self.assertTrue(report["passed"])
            self.assertEqual(set(report["files"]), {str(p.relative_to(export)) for p in export.rglob("*") if p.is_file()} - {"export_report.json"})
            for tower in ("user", "item"):
                model = torch.jit.load(str(export / tower / "scripted_model.pt"))
                want = tensors(golden / tower / "outputs32.safetensors")
                outputs = model(tensors(golden / tower / "inputs32.safetensors"))
                self.assertEqual(list(outputs), list(want))
                for name, vectors in want.items():
                    self.assertLessEqual((outputs[name] - vectors).abs().max().item(), 1e-6, (case, name))
                # Only what the tower reads is asked for.
                with self.assertRaises(Exception):
                    model({})
                if case == "QUANT_EMB=0":
                    self.assertEqual(sorted(model.state_dict()), sorted(tensors(golden / tower / "scripted_state.safetensors")))
                for file in ("fg.json", "model_acc.json"):
                    self.assertEqual(json.loads((export / tower / file).read_text()), json.loads((golden / tower / file).read_text()), file)
                features = [line for line in (export / tower / "pipeline.config").read_text().splitlines() if "feature_name:" in line]
                self.assertEqual(len(features), 3)

    def write_safetensors(self, path, state):
        header, data = {}, b""
        for name, value in state.items():
            raw = value.numpy().tobytes()
            header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)

    def test_predicted_vectors_give_the_evaluations_loss(self):
        self.train("dssm", "m")
        export = self.dir / "x"
        self.run_program(ANNEAL, "export", *self.config("dssm", "m"), "--export_dir", export, "--quantization", "FP32",
                         "--item_input_path", ZOO / "data/items.parquet")
        report = json.loads((export / "export_report.json").read_text())
        self.assertEqual([report["parts"][tower]["rows"] for tower in ("user", "item")], [1024, 200])
        users, items = self.predict(export, "user"), self.predict(export, "item")
        self.assertEqual((users.shape, items.shape), ((1024, 8), (1024, 8)))
        result = json.loads((self.dir / "m/train_eval_result_v2.txt").read_text())
        self.assertAlmostEqual(cross_entropy(users, items, 0.1), result["softmax_cross_entropy"], delta=2e-5)
        # A file of items alone, and the same item has the same vector wherever it stands.
        catalogue = self.predict(export, "item", ZOO / "data/items.parquet")
        self.assertEqual(catalogue.shape, (200, 8))
        table = pyarrow.parquet.read_table(EVAL)
        known = pyarrow.parquet.read_table(ZOO / "data/items.parquet")
        rows = {item: i for i, item in enumerate(known["item_id"].to_pylist())}
        same = 0
        for i, item in enumerate(table.to_pylist()):
            row = known.slice(rows[item["item_id"]], 1).to_pylist()[0] if item["item_id"] in rows else None
            if row and row["cate"] == item["cate"] and row["price"] == item["price"]:
                same += 1
                self.assertLessEqual(abs(items[i] - catalogue[rows[item["item_id"]]]).max(), 1e-6)
        self.assertGreater(same, 500)

    def test_interests_are_the_same_in_evaluation_export_and_prediction(self):
        """With routing that starts from random numbers, as MIND's default is."""
        routing = {"model_config.mind.user_tower.capsule_config.routing_init_method": "normal"}
        self.train("mind", "m", **routing)
        export = self.dir / "x"
        self.run_program(ANNEAL, "export", *self.config("mind", "m", **routing), "--export_dir", export, "--quantization", "FP32")
        users, items = self.predict(export, "user"), self.predict(export, "item")
        self.assertEqual(users.shape, (1024, 3 * 8))
        users = torch.tensor(users.reshape(1024, 3, 8))
        scores = 5.0 * torch.einsum("bkd,bd->bk", users, torch.tensor(items))
        scores = scores.masked_fill(users.abs().sum(2) == 0, float("-inf"))  # interests that the row does not have
        weighted = torch.einsum("bk,bkd->bd", torch.softmax(scores, 1), users)
        result = json.loads((self.dir / "m/train_eval_result_v2.txt").read_text())
        self.assertAlmostEqual(cross_entropy(weighted.numpy(), items, 0.2), result["softmax_cross_entropy"], delta=2e-5)
        # Rows with one interest and rows with three.
        active = (users.abs().sum(2) > 0).sum(1)
        self.assertEqual({int(n) for n in active}, {1, 2, 3})
        self.assertGreater((users[active == 3][:, 0] - users[active == 3][:, 1]).abs().max().item(), 1e-3)

    def test_weighted_rows(self):
        """mean(loss w) / mean(w), from the reference's similarities of the first batch; label smoothing is ignored."""
        self.train("dssm", "m", "--fine_tune_checkpoint", ZOO / "dssm/weights_init.safetensors", train_config__num_steps=1,
                   data_config__sample_weight_fields=["w"],
                   **{"model_config.losses[0].softmax_cross_entropy.label_smoothing": 0.1})
        similarity = tensors(ZOO / "dssm/step1_predictions.safetensors")["train/similarity"]
        w = torch.tensor(pyarrow.parquet.read_table(DATA)["w"].to_pylist()[:256])
        rows = torch.nn.functional.cross_entropy(similarity, torch.arange(256), reduction="none")
        want = ((rows * w).mean() / w.mean()).item()
        self.assertGreater(abs(want - rows.mean().item()), 1e-4)
        self.assertAlmostEqual(scalars(self.dir / "m")["loss/softmax_cross_entropy", 0], want, delta=1e-5)

    def test_towers_of_dssm_v2_share_their_tables(self):
        text = (ZOO / "dssm/pipeline.config").read_text().replace("  dssm {", "  dssm_v2 {")
        # A feature of users and one of items on one table.
        text = text.replace('feature_name: "city"\n', 'feature_name: "city"\n    embedding_name: "place"\n', 1)
        text = text.replace('feature_name: "cate"\n', 'feature_name: "cate"\n    embedding_name: "place"\n', 1)
        text = text.replace("num_buckets: 20\n", "num_buckets: 40\n")
        config = self.dir / "v2.config"
        config.write_text(text)
        self.train("", "m", path=config)
        names = weights(self.dir / "m/model.ckpt-19")
        tables = sorted(name.split("embedding_bags.")[1] for name in names if "embedding_bags" in name)
        self.assertEqual(tables, ["item_id_emb.weight", "place.weight", "user_id_emb.weight"])
        self.assertTrue(all(name.startswith(("model.embedding_group.", "model.user_tower.", "model.item_tower.")) for name in names))
        self.run_program(ANNEAL, "export", *self.config("", "m", path=config), "--export_dir", self.dir / "x")
        model = torch.jit.load(str(self.dir / "x/user/scripted_model.pt"))
        self.assertFalse([name for name in model.state_dict() if "item" in name])

    def test_two_ranks(self):
        """Negatives are those of a rank's own batch: the first loss is the mean of two runs on a rank's rows each."""
        table = pyarrow.parquet.read_table(DATA)
        first = []
        for part in range(2):
            rows = self.dir / f"rows-{part}.parquet"
            pyarrow.parquet.write_table(table.slice(part * 2560, 2560), rows)
            self.train("dssm", f"one-{part}", "--fine_tune_checkpoint", ZOO / "dssm/weights_init.safetensors", train_input_path=str(rows),
                       train_config__num_steps=1, data_config__batch_size=128)
            first.append(scalars(self.dir / f"one-{part}")["loss/softmax_cross_entropy", 0])
        seen = {}
        for case, sharding in (("dssm", "table_wise"), ("dssm", "row_wise"), ("mind", "row_wise"), ("mind", "column_wise")):
            model = f"{case}-{sharding}"
            self.launch(*TWO_RANKS, "train", *self.config(
                case, model, "--fine_tune_checkpoint", ZOO / case / "weights_init.safetensors", data_config__batch_size=128,
                train_config__global_embedding_constraints__sharding_types=[sharding]))
            seen[model] = scalars(self.dir / model)
        for case, one, other in (("dssm", "table_wise", "row_wise"), ("mind", "row_wise", "column_wise")):
            for step in range(20):
                key = "loss/softmax_cross_entropy", step
                self.assertAlmostEqual(seen[f"{case}-{one}"][key], seen[f"{case}-{other}"][key], delta=2e-5)
        self.assertAlmostEqual(seen["dssm-row_wise"]["loss/softmax_cross_entropy", 0], sum(first) / 2, delta=1e-5)

    def test_stopped_and_continued_is_the_same(self):
        for case, more in (("dssm", {}), ("mind", {"model_config.mind.user_tower.capsule_config.routing_init_method": "normal"})):
            self.train(case, f"{case}-whole", **more)
            self.train(case, f"{case}-parts", train_config__num_steps=9, **more)
            self.train(case, f"{case}-parts", "--continue_train", **more)
            whole, parts = (weights(self.dir / f"{case}-{run}/model.ckpt-19") for run in ("whole", "parts"))
            self.assertEqual(whole.keys(), parts.keys())
            for name, raw in whole.items():
                self.assertEqual(raw, parts[name], name)

    def sampling(self, hard=False, **settings):
        """Edits for a sampler over the 200 items; the hard one with up to 2 items of the even users."""
        items = pyarrow.parquet.read_table(ZOO / "data/items.parquet").to_pylist()
        rows = [f"{item['item_id']}\t{1 + item['item_id'] % 3}\t{item['item_id']}:{item['cate']}:{item['price']}" for item in items]
        (self.dir / "items.txt").write_text("\n".join(["id:int64\tweight:float\tattrs:string", *rows]) + "\n")
        fields = {"num_sample": 40, "num_eval_sample": 30, "attr_fields": ["item_id", "cate", "price"], "item_id_field": "item_id", **settings}
        if hard:
            (self.dir / "users.txt").write_text("\n".join(["id:int64\tweight:float", *(f"{user}\t1" for user in range(300))]) + "\n")
            edges = [f"{user}\t{(7 * user + k) % 200}\t1" for user in range(0, 300, 2) for k in range(3)]
            (self.dir / "hard.txt").write_text("\n".join(["src:int64\tdst:int64\tweight:float", *edges]) + "\n")
            fields |= {"item_input_path": str(self.dir / "items.txt"), "user_input_path": str(self.dir / "users.txt"), "num_hard_sample": 2,
                       "hard_neg_edge_input_path": str(self.dir / "hard.txt"), "user_id_field": "user_id"}
        else:
            fields["input_path"] = str(self.dir / "items.txt")
        name = "hard_negative_sampler" if hard else "negative_sampler"
        return {f"data_config.{name}.{field}": value for field, value in fields.items()}

    def test_sampled_negatives(self):
        config = {**self.sampling(), "model_config.dssm.in_batch_negative": False}
        whole = self.train("dssm", "whole", **config)
        # Random similarities: the loss of 41 items of which none is better.
        seen = scalars(self.dir / "whole")
        self.assertAlmostEqual(seen["loss/softmax_cross_entropy", 0], math.log(41), delta=1.0)
        result = json.loads((self.dir / "whole/train_eval_result_v2.txt").read_text())
        self.assertAlmostEqual(result["softmax_cross_entropy"], math.log(31), delta=0.5)
        self.assertLess(1 / 31 / 3, result["recall@1"])
        self.assertIn("item_tower.embedding_group.emb_impls.__NEG__.ebc", "".join(weights(self.dir / "whole/model.ckpt-19")), whole)
        # Evaluated again: the same negatives, the same figures.
        self.run_program(ANNEAL, "eval", *self.config("dssm", "whole", **config))
        again = json.loads((self.dir / "whole/eval_result.txt").read_text())
        for name in ("softmax_cross_entropy", "recall@1", "recall@5"):
            self.assertEqual(again[name], result[name])
        # Stopped and continued: the same bits.
        self.train("dssm", "parts", train_config__num_steps=7, **config)
        self.train("dssm", "parts", "--continue_train", **config)
        one, two = (weights(self.dir / f"{model}/model.ckpt-19") for model in ("whole", "parts"))
        self.assertEqual(one, two)

    def test_the_loss_with_one_negative_that_everybody_has(self):
        """Of the items only the eighth weighs anything: it is every row's negative, 30 times."""
        config = {**self.sampling(), "model_config.dssm.in_batch_negative": False}
        lines = (self.dir / "items.txt").read_text().splitlines()
        lines[1:] = ["\t".join([line.split("\t")[0], "1" if line.startswith("7\t") else "0", line.split("\t")[2]]) for line in lines[1:]]
        (self.dir / "items.txt").write_text("\n".join(lines) + "\n")
        self.train("dssm", "m", **config)
        # An export knows no sampler.
        self.run_program(ANNEAL, "export", *self.config("dssm", "m", **config), "--export_dir", self.dir / "x", "--quantization", "FP32")
        users, items = self.predict(self.dir / "x", "user"), self.predict(self.dir / "x", "item")
        other = self.predict(self.dir / "x", "item", ZOO / "data/items.parquet")[7]
        own, sampled = (users * items).sum(1) / 0.1, users @ other / 0.1
        want = numpy.log(numpy.exp(own) + 30 * numpy.exp(sampled)) - own
        result = json.loads((self.dir / "m/train_eval_result_v2.txt").read_text())
        self.assertAlmostEqual(result["softmax_cross_entropy"], want.mean(), delta=2e-5)

    def test_sampled_and_hard_negatives_on_two_ranks(self):
        for case in ("dssm", "mind"):
            fields = ["item_id", "cate", "price"] if case == "dssm" else ["item_id", "cate"]
            config = {**self.sampling(hard=True, attr_fields=fields), f"model_config.{case}.in_batch_negative": False}
            if case == "mind":  # its items have no price
                text = (self.dir / "items.txt").read_text().splitlines()
                (self.dir / "items.txt").write_text("\n".join([text[0], *(line.rsplit(":", 1)[0] for line in text[1:])]) + "\n")
            seen = {}
            for tables in ("row_wise", "table_wise"):
                self.launch(*TWO_RANKS, "train", *self.config(case, f"{case}-{tables}", data_config__batch_size=128,
                                                              train_config__global_embedding_constraints__sharding_types=[tables], **config))
                seen[tables] = scalars(self.dir / f"{case}-{tables}")
            for step in range(20):
                self.assertAlmostEqual(*(seen[tables]["loss/softmax_cross_entropy", step] for tables in seen), delta=2e-5)
            # In 16 bits: the places of hard negatives that a row has not, interests that it has not.
            self.train(case, f"{case}-float", **config)
            self.train(case, f"{case}-half", train_config__mixed_precision="BF16", **config)
            one, half = scalars(self.dir / f"{case}-float"), scalars(self.dir / f"{case}-half")
            for step in range(20):
                key = "loss/softmax_cross_entropy", step
                self.assertLessEqual(abs(half[key] - one[key]), 2e-2 * one[key])

    def test_hard_negatives_are_those_of_the_rows_user(self):
        """The first batch's loss from the reference's vectors: an even user's two hard items, an odd one's none, one shared item."""
        config = {**self.sampling(hard=True, num_sample=1), "model_config.dssm.in_batch_negative": False}
        lines = (self.dir / "items.txt").read_text().splitlines()
        lines[1:] = ["\t".join([line.split("\t")[0], "1" if line.startswith("7\t") else "0", line.split("\t")[2]]) for line in lines[1:]]
        (self.dir / "items.txt").write_text("\n".join(lines) + "\n")
        init = ZOO / "dssm_sampler/weights_init.safetensors"  # which has the item tower's tables in __NEG__
        self.train("dssm", "m", "--fine_tune_checkpoint", init, train_config__num_steps=1, **config)
        self.run_program(ANNEAL, "export", *self.config("dssm", "m", **config), "--checkpoint_path", init, "--export_dir", self.dir / "x", "--quantization",
                         "FP32", "--verify_input_path", DATA)
        users, items = self.predict(self.dir / "x", "user", DATA)[:256], self.predict(self.dir / "x", "item", DATA)[:256]
        catalogue = self.predict(self.dir / "x", "item", ZOO / "data/items.parquet")
        losses = []
        for row, user in enumerate(pyarrow.parquet.read_table(DATA)["user_id"].to_pylist()[:256]):
            user = user if user is not None else 0
            hard = [(7 * user + k) % 200 for k in range(2)] if user % 2 == 0 else []
            logits = numpy.array([users[row] @ items[row], users[row] @ catalogue[7], *(users[row] @ catalogue[i] for i in hard)]) / 0.1
            losses.append(numpy.log(numpy.exp(logits).sum()) - logits[0])
        self.assertAlmostEqual(scalars(self.dir / "m")["loss/softmax_cross_entropy", 0], sum(losses) / 256, delta=2e-5)

    def test_faults_of_samplers_name_their_place(self):
        off = {"model_config.dssm.in_batch_negative": False}
        check = [ANNEAL, "check", ZOO / "dssm/pipeline.config", "--edit_config_json"]
        text = self.run_program(*check, edits(**{**self.sampling(), **off, "data_config.negative_sampler.input_path": "/none"}), expect=64)
        self.assertIn("data_config.negative_sampler.input_path: there is no file /none", text)
        text = self.run_program(*check, edits(**{**self.sampling(attr_fields=["item_id", "cate"]), **off}), expect=64)
        self.assertIn("feature group 'item': feature 'item_id' is made of data_config.negative_sampler.attr_fields, feature 'price' is not", text)
        self.run_program(*check, edits(**{**self.sampling(attr_fields=["item_id", "cate"]), **off, "data_config.force_base_data_group": True}))
        text = self.run_program(*check, edits(**{**self.sampling(attr_fields=["item_id", "cate", "price", "age"]), **off}), expect=64)
        self.assertIn("feature group 'user': feature 'age' is made of data_config.negative_sampler.attr_fields", text)
        shared = {"model_config.dssm_v2": "{ user_tower { input: 'user' mlp { hidden_units: 8 } } item_tower { input: 'item' mlp { "
                                          "hidden_units: 8 } } output_dim: 8 }"}
        text = self.run_program(*check, edits(**{**self.sampling(), **shared}), expect=64)
        self.assertIn("data_config.force_base_data_group: has to be true for dssm_v2 with a sampler", text)
        self.run_program(*check, edits(**{**self.sampling(), **shared, "data_config.force_base_data_group": True}))
        broken = self.sampling()
        with open(self.dir / "items.txt", "a") as items:
            items.write("200\t-1\t200:3:0.5\n")
        text = self.run_program(ANNEAL, "train", *self.config("dssm", "m", **broken, **off), expect=78)
        self.assertIn("items.txt row 202, column weight: \"-1\" is negative", text)

    def test_what_is_refused(self):
        self.train("dssm", "m", train_config__num_steps=1)
        text = self.run_program(ANNEAL, "predict", *self.config("dssm", "m"), "--predict_input_path", EVAL, "--predict_output_path",
                                self.dir / "p", expect=64)
        self.assertIn("export the towers and pass one of them", text)
        text = self.run_program(ANNEAL, "export", *self.config("dssm", "m"), "--export_dir", self.dir / "x", "--format", "RTP", expect=64)
        self.assertIn("not supported yet for match models", text)
        text = self.run_program(ANNEAL, "train", *self.config("dssm", "n", **{"model_config.dssm.in_batch_negative": False}), expect=64)
        self.assertIn("model_config.dssm.in_batch_negative: is false, and data_config has no negative sampler", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
