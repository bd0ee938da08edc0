// The driver of `make bench-operator`: Anneal's operator and a minimal one made with controller-runtime do the same work,
// one after the other, each scenario on a fresh real control plane with kwok in the place of kubelets. See docs/operator.md.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// operator is a program under test.
type operator struct {
	name    string
	command func(*bed) []string
}

func operators(root string) []operator {
	return []operator{
		{"anneal", func(b *bed) []string {
			// No polling of /progress: the fake pods have nobody who answers.
			return []string{filepath.Join(root, "build/bin/anneal-operator"), "serve", "--kubeconfig", b.kubeconfig(), "--no-leader-elect",
				"--metrics-address", "0", "--health-address", "127.0.0.1:0", "--progress-seconds", "3600"}
		}},
		{"go", func(b *bed) []string {
			return []string{filepath.Join(root, "build/bench-operator/minimal"), "--kubeconfig", b.kubeconfig()}
		}},
	}
}

// figures of one operator; the names are those of the report.
type figures struct {
	WidePodsPerS    float64 `json:"wide_pods_per_s"`
	PodsPerS        float64 `json:"pods_per_s"`
	RSS             float64 `json:"rss_mib_10k_jobs"`
	PeakRSS         float64 `json:"peak_rss_mib"`
	CPUPerPod       float64 `json:"cpu_ms_per_pod"`
	SteadyWrites    float64 `json:"steady_state_writes"`
	SteadyCPU       float64 `json:"steady_state_cpu_s_per_minute"`
	ChangeP50       float64 `json:"change_to_write_p50_ms"`
	ChangeP99       float64 `json:"change_to_write_p99_ms"`
	ForeignRSS      float64 `json:"rss_mib_added_by_foreign_pods"`
	ForeignCPU      float64 `json:"cpu_s_spent_on_foreign_pods"`
	RestartToServed float64 `json:"restart_to_first_job_s"`
}

type scale struct{ wideJobs, widePods, jobs, foreign int }

// wide: few jobs of many pods.
func wide(ctx context.Context, b *bed, s scale, f *figures) (err error) {
	f.WidePodsPerS, err = b.fill(ctx, "wide-", s.wideJobs, s.widePods, 60*time.Minute)
	return err
}

// many: many jobs of one pod; then what they cost at rest, changes, foreign pods, a restart.
func many(ctx context.Context, b *bed, o operator, s scale, f *figures) (err error) {
	began := time.Now()
	if f.PodsPerS, err = b.fill(ctx, "many-", s.jobs, 1, 60*time.Minute); err != nil {
		return err
	}
	if _, err = b.settle(ctx, began, 20*time.Minute); err != nil {
		return err
	}
	if err = b.allRun(ctx); err != nil {
		return err
	}
	full, err := b.usage()
	if err != nil {
		return err
	}
	f.RSS, f.PeakRSS, f.CPUPerPod = full.rssMiB, full.peakMiB, full.cpu.Seconds()*1000/float64(s.jobs)

	took, err := b.changes(ctx, "many-", s.jobs)
	if err != nil {
		return err
	}
	f.ChangeP50, f.ChangeP99 = milliseconds(took[len(took)/2]), milliseconds(took[len(took)*99/100])

	if _, err = b.settle(ctx, began, 5*time.Minute); err != nil {
		return err
	}
	before, err := b.writes(ctx)
	if err != nil {
		return err
	}
	rest, err := b.usage()
	if err != nil {
		return err
	}
	time.Sleep(time.Minute)
	after, err := b.writes(ctx)
	if err != nil {
		return err
	}
	idle, err := b.usage()
	if err != nil {
		return err
	}
	f.SteadyWrites, f.SteadyCPU = after-before, (idle.cpu - rest.cpu).Seconds()

	if err = b.foreign(ctx, s.foreign); err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	crowded, err := b.usage()
	if err != nil {
		return err
	}
	f.ForeignRSS, f.ForeignCPU = crowded.rssMiB-idle.rssMiB, (crowded.cpu - idle.cpu).Seconds()

	served, err := b.restart(ctx, o)
	f.RestartToServed = served.Seconds()
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// measure runs all scenarios, or only that of the name.
func measure(ctx context.Context, root, dir string, o operator, s scale, only string) (figures, error) {
	var f figures
	scenarios := []struct {
		name string
		run  func(*bed) error
	}{
		{"wide", func(b *bed) error { return wide(ctx, b, s, &f) }},
		{"many", func(b *bed) error { return many(ctx, b, o, s, &f) }},
	}
	for _, scenario := range scenarios {
		if only != "" && only != scenario.name {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s: %s\n", o.name, scenario.name)
		b, err := newBed(ctx, root, dir)
		if err != nil {
			return f, err
		}
		if err = b.startOperator(o); err == nil {
			err = scenario.run(b)
		}
		if err != nil && os.Getenv("KEEP_LOGS") != "" {
			os.CopyFS(os.Getenv("KEEP_LOGS"), os.DirFS(filepath.Join(b.dir, "log")))
		}
		b.close()
		if err != nil {
			return f, fmt.Errorf("%s, %s: %w", o.name, scenario.name, err)
		}
	}
	return f, nil
}

func printTable(s scale, anneal, minimal figures) {
	fmt.Printf("\n| | Anneal | controller-runtime, minimal |\n|---|---|---|\n")
	row := func(what, format string, a, b float64) {
		fmt.Printf("| %s | "+format+" | "+format+" |\n", what, a, b)
	}
	row(fmt.Sprintf("%d jobs x %d pods: pods made per second", s.wideJobs, s.widePods), "%.0f", anneal.WidePodsPerS, minimal.WidePodsPerS)
	row(fmt.Sprintf("%d jobs x 1 pod: pods made per second", s.jobs), "%.0f", anneal.PodsPerS, minimal.PodsPerS)
	row("CPU of the operator per pod, until all run (ms)", "%.1f", anneal.CPUPerPod, minimal.CPUPerPod)
	row("memory when all run (MiB)", "%.0f", anneal.RSS, minimal.RSS)
	row("highest memory until then (MiB)", "%.0f", anneal.PeakRSS, minimal.PeakRSS)
	row("spec change to first write, p50 (ms)", "%.0f", anneal.ChangeP50, minimal.ChangeP50)
	row("spec change to first write, p99 (ms)", "%.0f", anneal.ChangeP99, minimal.ChangeP99)
	row("writes in a minute of steady state", "%.0f", anneal.SteadyWrites, minimal.SteadyWrites)
	row("CPU in a minute of steady state (s)", "%.2f", anneal.SteadyCPU, minimal.SteadyCPU)
	row(fmt.Sprintf("memory added by %d pods of others (MiB)", s.foreign), "%.0f", anneal.ForeignRSS, minimal.ForeignRSS)
	row("CPU spent on them (s)", "%.1f", anneal.ForeignCPU, minimal.ForeignCPU)
	row("restart to a new job's first pod (s)", "%.1f", anneal.RestartToServed, minimal.RestartToServed)
}

func run() error {
	root := flag.String("root", ".", "the repository")
	dir := flag.String("dir", "build/bench-operator/cluster", "folder of the control plane")
	factor := flag.Float64("scale", 1, "share of the jobs and pods")
	report := flag.String("report", "build/reports/operator.json", "where the figures go")
	only := flag.String("only", "", "one operator alone, anneal or go, or one of its scenarios, anneal/wide or anneal/many; prints its figures, writes no report")
	flag.Parse()
	part := func(n int) int { return max(1, int(float64(n)**factor)) }
	s := scale{part(1000), 8, part(10000), part(10000)}
	ctx := context.Background()
	var paths [3]string
	for i, path := range []string{*root, *dir, *report} {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		paths[i] = absolute
	}
	found := map[string]figures{}
	name, scenario, _ := strings.Cut(*only, "/")
	for _, o := range operators(paths[0]) {
		if name != "" && name != o.name {
			continue
		}
		f, err := measure(ctx, paths[0], paths[1], o, s, scenario)
		if err != nil {
			return err
		}
		found[o.name] = f
		text, _ := json.Marshal(f)
		fmt.Fprintf(os.Stderr, "%s: %s\n", o.name, text)
	}
	if *only != "" {
		return nil
	}
	printTable(s, found["anneal"], found["go"])
	text, err := json.MarshalIndent(struct {
		figures
		Scale float64 `json:"scale"`
		Go    figures `json:"go"`
	}{found["anneal"], *factor, found["go"]}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(paths[2]), 0o755); err != nil {
		return err
	}
	return os.WriteFile(paths[2], append(text, '\n'), 0o644)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-operator:", err)
		os.Exit(1)
	}
}
