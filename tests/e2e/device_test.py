"""Where a worker computes: what it says where there is no GPU."""
import unittest

from harness import ANNEAL, GOLDEN, Case

TRAIN = GOLDEN / "train"


@unittest.skipUnless(TRAIN.exists(), "the golden files are not on this machine")
class Device(Case):
    def command(self):
        return (ANNEAL, "train", "--pipeline_config_path", TRAIN / "deepfm_fused.config", "--model_dir", self.dir / "m",
                "--train_input_path", TRAIN / "data/deepfm_train.parquet", "--eval_input_path", TRAIN / "data/deepfm_eval.parquet")

    def test_without_a_gpu_it_says_what_is_missing(self):
        text = self.run_program(*self.command(), env={"ANNEAL_DEVICE": "cuda"}, expect=64)
        self.assertRegex(text, r"ANNEAL_DEVICE=cuda: .*(this is a CPU build, without .*libanneal_cuda.so|no CUDA device is visible)")
        text = self.run_program(*self.command(), env={"ANNEAL_DEVICE": "tpu"}, expect=64)
        self.assertIn("environment variable ANNEAL_DEVICE='tpu': one of auto, cpu, cuda", text)
        self.assertFalse((self.dir / "m").exists())

    def test_without_fbgemm_it_says_what_is_missing(self):
        empty = self.dir / "empty"
        empty.mkdir()
        text = self.run_program(*self.command(), env={"ANNEAL_TABLES": "fbgemm", "ANNEAL_FBGEMM": str(empty)}, expect=64)
        self.assertIn(f"FBGEMM's libraries are not in {empty} (environment variable ANNEAL_FBGEMM)", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
