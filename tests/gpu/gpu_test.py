"""What only a GPU has: CUDA graphs, TF32, FP16 as GPUs compute it, checkpoints that go between CPU and GPU."""
import json
import os
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

from harness import ANNEAL, TWO_RANKS, Case, edits, scalars  # noqa: E402
from worker_test import TRAIN, train_command  # noqa: E402

DROPOUT = {"model_config.deepfm.deep.dropout_ratio": [0.2, 0.2, 0.2]}
SCALER = {"train_config.grad_scaler.init_scale": 1024, "train_config.grad_scaler.growth_interval": 4}


class Gpu(Case):
    def losses(self, model, graphs=0, device="cuda", **config):
        """Loss of every step; sums have no fixed order on a GPU, so two runs differ in the last digits."""
        config = {"train_config.num_steps": 40, **config}
        text = self.run_program(*train_command(self, model, "--fine_tune_checkpoint", TRAIN / "deepfm_fused/weights_init.safetensors", **config),
                                env={"ANNEAL_CUDA_GRAPHS": str(graphs), "ANNEAL_DEVICE": device})
        self.assertEqual(text.count("CUDA graph recorded"), graphs)
        seen = scalars(self.dir / model)
        return [seen["loss/binary_cross_entropy", step] for step in range(40)]

    def worst(self, one, other):
        return max(abs(a - b) / abs(a) for a, b in zip(one, other))


class Graphs(Gpu):
    def check(self, tolerance=2e-5, **config):
        eager, graphs = self.losses("eager", **config), self.losses("graphs", graphs=1, **config)
        self.assertLess(self.worst(eager, graphs), tolerance)
        self.assertLess(eager[-1], eager[0])
        return eager

    def test_plain(self):
        self.check()

    def test_dropout_draws_the_same_numbers(self):
        dropped = self.check(**DROPOUT)
        self.assertGreater(self.worst(dropped, self.losses("without")), 1e-3)

    def test_accumulation_scaler_and_clipping(self):
        self.check(**SCALER, **{"train_config.gradient_accumulation_steps": 4, "train_config.grad_clipping.clipping_type": "norm",
                                "train_config.grad_clipping.max_gradient": 0.05})

    def test_bf16(self):
        self.check(tolerance=5e-3, **{"train_config.mixed_precision": "BF16"})

    def test_fp16_with_overflows(self):
        config = {"train_config.mixed_precision": "FP16", "train_config.grad_scaler.init_scale": 2.0**36,
                  "train_config.grad_scaler.growth_interval": 100}  # at the edge the two would part by chance
        self.check(tolerance=5e-3, **config)
        scales = [json.loads((self.dir / model / "model.ckpt-39/train_state.json").read_text())["grad_scaler"]["scale"] for model in ("eager", "graphs")]
        self.assertEqual(scales[0], scales[1])
        self.assertLess(scales[0], 2.0**36)

    def test_evaluations_between(self):
        self.check(**{"train_config.save_checkpoints_steps": 10}, **DROPOUT)

    def test_several_heads(self):
        losses = []
        for graphs in (0, 1):
            text = self.run_program(ANNEAL, "train", "--pipeline_config_path", TRAIN / "mmoe_fused.config", "--model_dir", self.dir / f"m{graphs}",
                             "--train_input_path", TRAIN / "data/mmoe_train.parquet", "--eval_input_path", TRAIN / "data/mmoe_eval.parquet",
                             "--fine_tune_checkpoint", TRAIN / "mmoe_fused/weights_init.safetensors", "--edit_config_json",
                             edits(train_config__use_tensorboard=True, train_config__num_steps=40), env={"ANNEAL_CUDA_GRAPHS": str(graphs)})
            self.assertEqual(text.count("CUDA graph recorded"), graphs)
            losses.append({key: value for key, value in scalars(self.dir / f"m{graphs}").items() if key[0].startswith("loss/")})
        self.assertEqual(losses[0].keys(), losses[1].keys())
        self.assertGreater(len({name for name, _ in losses[0]}), 1)
        self.assertLess(max(abs(value - losses[1][key]) / abs(value) for key, value in losses[0].items()), 2e-5)

    def test_two_ranks(self):
        config = {"train_config.num_steps": 20, "data_config.batch_size": 512}
        seen = []
        self.addCleanup(os.environ.pop, "ANNEAL_CUDA_GRAPHS", None)
        for graphs in (0, 1):
            os.environ["ANNEAL_CUDA_GRAPHS"] = str(graphs)
            text = self.launch(*TWO_RANKS, *train_command(self, f"two{graphs}", **config)[1:])
            self.assertEqual("CUDA graph recorded" in text, graphs == 1)
            seen.append(scalars(self.dir / f"two{graphs}"))
        self.assertLess(self.worst(*([s["loss/binary_cross_entropy", step] for step in range(20)] for s in seen)), 2e-5)

    def test_batches_of_another_size(self):
        # 61,440 rows in batches of 4,800: the last of each pass is shorter.
        self.check(**{"data_config.batch_size": 4800})


class Device(Gpu):
    def test_the_same_as_on_the_cpu(self):
        cpu, cuda = self.losses("cpu", device="cpu"), self.losses("cuda")
        self.assertLess(self.worst(cpu[:10], cuda[:10]), 1e-5)
        self.assertLess(self.worst(cpu, cuda), 1e-4)

    def test_tf32_rounds_and_only_when_asked(self):
        exact = self.losses("exact", **{"train_config.cuda_matmul_allow_tf32": False})
        tf32 = self.losses("tf32", **{"train_config.cuda_matmul_allow_tf32": True})
        default = self.losses("default")
        self.assertLess(self.worst(exact, default), 1e-5)  # torch's default is off
        self.assertGreater(abs(exact[0] - tf32[0]) / exact[0], 1e-7)
        self.assertLess(self.worst(exact, tf32), 1e-2)

    def test_mixed_precision_stays_near_float32(self):
        exact = self.losses("exact")
        for name in ("BF16", "FP16"):
            self.assertLess(self.worst(exact, self.losses(name, **{"train_config.mixed_precision": name})), 2e-2)

    def test_checkpoints_go_between_cpu_and_gpu(self):
        self.losses("model")
        results = []
        for device in ("cpu", "cuda"):
            self.run_program(ANNEAL, "eval", "--pipeline_config_path", TRAIN / "deepfm_fused.config", "--eval_input_path",
                             TRAIN / "data/deepfm_eval.parquet", "--checkpoint_path", self.dir / "model/model.ckpt-39",
                             "--edit_config_json", edits(model_dir=str(self.dir / "model")), env={"ANNEAL_DEVICE": device})
            results.append(json.loads((self.dir / "model/eval_result.txt").read_text().splitlines()[-1]))
        self.assertEqual(results[0].keys(), results[1].keys())
        for name, value in results[0].items():
            self.assertAlmostEqual(value, results[1][name], delta=1e-5)
        # Begun on one, continued on the other.
        whole = self.losses("whole", **{"train_config.num_steps": 40})
        for first, second in (("cuda", "cpu"), ("cpu", "cuda")):
            model = f"{first}-{second}"
            command = train_command(self, model, "--fine_tune_checkpoint", TRAIN / "deepfm_fused/weights_init.safetensors",
                                    **{"train_config.num_steps": 20})
            self.run_program(*command, env={"ANNEAL_DEVICE": first})
            self.run_program(*train_command(self, model, "--continue_train", **{"train_config.num_steps": 40}), env={"ANNEAL_DEVICE": second})
            seen = scalars(self.dir / model)
            self.assertLess(self.worst(whole, [seen["loss/binary_cross_entropy", step] for step in range(40)]), 1e-4)


if __name__ == "__main__":
    unittest.main(verbosity=2)
