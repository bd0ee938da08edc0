"""The export image: AOTInductor compiles the example's model in it, without a way to write but /tmp."""
import image


class Export(image.ImageTest):
    images = ("operator", "worker", "export")

    def test_aot_and_onnx(self):
        config = self.unpack("export")
        self.assertEqual((config["User"], config["Entrypoint"]), ("65532:65532", ["/usr/local/bin/anneal"]))
        environment = [entry.split("=", 1) for entry in config["Env"] if not entry.startswith("PATH=")]
        said = self.run_in("/bin/sh", "-ec", """id -u | grep -qx 65532; cd /tmp
            anneal-movielens-prepare --synthetic 3000 --out data
            anneal train --pipeline_config_path pipeline.config --model_dir model --train_input_path data/train.parquet \\
              --eval_input_path data/eval.parquet --edit_config_json '{"train_config.num_epochs": 1}'
            for format in AOT AOTUnified ONNX; do
              anneal export --pipeline_config_path pipeline.config --export_dir $format --verify_input_path data/test.parquet \\
                --edit_config_json '{"model_dir": "model"}' --format $format
            done
            test -s AOT/aoti/aoti_model.pt2; test -s AOTUnified/aoti/aoti_model.pt2; test -s ONNX/dense.onnx""", env=environment, seconds=900)
        self.assertEqual(said.count("verified in a fresh process"), 3)
        self.assertIn("Read-only file system", self.run_in("/bin/sh", "-c", "touch /opt/anneal/new", fails=True))


if __name__ == "__main__":
    image.main()
