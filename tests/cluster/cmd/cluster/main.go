// cluster builds Kubernetes from the Go module proxy and starts and stops test clusters. See ../../README.md.
//
//	cluster build [hyperkube|coredns|probe|helm]...
//	cluster check [--tier cp|node]
//	cluster up    [--dir DIR] [--tier cp|node] [--nodes N]
//	cluster down  [--dir DIR]
//	cluster load  [--dir DIR] IMAGE.tar...
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"anneal/tests/cluster"
)

// exitUnsupported is what CTest takes for "skipped".
const exitUnsupported = 77

func main() {
	err := run(os.Args[1:])
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "cluster:", err)
	if errors.Is(err, cluster.ErrUnsupported) {
		os.Exit(exitUnsupported)
	}
	os.Exit(1)
}

// source is this module's folder: binaries are built from it, wherever the program is called from.
func source() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: cluster build|check|up|down|load [flags]")
	}
	root := filepath.Dir(filepath.Dir(source()))
	flags := flag.NewFlagSet("cluster "+args[0], flag.ContinueOnError)
	dir := flags.String("dir", filepath.Join(root, "build/cluster"), "the cluster's folder: state, logs, admin.kubeconfig")
	tier := flags.String("tier", "cp", "cp: control plane only; node: with real nodes that run pods")
	nodes := flags.Int("nodes", 1, "nodes of tier node, 1 to 9")
	cache := flags.String("cache", filepath.Join(root, ".deps/cluster"), "where built binaries are kept")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	folder, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}
	builder := cluster.Builder{Source: source(), Cache: *cache}

	switch args[0] {
	case "build":
		bin, err := builder.Build(flags.Args()...)
		if err == nil {
			fmt.Println(bin)
		}
		return err
	case "check":
		return cluster.Supported(*tier)
	case "up":
		start := time.Now()
		c, err := cluster.Up(builder, cluster.Options{Dir: folder, Tier: *tier, Nodes: *nodes})
		if err != nil {
			return err
		}
		fmt.Printf("up in %.1f s; kubectl: %s/bin/kubectl\nexport KUBECONFIG=%s\n", time.Since(start).Seconds(), folder, c.Kubeconfig())
		return nil
	case "down":
		return cluster.Down(folder)
	case "load":
		return cluster.LoadImages(folder, flags.Args())
	}
	return fmt.Errorf("unknown command %q", args[0])
}
