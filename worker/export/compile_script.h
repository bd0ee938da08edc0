// The texts of compiler/compile.py and compiler/onnx_tools.py, made part of the program by CMake.
#pragma once

namespace anneal::exporting {

extern const char* const kCompileScript;
extern const char* const kOnnxToolsScript;

}  // namespace anneal::exporting
