"""The worker's CUDA variant, where there is no device: its libraries load, FBGEMM's CUDA build trains on the CPU."""
import image

TRAIN = "anneal train --pipeline_config_path pipeline.config --train_input_path data/train.parquet --eval_input_path data/eval.parquet" \
    " --edit_config_json '{\"train_config.num_epochs\": 1, \"train_config.sparse_optimizer.adagrad_optimizer.lr\": 0.01}' --model_dir"


class Cuda(image.ImageTest):
    images = ("cuda",)

    def test_libraries(self):
        config = self.unpack("cuda")
        self.assertEqual((config["User"], config["Entrypoint"]), ("65532:65532", ["/usr/local/bin/anneal"]))
        self.absent("python")
        environment = [entry.split("=", 1) for entry in config["Env"] if not entry.startswith("PATH=")]
        prepare = "cd /tmp; anneal-movielens-prepare --synthetic 3000 --out data; "
        said = self.run_in("/bin/sh", "-ec", f"{prepare} ANNEAL_TABLES=fbgemm {TRAIN} fbgemm; {TRAIN} ours; ls fbgemm ours", env=environment, seconds=900)
        self.assertEqual(said.count("train_eval_result"), 2, said)
        said = self.run_in("/bin/sh", "-ec", f"{prepare} ANNEAL_DEVICE=cuda {TRAIN} device", env=environment, fails=True, seconds=900)
        self.assertIn("ANNEAL_DEVICE=cuda: no CUDA device is visible to this process", said)


if __name__ == "__main__":
    image.main()
