// health judges objects as Argo CD and Flux do: the Lua of docs/gitops/argocd in Argo CD's interpreter, the expressions
// of docs/gitops/flux in cel-go.
//
//	health health.lua kustomization.yaml < objects.json
//
// Standard input: a JSON list of objects. Output: a list of {lua, message, flux}.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	lua "github.com/yuin/gopher-lua"
	"sigs.k8s.io/yaml"
)

type object = map[string]any

type verdict struct {
	Lua     string `json:"lua"`
	Message string `json:"message"`
	Flux    string `json:"flux"`
}

type checks struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	InProgress string `json:"inProgress"`
	Failed     string `json:"failed"`
	Current    string `json:"current"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run() error {
	script, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	text, err := os.ReadFile(os.Args[2])
	if err != nil {
		return err
	}
	var kustomization struct {
		Spec struct {
			HealthCheckExprs []checks `json:"healthCheckExprs"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &kustomization); err != nil {
		return err
	}
	var objects []object
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		return err
	}
	verdicts := []verdict{}
	for _, obj := range objects {
		status, message, err := argo(string(script), obj)
		if err != nil {
			return fmt.Errorf("lua: %w", err)
		}
		found, err := flux(kustomization.Spec.HealthCheckExprs, obj)
		if err != nil {
			return fmt.Errorf("cel: %w", err)
		}
		verdicts = append(verdicts, verdict{status, message, found})
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}

// argo runs the script with the object as the global `obj`, as Argo CD does.
func argo(script string, obj object) (string, string, error) {
	state := lua.NewState()
	defer state.Close()
	state.SetGlobal("obj", value(state, obj))
	if err := state.DoString(script); err != nil {
		return "", "", err
	}
	health, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", fmt.Errorf("the script returned no table")
	}
	return lua.LVAsString(health.RawGetString("status")), lua.LVAsString(health.RawGetString("message")), nil
}

func value(state *lua.LState, v any) lua.LValue {
	switch v := v.(type) {
	case map[string]any:
		table := state.NewTable()
		for name, item := range v {
			table.RawSetString(name, value(state, item))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, item := range v {
			table.Append(value(state, item))
		}
		return table
	case string:
		return lua.LString(v)
	case float64:
		return lua.LNumber(v)
	case bool:
		return lua.LBool(v)
	}
	return lua.LNil
}

// flux evaluates inProgress, failed and current in Flux's order, with the object's fields as variables.
func flux(all []checks, obj object) (string, error) {
	for _, check := range all {
		if check.Kind != obj["kind"] || check.APIVersion != obj["apiVersion"] {
			continue
		}
		for _, step := range []struct{ name, expression string }{
			{"InProgress", check.InProgress}, {"Failed", check.Failed}, {"Current", check.Current}} {
			holds, err := evaluate(step.expression, obj)
			if err != nil {
				return "", fmt.Errorf("%s of %s: %w", step.name, check.Kind, err)
			}
			if holds {
				return step.name, nil
			}
		}
		return "InProgress", nil
	}
	return "", fmt.Errorf("no healthCheckExprs for %v %v", obj["apiVersion"], obj["kind"])
}

func evaluate(expression string, obj object) (bool, error) {
	options := []cel.EnvOption{cel.HomogeneousAggregateLiterals(), cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true), cel.OptionalTypes(), ext.Strings(), ext.Sets(), ext.Encoders()}
	input := map[string]any{}
	for _, name := range []string{"apiVersion", "kind", "metadata", "spec", "status"} {
		options = append(options, cel.Variable(name, cel.DynType))
		input[name] = map[string]any{}
		if v, ok := obj[name]; ok {
			input[name] = v
		}
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return false, err
	}
	ast, issues := env.Compile(expression)
	if issues != nil && issues.Err() != nil {
		return false, issues.Err()
	}
	program, err := env.Program(ast)
	if err != nil {
		return false, err
	}
	out, _, err := program.Eval(input)
	if err != nil {
		return false, err
	}
	holds, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("not a bool: %v", out.Value())
	}
	return holds, nil
}
