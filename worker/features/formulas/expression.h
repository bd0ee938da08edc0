// The expression language of expr_feature and of the normalizers' method "expression" (parity/features.md 4.7, 4.12):
// its text compiled once, evaluated over columns of numbers or over the vectors of a row.
//
// Operators and constants are muParser's, as are the precedences that the parity facts list; what these leave open
// follows muParser as well. From loose to tight:
//
//     ?:                     right to left, so a ? b : c ? d : e is a ? b : (c ? d : e)
//     ||  &&                 1 or 0
//     |   &                  bits of both operands cut to whole numbers
//     <= >= != == > <        1 or 0; left to right, so 3 > 2 > 1 is (3 > 2) > 1
//     + -      * /
//     - +                    signs: -2 ^ 2 is -(2 ^ 2), and 2 ^ -1 is a half
//     ^                      power; right to left, so 2 ^ 3 ^ 2 is 2 ^ (3 ^ 2)
//
// Constants _pi and _e; numbers as 1, 1.5, .5, 1e-3; names are letters, digits and '_'; functions: functions.h.
//
// Everything is computed in float64, comparisons included, and nothing is an error once the text is compiled: 1 / 0 is
// infinite, log(-1) and 0 / 0 are NaN. Any result of a NaN is NaN, but for comparisons (false, != true), ==, isnan,
// len, and conditions (&&, ||, ?:), where NaN counts as true. | and & of what is no 64-bit whole number are NaN.
//
// Where one operand of an operator or function is a vector, the result is one, value by value; an operand of one value
// goes with every value of the other, and a shorter vector is filled up with `fill`. Vector functions take the whole
// vector and give one value; in an expression that has one, variables outside of them have to have one value.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "worker/features/formulas/functions.h"

namespace anneal::features {

class Expression {
 public:
  static constexpr size_t kLongest = 16384;  ///< bytes of text
  static constexpr int kDeepest = 128;       ///< of calls of the parser: a bracket within another takes two
  static constexpr int kMostSlots = 128;     ///< values that wait for an operator

  /// What evaluation works in: one for each thread, used again and again.
  class Scratch {
   private:
    friend class Expression;
    std::vector<double> slots;
    std::vector<double> filled[kMostArguments];
    std::vector<Values> operands;
  };

  /// `variables` are the names that `text` may use. Throws ConfigError: `where`, the text, the position (characters,
  /// from 1) and what was expected there.
  Expression(std::string_view text, const std::vector<std::string>& variables, const std::string& where);

  double fill = std::numeric_limits<double>::quiet_NaN();  ///< fill_missing
  uint64_t seed = 0;                                       ///< of rnd(), with the row's number

  bool random() const { return random_; }  ///< there is an rnd() in it

  /// One number per variable and row: writes out[i * stride] for `rows` rows, numbered from `first_row` for rnd().
  void EvaluateRows(std::span<const double* const> columns, int64_t rows, int64_t first_row, float* out, int64_t stride,
                    Scratch& scratch) const;

  /// One row: a vector per variable, none empty. The result lies in `scratch` or `vectors`. Throws Refusal for a vector
  /// where one value has to be.
  Values EvaluateRow(std::span<const Values> vectors, int64_t row, Scratch& scratch) const;

  /// Of one number for the one variable; without rnd().
  double operator()(double x) const;

 private:
  friend class ExpressionParser;

  struct Operand {
    enum class Kind : uint8_t { kVariable, kConstant, kSlot };
    Kind kind = Kind::kConstant;
    int index = 0;
  };
  struct Instruction {
    const Function* function = nullptr;
    Operand operands[kMostArguments];
    int count = 0;  ///< of operands
    int slot = 0;   ///< of the result
  };

  /// Runs all instructions on `rows` rows, or on one row's vectors. A slot has room for `most` values. Without
  /// `filled` (of kMostArguments) no two vectors of different lengths may meet.
  Values Run(std::span<const Values> variables, int64_t rows, int64_t first_row, double* slots, int64_t most,
             std::vector<double>* filled) const;

  std::vector<std::string> names_;  ///< of the variables
  std::vector<double> constants_;
  std::vector<Instruction> program_;
  Operand result_;
  int slots_ = 0;
  bool reduces_ = false, random_ = false;
  std::vector<bool> single_;  ///< variables that have to have one value
};

}  // namespace anneal::features
