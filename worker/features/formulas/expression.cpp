#include "worker/features/formulas/expression.h"

#include <algorithm>
#include <charconv>
#include <numbers>

#include "worker/config/error.h"
#include "worker/features/refusal.h"

namespace anneal::features {
namespace {

constexpr int64_t kRowsAtOnce = 256;  // their slots stay in the cache

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsName(char c) { return IsNameStart(c) || IsDigit(c); }

/// A number in [0, 1) for each seed, call and row (SplitMix64).
double Uniform(uint64_t seed, uint64_t call, uint64_t row) {
  uint64_t bits = seed;
  for (const uint64_t part : {call, row}) {
    bits += 0x9e3779b97f4a7c15 * (part + 1);
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
    bits ^= bits >> 31;
  }
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace

/// Writes the program while it reads the text from left to right, by recursive descent.
class ExpressionParser {
 public:
  using Operand = Expression::Operand;
  using Kind = Operand::Kind;

  ExpressionParser(Expression& out, std::string_view text, const std::string& where)
      : out_(out), text_(text), where_(where) {}

  void Parse() {
    if (text_.size() > Expression::kLongest) {
      throw ConfigError(where_ + Shown(text_) + " has " + std::to_string(text_.size()) + " bytes, more than " +
                        std::to_string(Expression::kLongest));
    }
    out_.single_.assign(out_.names_.size(), false);
    SkipBlanks();
    out_.result_ = ParseChoice();
    if (at_ < text_.size()) Expected("an operator or the end");
    if (!out_.reduces_) out_.single_.assign(out_.names_.size(), false);
  }

 private:
  /// Counts what stands within each other, which is also how deep the calls of the parser go.
  class Level {
   public:
    explicit Level(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.depth_ > Expression::kDeepest) parser_.Fail("brackets, signs and conditions are nested too deeply");
    }
    ~Level() { --parser_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    ExpressionParser& parser_;
  };

  Operand ParseChoice() {
    const Level level(*this);
    const Operand condition = ParseBinary(1);
    if (!Take("?")) return condition;
    const Operand then = ParseChoice();
    if (!Take(":")) Expected("an operator or ':'");
    const Operand otherwise = ParseChoice();
    return Emit(Choice(), {condition, then, otherwise});
  }

  /// Operators that bind at least so tight, left to right.
  Operand ParseBinary(int precedence) {
    Operand left = ParseSigned();
    for (;;) {
      const BinaryOperator* const found = FindBinaryOperator(text_.substr(at_));
      if (found == nullptr || found->precedence < precedence) return left;
      at_ += found->function.name.size();
      SkipBlanks();
      const Operand right = ParseBinary(found->precedence + 1);
      left = Emit(found->function, {left, right});
    }
  }

  Operand ParseSigned() {
    const Level level(*this);
    if (Take("-")) return Emit(Negation(), {ParseSigned()});
    if (Take("+")) return ParseSigned();
    const Operand base = ParseOne();
    if (!Take("^")) return base;
    const Operand exponent = ParseSigned();
    return Emit(Power(), {base, exponent});
  }

  Operand ParseOne() {
    if (Take("(")) {
      const Operand inside = ParseChoice();
      if (!Take(")")) Expected("an operator or ')'");
      return inside;
    }
    if (at_ < text_.size() && (IsDigit(text_[at_]) || text_[at_] == '.')) return ParseLiteral();
    if (at_ < text_.size() && IsNameStart(text_[at_])) return ParseNamed();
    Expected("a number, a variable, a function or '('");
  }

  Operand ParseLiteral() {
    double value = 0;
    const char* const begin = text_.data() + at_;
    const auto [stop, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (error == std::errc::result_out_of_range) Fail("the number is outside of float64's range");
    if (error != std::errc()) Expected("a number");
    at_ += stop - begin;
    if (at_ < text_.size() && (IsName(text_[at_]) || text_[at_] == '.')) Expected("an operator behind the number");
    SkipBlanks();
    return Constant(value);
  }

  Operand ParseNamed() {
    const size_t begin = at_;
    while (at_ < text_.size() && IsName(text_[at_])) ++at_;
    const std::string_view name = text_.substr(begin, at_ - begin);
    SkipBlanks();
    if (at_ < text_.size() && text_[at_] == '(') return ParseCall(name, begin);
    const auto variable = std::find(out_.names_.begin(), out_.names_.end(), name);
    if (variable != out_.names_.end()) {
      const auto index = static_cast<int>(variable - out_.names_.begin());
      if (in_vector_function_ == 0) out_.single_[index] = true;
      return {Kind::kVariable, index};
    }
    if (name == "_pi") return Constant(std::numbers::pi);
    if (name == "_e") return Constant(std::numbers::e);
    at_ = begin;
    if (FindFunction(name) != nullptr) Fail("'(' is missing behind the function " + std::string(name));
    std::string variables;
    for (const std::string& one : out_.names_) variables += (variables.empty() ? "" : ", ") + one;
    Fail("'" + std::string(name) + "' is no variable (" + (variables.empty() ? "there are none" : variables) + ")");
  }

  Operand ParseCall(std::string_view name, size_t begin) {
    const Function* const function = FindFunction(name);
    if (function == nullptr) {
      at_ = begin;
      Fail("there is no function '" + std::string(name) + "'");
    }
    Take("(");
    in_vector_function_ += function->reduces;
    Operand operands[kMostArguments];
    int count = 0;
    const int most = function->arguments;
    const auto add = [&](Operand argument) {
      if (most == Function::kAny) {
        operands[0] = count == 0 ? argument : Emit(*function, {operands[0], argument});
      } else if (count < most) {
        operands[count] = argument;
      }
      ++count;
    };
    if (!Take(")")) {
      do {
        add(ParseChoice());
      } while (Take(","));
      if (!Take(")")) Expected("an operator, ',' or ')'");
    }
    in_vector_function_ -= function->reduces;
    if (most == Function::kAny ? count == 0 : count != most) {
      at_ = begin;
      Fail(std::string(name) + " takes " + (most == Function::kAny ? "at least 1" : std::to_string(most)) +
           (most == 1 || most == Function::kAny ? " argument" : " arguments") + ", not " + std::to_string(count));
    }
    if (most == Function::kAny) {
      if (name != "avg") return operands[0];
      return Emit(FindBinaryOperator("/")->function, {operands[0], Constant(count)});
    }
    out_.reduces_ |= function->reduces;
    out_.random_ |= function->kernel == nullptr;
    return Emit(*function, std::span<const Operand>(operands, count));
  }

  Operand Constant(double value) {
    out_.constants_.push_back(value);
    return {Kind::kConstant, static_cast<int>(out_.constants_.size()) - 1};
  }

  Operand Emit(const Function& function, std::initializer_list<Operand> operands) {
    return Emit(function, std::span<const Operand>(operands.begin(), operands.size()));
  }

  /// Slots are a stack: the result goes where the first operand was.
  Operand Emit(const Function& function, std::span<const Operand> operands) {
    Expression::Instruction instruction{&function, {}, static_cast<int>(operands.size()), waiting_};
    std::copy(operands.begin(), operands.end(), instruction.operands);
    for (const Operand& one : operands) {
      if (one.kind == Kind::kSlot) instruction.slot = std::min(instruction.slot, one.index);
    }
    waiting_ = instruction.slot + 1;
    out_.slots_ = std::max(out_.slots_, waiting_);
    if (waiting_ > Expression::kMostSlots) {
      Fail("more than " + std::to_string(Expression::kMostSlots) + " values wait for an operator");
    }
    out_.program_.push_back(instruction);
    return {Kind::kSlot, instruction.slot};
  }

  void SkipBlanks() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) {
      ++at_;
    }
  }

  bool Take(std::string_view token) {
    if (!text_.substr(at_).starts_with(token)) return false;
    at_ += token.size();
    SkipBlanks();
    return true;
  }

  [[noreturn]] void Expected(const std::string& what) const {
    if (at_ == text_.size()) Fail("expected " + what + ", not the end");
    size_t end = at_ + 1;  // all bytes of the character
    while (end < text_.size() && (static_cast<unsigned char>(text_[end]) & 0xc0) == 0x80) ++end;
    Fail("expected " + what + ", not " + Shown(text_.substr(at_, end - at_)));
  }

  [[noreturn]] void Fail(const std::string& what) const {
    const auto characters = std::count_if(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                          [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
    throw ConfigError(where_ + Shown(text_) + ", character " + std::to_string(characters + 1) + ": " + what);
  }

  Expression& out_;
  const std::string_view text_;
  const std::string& where_;
  size_t at_ = 0;  ///< of the next token, blanks skipped
  int depth_ = 0;
  int waiting_ = 0;  ///< slots in use
  int in_vector_function_ = 0;
};

Expression::Expression(std::string_view text, const std::vector<std::string>& variables, const std::string& where)
    : names_(variables) {
  ExpressionParser(*this, text, where).Parse();
}

Values Expression::Run(std::span<const Values> variables, int64_t rows, int64_t first_row, double* slots, int64_t most,
                       std::vector<double>* filled) const {
  int64_t sizes[kMostSlots];
  const auto values_of = [&](const Operand& operand) -> Values {
    switch (operand.kind) {
      case Operand::Kind::kVariable:
        return variables[operand.index];
      case Operand::Kind::kConstant:
        return {&constants_[operand.index], 1};
      case Operand::Kind::kSlot:
        break;
    }
    return {slots + operand.index * most, sizes[operand.index]};
  };
  for (const Instruction& instruction : program_) {
    const Function& function = *instruction.function;
    double* const out = slots + instruction.slot * most;
    const int count = instruction.count;
    Values operands[kMostArguments];
    int64_t longest = function.kernel == nullptr ? rows : 1;
    for (int i = 0; i < count; ++i) {
      operands[i] = values_of(instruction.operands[i]);
      longest = std::max(longest, operands[i].size);
    }
    if (filled != nullptr) {
      for (int i = 0; i < count; ++i) {
        if (operands[i].size == 1 || operands[i].size == longest) continue;
        filled[i].assign(operands[i].data, operands[i].data + operands[i].size);
        filled[i].resize(longest, fill);
        operands[i] = {filled[i].data(), longest};
      }
    }
    if (function.kernel != nullptr) {
      function.kernel(operands, longest, out);
    } else {
      const auto call = static_cast<uint64_t>(&instruction - program_.data());
      for (int64_t i = 0; i < rows; ++i) out[i] = Uniform(seed, call, static_cast<uint64_t>(first_row + i));
    }
    sizes[instruction.slot] = function.reduces ? 1 : longest;
  }
  return values_of(result_);
}

void Expression::EvaluateRows(std::span<const double* const> columns, int64_t rows, int64_t first_row, float* out,
                              int64_t stride, Scratch& scratch) const {
  // What vector functions take is a row's own value, not the column.
  const int64_t at_once = reduces_ ? 1 : kRowsAtOnce;
  scratch.slots.resize(std::max<size_t>(scratch.slots.size(), slots_ * at_once));
  scratch.operands.resize(columns.size());
  for (int64_t row = 0; row < rows; row += at_once) {
    const int64_t count = std::min(at_once, rows - row);
    for (size_t i = 0; i < columns.size(); ++i) scratch.operands[i] = {columns[i] + row, count};
    const Values result = Run(scratch.operands, count, first_row + row, scratch.slots.data(), at_once, nullptr);
    for (int64_t i = 0; i < count; ++i) out[(row + i) * stride] = static_cast<float>(result[i]);
  }
}

Values Expression::EvaluateRow(std::span<const Values> vectors, int64_t row, Scratch& scratch) const {
  int64_t most = 1;
  for (size_t i = 0; i < vectors.size(); ++i) {
    most = std::max(most, vectors[i].size);
    if (single_[i] && vectors[i].size != 1) {
      throw Refusal{"variable " + names_[i] + " has " + std::to_string(vectors[i].size) +
                    " values, where one is needed outside of the vector functions"};
    }
  }
  scratch.slots.resize(std::max<size_t>(scratch.slots.size(), slots_ * most));
  return Run(vectors, 1, row, scratch.slots.data(), most, scratch.filled);
}

/// Run of one number, without what only vectors need.
double Expression::operator()(double x) const {
  double slots[kMostSlots];
  const auto value_of = [&](const Operand& operand) -> const double* {
    switch (operand.kind) {
      case Operand::Kind::kVariable:
        return &x;
      case Operand::Kind::kConstant:
        return &constants_[operand.index];
      case Operand::Kind::kSlot:
        break;
    }
    return slots + operand.index;
  };
  for (const Instruction& instruction : program_) {
    Values operands[kMostArguments];
    for (int i = 0; i < instruction.count; ++i) operands[i] = {value_of(instruction.operands[i]), 1};
    instruction.function->kernel(operands, 1, slots + instruction.slot);
  }
  return *value_of(result_);
}

}  // namespace anneal::features
