"""Every kind of head through train, eval, predict and export; what wrong heads are told."""
import json
import math
import re
import unittest

import numpy
import pyarrow
import pyarrow.parquet

from harness import ANNEAL, GOLDEN, TWO_RANKS, Case, edits, scalars, weights

ZOO = GOLDEN / "zoo"
ROWS = ZOO / "data/rank_eval.parquet"


def config_text(label, head, where=ZOO / "deepfm/pipeline.config"):
    """DeepFM of the golden files with another label and head."""
    text = where.read_text()
    text = text.replace('label_fields: "clk"', f'label_fields: "{label}"')
    return re.sub(r"(?s)  losses \{\n.*\Z", head + "\n}\n", text)


def columns(path, names=None):
    table = pyarrow.parquet.read_table(path)
    return {name: numpy.array(table[name].to_pylist()) for name in names or table.column_names}


@unittest.skipUnless(ZOO.exists(), "the golden files are not on this machine")
class Heads(Case):
    def through(self, label, head, ranks=True):
        """(evaluation, predictions as arrays, labels, training output) of a head that went the whole way"""
        config = self.dir / "pipeline.config"
        config.write_text(config_text(label, head))
        common = ["--pipeline_config_path", config]
        more = {"train_config.num_steps": 30, "train_config.use_tensorboard": True, "model_dir": str(self.dir / "m"),
                "train_input_path": str(ZOO / "data/rank_train.parquet"), "eval_input_path": str(ROWS)}
        edited = [*common, "--edit_config_json", edits(**more)]
        text = self.run_program(ANNEAL, "train", *edited)
        evaluate = [ANNEAL, "eval", *edited]
        self.run_program(*evaluate)
        if ranks:  # 1,024 rows in batches of 100: rank 0 has more than rank 1
            uneven = edits(**{**more, "data_config.eval_batch_size": 100})
            self.launch(*TWO_RANKS, "eval", *common, "--edit_config_json", uneven)
        lines = [json.loads(line) for line in (self.dir / "m/eval_result.txt").read_text().splitlines()]
        during = json.loads((self.dir / "m/train_eval_result_v2.txt").read_text().splitlines()[-1])
        for line in lines:
            self.assertEqual(sorted(line), sorted(during))
            for name, value in during.items():
                # The sessions of a JRC loss are those of the batch: other batches, another loss.
                if not (name.startswith("jrc") and line is lines[-1]):
                    self.assertAlmostEqual(line[name], value, delta=2e-6 * max(1, abs(value)), msg=name)
        rows = ["--predict_input_path", ROWS]
        self.run_program(ANNEAL, "predict", *edited, *rows, "--predict_output_path", self.dir / "p")
        self.run_program(ANNEAL, "export", *edited, "--quantization", "FP32", "--export_dir", self.dir / "x")
        self.run_program(ANNEAL, "predict", "--scripted_model_path", self.dir / "x", *rows, "--predict_output_path", self.dir / "q")
        predicted, exported = (columns(self.dir / folder / "part-0.parquet") for folder in ("p", "q"))
        self.assertEqual(sorted(predicted), sorted(exported))
        for name, values in predicted.items():
            numpy.testing.assert_allclose(values, exported[name], atol=1e-5, err_msg=name)
        return during, predicted, columns(ROWS, ["cls3", "y", "clk", "city"]), text

    def test_three_classes(self):
        result, predicted, rows, text = self.through("cls3", """
  losses { softmax_cross_entropy { label_smoothing: 0.1 } }
  metrics { multiclass_auc { } }
  metrics { accuracy { top_k: 2 } }
  train_metrics { accuracy { } decay_step: 8 decay_rate: 0.5 }
  num_class: 3""")
        self.assertEqual(sorted(predicted), ["logits", "probs"])
        probs, label = predicted["probs"], rows["cls3"]
        self.assertEqual(probs.shape, (1024, 3))
        numpy.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)
        smooth = numpy.full((1024, 3), 0.1 / 3)
        smooth[numpy.arange(1024), label] += 0.9
        self.assertAlmostEqual(result["softmax_cross_entropy"], -(smooth * numpy.log(probs)).sum(1).mean(), delta=2e-6)
        best = numpy.argsort(-probs, 1)[:, :2]
        self.assertAlmostEqual(result["accuracy"], (best == label[:, None]).any(1).mean(), delta=1e-6)
        self.assertGreater(result["multiclass_auc"], 0.5)
        # 0 until the first window of eight steps ends; then it moves once a window.
        seen = scalars(self.dir / "m")
        values = [seen["metric/accuracy", step] for step in range(30)]
        self.assertEqual(values[:7], [0.0] * 7)
        self.assertEqual(len(set(values[7:])), 3)
        for window in (values[7], values[15], values[23]):
            self.assertTrue(0.1 < window < 0.9)
        self.assertEqual(values[7:15], [values[7]] * 8)

    def test_regression(self):
        result, predicted, rows, _ = self.through("y", """
  losses { l2_loss { } }
  metrics { mean_absolute_error { } }
  metrics { mean_squared_error { } }
  metrics { xauc { sample_ratio: 1.0 } }
  metrics { grouped_xauc { grouping_key: "user_id" } }
  train_metrics { mean_squared_error { } decay_step: 5 }
  train_metrics { xauc { } decay_step: 5 }""")
        self.assertEqual(sorted(predicted), ["y"])
        y, label = predicted["y"], rows["y"].astype(float)
        self.assertAlmostEqual(result["l2_loss"], ((y - label) ** 2).mean(), delta=1e-5)
        self.assertAlmostEqual(result["mean_squared_error"], ((y - label) ** 2).mean(), delta=1e-5)
        self.assertAlmostEqual(result["mean_absolute_error"], abs(y - label).mean(), delta=1e-5)
        i, j = numpy.triu_indices(1024, 1)
        self.assertAlmostEqual(result["xauc"], ((label[i] - label[j]) * (y[i] - y[j]) > 0).mean(), delta=1e-6)
        self.assertGreater(scalars(self.dir / "m")["metric/xauc", 29], 0.3)

    def test_joint_ranking_and_calibration(self):
        result, predicted, rows, _ = self.through("clk", """
  losses { jrc_loss { session_name: "city" alpha: 0.3 } }
  metrics { auc { } }
  metrics { grouped_auc { grouping_key: "city" } }
  num_class: 2""")
        self.assertEqual(sorted(predicted), ["logits", "probs", "probs1"])
        numpy.testing.assert_array_equal(predicted["probs"][:, 1], predicted["probs1"])
        areas = []
        city = numpy.array([0 if value is None else value for value in rows["city"]])
        for group in sorted(set(city)):
            p, y = predicted["probs1"][city == group], rows["clk"][city == group]
            if 0 < y.sum() < len(y):
                apart = p[y == 1][:, None] - p[y == 0][None, :]
                areas.append((apart > 0).mean() + 0.5 * (apart == 0).mean())
        self.assertAlmostEqual(result["grouped_auc"], numpy.mean(areas), delta=1e-6)
        self.assertIn('"grouped_auc": ', (self.dir / "m/eval_result.txt").read_text())

    def test_focal(self):
        result, predicted, rows, text = self.through("clk", """
  losses { binary_focal_loss { gamma: 1.5 alpha: 0.6 } }
  metrics { auc { } }
  metrics { normalized_entropy { } }
  train_metrics { auc { } decay_step: 10 }""")
        self.assertEqual(sorted(predicted), ["logits", "probs"])
        p, y = predicted["probs"].astype(float), rows["clk"]
        entropy = -(y * numpy.log(p) + (1 - y) * numpy.log(1 - p))
        focus = 0.6 * y * (1 - p) ** 1.5 + 0.4 * (1 - y) * p ** 1.5
        self.assertAlmostEqual(result["binary_focal_loss"], (entropy * focus).mean(), delta=1e-6)
        rate = y.mean()
        base = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
        self.assertAlmostEqual(result["normalized_entropy"], entropy.mean() / base, delta=1e-6)
        seen = scalars(self.dir / "m")
        self.assertEqual(seen["metric/auc", 8], 0.0)
        self.assertTrue(0.3 < seen["metric/auc", 29] < 0.9)

    def test_a_booster_teaches_in_training_only(self):
        golden = ZOO / "rocket_launching"
        light = ["logits_light", "probs_light"]
        pipeline = self.dir / "pipeline.config"
        pipeline.write_text((golden / "pipeline.config").read_text().rstrip().removesuffix("}") + "  train_metrics { auc { } decay_step: 5 }\n}\n")

        def config(model, *more, data=ZOO / "data/rank_train.parquet", **changes):
            return ["--pipeline_config_path", pipeline, "--edit_config_json",
                    edits(**{"train_input_path": str(data), "eval_input_path": str(ROWS), "model_dir": str(self.dir / model),
                             "train_config.use_tensorboard": True, **changes}), *more]

        begin = ["--fine_tune_checkpoint", golden / "weights_init.safetensors"]
        self.run_program(ANNEAL, "train", *config("one", *begin))
        seen = scalars(self.dir / "one")
        self.assertTrue(all(0.3 < seen["metric/auc_" + head, 18] < 0.8 for head in ("booster", "light")))
        # Rows in an order in which the ranks' parts make the same global batches as one rank.
        order = [b * 256 + part * 128 + i for part in range(2) for b in range(20) for i in range(128)]
        rows = self.dir / "rows.parquet"
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(ZOO / "data/rank_train.parquet").take(pyarrow.array(order)), rows)
        self.launch(*TWO_RANKS, "train", *config("two", *begin, data=rows, data_config__batch_size=128))
        self.run_program(ANNEAL, "train", *config("half", *begin, train_config__mixed_precision="BF16"))
        for model, tolerance in (("two", 1e-4), ("half", 2e-2)):
            found = scalars(self.dir / model)
            for step, losses in enumerate(json.loads((golden / "losses.json").read_text())):
                for name, want in losses.items():
                    # What similarities of BF16 outputs have left of their digits counts from 0.1, their largest value.
                    scale = max(abs(want), 0.1) if model == "half" else abs(want)
                    self.assertLessEqual(abs(found["loss/" + name, step] - want), tolerance * scale, f"{model}, step {step}, {name}")
        for model, steps in (("whole", [20]), ("parts", [7, 20])):
            for part, last in enumerate(steps):
                self.launch(*TWO_RANKS, "train", *config(model, *(["--continue_train"] if part else begin), data=rows,
                                                         data_config__batch_size=128, train_config__num_steps=last))
        self.assertEqual(weights(self.dir / "whole/model.ckpt-19"), weights(self.dir / "parts/model.ckpt-19"))
        # What two ranks saved, one and two evaluate: the booster has no rows.
        self.run_program(ANNEAL, "eval", *config("two"))
        self.launch(*TWO_RANKS, "eval", *config("two", data_config__eval_batch_size=100))
        for line in (self.dir / "two/eval_result.txt").read_text().splitlines():
            result = json.loads(line)
            for name, want in json.loads((golden / "eval_result.json").read_text()).items():
                numpy.testing.assert_allclose(result[name], want, atol=1e-5, err_msg=name)
        self.run_program(ANNEAL, "export", *config("two"), "--quantization", "FP32", "--export_dir", self.dir / "x")
        for source, more in (("x", ["--scripted_model_path", self.dir / "x"]), ("two", config("two"))):
            self.run_program(ANNEAL, "predict", *more, "--predict_input_path", ROWS, "--predict_output_path", self.dir / f"p-{source}")
        exported, predicted = (columns(self.dir / f"p-{source}/part-0.parquet") for source in ("x", "two"))
        self.assertEqual([sorted(exported), sorted(predicted)], [light, light])
        for name in light:
            numpy.testing.assert_allclose(exported[name], predicted[name], atol=1e-6, err_msg=name)
        y, p = columns(ROWS, ["clk"])["clk"], predicted["probs_light"].astype(float)
        self.assertAlmostEqual(result["binary_cross_entropy_light"], -(y * numpy.log(p) + (1 - y) * numpy.log(1 - p)).mean(), delta=2e-6)

    def test_train_metrics_on_the_progress_line_and_over_a_resume(self):
        head = """
  losses { binary_cross_entropy { } }
  train_metrics { auc { } decay_step: 7 decay_rate: 0.8 }
  train_metrics { accuracy { } decay_step: 4 }"""
        config = self.dir / "pipeline.config"
        config.write_text(config_text("clk", head))

        def train(model, *more, steps):
            return self.run_program(ANNEAL, "train", "--pipeline_config_path", config, "--model_dir", self.dir / model,
                                    "--train_input_path", ZOO / "data/rank_train.parquet", "--edit_config_json",
                                    edits(eval_input_path="", train_config__num_steps=steps, train_config__use_tensorboard=True),
                                    *more)

        text = train("long", steps=900)
        self.assertRegex(text, r"total_loss: \d\.\d{5} auc:\d\.\d{5} accuracy:\d\.\d{5}")
        train("whole", steps=40)
        train("parts", steps=17)
        train("parts", "--continue_train", steps=40)
        one, two = (json.loads((self.dir / run / "model.ckpt-39/train_state.json").read_text()) for run in ("whole", "parts"))
        self.assertEqual(one["train_metrics"], two["train_metrics"])
        self.assertEqual(one["train_metrics"]["auc"]["updates"], 40)

    def test_wrong_heads_are_told_field_and_line(self):
        lines = [
            ("losses { binary_cross_entropy { } }", "binary_cross_entropy needs num_class 1, it is 2"),
            ("losses { jrc_loss { session_name: \"ctiy\" } }", "there is no feature 'ctiy' (did you mean 'city'?)"),
            ("losses { jrc_loss { session_name: \"age\" } }", "'age' is a dense feature"),
            ("losses { l2_loss { } }", "l2_loss needs num_class 1"),
            ("metrics { grouped_auc { grouping_key: \"nothing\" } }", "there is no feature 'nothing'"),
            ("metrics { mean_absolute_error { } }", None),
            ("metrics { multiclass_auc { average: \"micro\" } }", "'micro' is not macro or weighted"),
            ("metrics { accuracy { top_k: 3 } }", "3 is not in 1 .. num_class 2"),
            ("metrics { recall_at_k { } }", "is a metric of match models"),
            ("train_metrics { auc { } decay_rate: 1.5 }", "must be in [0, 1]"),
            ("metrics { normalized_entropy { } }", "normalized_entropy needs num_class 1"),
            ("num_class: 2", None),
        ]
        config = self.dir / "pipeline.config"
        config.write_text(config_text("clk", "\n".join("  " + line for line, _ in lines)))
        text = self.run_program(ANNEAL, "check", config, expect=64)
        written = config.read_text().splitlines()
        for line, message in lines:
            if message:
                number = written.index("  " + line) + 1
                self.assertRegex(text, rf"pipeline\.config:{number}:\d+: model_config\.[a-z_.\[\]0-9]+: .*{re.escape(message)}")
        config.write_text(config_text("y", "  losses { softmax_cross_entropy { } }\n  num_class: 3"))
        text = self.run_program(ANNEAL, "train", "--pipeline_config_path", config, "--model_dir", self.dir / "m",
                                "--train_input_path", ROWS, "--edit_config_json", edits(eval_input_path=""), expect=78)
        self.assertIn("label column y holds ", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
