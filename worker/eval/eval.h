// `anneal eval`: TorchEasyRec's eval (parity/train.md 14).
#pragma once

#include <string>

namespace anneal::eval {

/// The command line; names and defaults are tzrec.eval's (parity/train.md 20).
struct EvalOptions {
  std::string pipeline_config_path;
  std::string checkpoint_path, eval_input_path, edit_config_json;
  std::string eval_result_filename = "eval_result.txt";
};

/// Evaluates a checkpoint and appends the result line. Returns 0; throws Error otherwise.
int RunEval(const EvalOptions& options);

}  // namespace anneal::eval
