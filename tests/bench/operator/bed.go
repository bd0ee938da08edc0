package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	nodestages "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	podstages "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
)

const nodes = 20

// bed is a fresh control plane with kwok in the place of kubelets.
type bed struct {
	root, dir  string
	kube       *kubernetes.Clientset
	objects    dynamic.Interface
	metadata   metadata.Interface
	kwok       *exec.Cmd
	operator   *exec.Cmd
	operatorOn time.Time
}

func (b *bed) kubeconfig() string { return filepath.Join(b.dir, "admin.kubeconfig") }

func newBed(ctx context.Context, root, dir string) (*bed, error) {
	b := &bed{root: root, dir: dir}
	up := exec.Command(filepath.Join(root, "tests/cluster/cluster"), "up", "--dir", dir)
	up.Stderr = os.Stderr
	if err := up.Run(); err != nil {
		return nil, fmt.Errorf("starting the control plane: %w", err)
	}
	if err := b.prepare(ctx); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bed) prepare(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", b.kubeconfig())
	if err != nil {
		return err
	}
	config.QPS = -1
	// Transports are kept per file name of the certificates, and the next bed's have the same names.
	if err := rest.LoadTLSFiles(config); err != nil {
		return err
	}
	if err := b.connect(config); err != nil {
		return err
	}
	for _, arguments := range [][]string{
		{"apply", "-f", filepath.Join(b.root, "crds")},
		{"wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"},
		{"apply", "-f", filepath.Join(b.root, "tests/bench/operator/claim.yaml")},
		{"create", "configmap", "pipeline", "--from-file", filepath.Join(b.root, "examples/movielens/pipeline.config")},
	} {
		kubectl := exec.Command(filepath.Join(b.dir, "bin/kubectl"), append([]string{"--kubeconfig", b.kubeconfig()}, arguments...)...)
		if text, err := kubectl.CombinedOutput(); err != nil {
			return fmt.Errorf("kubectl %v: %w\n%s", arguments, err, text)
		}
	}
	stages := filepath.Join(b.dir, "stages.yaml")
	text := strings.Join([]string{nodestages.DefaultNodeInit, podstages.DefaultPodReady, podstages.DefaultPodDelete}, "\n---\n")
	if err := os.WriteFile(stages, []byte(text), 0o644); err != nil {
		return err
	}
	b.kwok, err = b.start("kwok", filepath.Join(b.root, "build/bench-operator/kwok"), "--kubeconfig", b.kubeconfig(),
		"--config", stages, "--manage-all-nodes", "--node-lease-duration-seconds", "40", "--cidr", "10.0.0.0/12")
	if err != nil {
		return err
	}
	return b.makeNodes(ctx)
}

func (b *bed) connect(config *rest.Config) (err error) {
	if b.kube, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if b.objects, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	b.metadata, err = metadata.NewForConfig(config)
	return err
}

func (b *bed) makeNodes(ctx context.Context) error {
	for i := range nodes {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%02d", i)}}
		if _, err := b.kube.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return until(ctx, 2*time.Minute, "nodes Ready", func() (bool, error) {
		list, err := b.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		ready := 0
		for _, node := range list.Items {
			for _, condition := range node.Status.Conditions {
				if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		return ready == nodes, nil
	})
}

// start runs a program of the bed, its output in the bed's log folder.
func (b *bed) start(name string, command ...string) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(b.dir, "log", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	process := exec.Command(command[0], command[1:]...)
	process.Stdout, process.Stderr = log, log
	return process, process.Start()
}

func (b *bed) startOperator(o operator) (err error) {
	b.operatorOn = time.Now()
	b.operator, err = b.start(o.name, o.command(b)...)
	return err
}

func (b *bed) stopOperator() {
	if b.operator != nil {
		b.operator.Process.Kill()
		b.operator.Wait()
		b.operator = nil
	}
}

func (b *bed) close() {
	b.stopOperator()
	if b.kwok != nil {
		b.kwok.Process.Kill()
		b.kwok.Wait()
	}
	down := exec.Command(filepath.Join(b.root, "tests/cluster/cluster"), "down", "--dir", b.dir)
	down.Stderr = os.Stderr
	if err := down.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
	}
}

// until polls; the last error, or how far it came, is told in the end.
func until(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	var last error
	for time.Now().Before(deadline) && ctx.Err() == nil {
		ok, err := done()
		if ok {
			return nil
		}
		last = err
		time.Sleep(time.Second)
	}
	return fmt.Errorf("after %s not yet: %s (%v)", limit, what, last)
}
