// Package cluster starts and stops a real Kubernetes for tests: etcd, API server, controller manager and scheduler as
// processes of this machine (tier cp), with nodes that run real pods as network namespaces (tier node). Everything a
// cluster makes is in its folder, or recorded there and undone by Down. Clusters in different folders run side by side.
package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Options say what Up makes.
type Options struct {
	Dir   string
	Tier  string // "cp" or "node"
	Nodes int    // of tier node
}

// Cluster is a running cluster, as recorded in Dir/cluster.json.
type Cluster struct {
	Dir   string
	Tier  string
	Nodes int
	Host  string // address of the API server: loopback, or the bridge of tier node
	Ports ports
	Net   *network `json:",omitempty"` // tier node
	processes
}

// ports are those that the servers listen on; controller manager and scheduler serve nothing.
type ports struct{ API, Etcd, EtcdPeer, DNS int }

// tries is how often Up starts a cluster whose ports others take between their choice and the servers' start.
const tries = 3

// longestDir leaves room for the sockets below it: the kernel takes 107 characters.
const longestDir = 60

// Kubeconfig is the administrator's.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.Dir, "admin.kubeconfig") }

func (c *Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.Dir}, parts...)...)
}

func (c *Cluster) bin(name string) string { return c.path("bin", name) }

// Up starts a cluster and returns when it is ready: default service account there, nodes Ready, DNS answering. What is
// left of an earlier cluster in the folder is cleaned away first; a failed start cleans up after itself but keeps the logs.
func Up(builder Builder, options Options) (*Cluster, error) {
	if err := Supported(options.Tier); err != nil {
		return nil, err
	}
	if options.Tier == "node" && (options.Nodes < 1 || options.Nodes > 9 || len(options.Dir) > longestDir) {
		return nil, fmt.Errorf("tier node takes 1 to 9 nodes and a folder's path of at most %d characters", longestDir)
	}
	programs := []string{"hyperkube"}
	if options.Tier == "node" {
		programs = append(programs, "coredns", "probe")
	}
	built, err := builder.Build(programs...)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		c, err := start(built, programs, options)
		if try == tries || !errors.Is(err, errPortTaken) {
			return c, err
		}
	}
}

func start(built string, programs []string, options Options) (*Cluster, error) {
	if err := Down(options.Dir); err != nil {
		return nil, err
	}
	c := &Cluster{Dir: options.Dir, Tier: options.Tier, Host: "127.0.0.1", processes: processes{options.Dir}}
	if c.Tier == "node" {
		c.Nodes = options.Nodes
	}
	if err := c.prepare(built, programs); err != nil {
		return nil, errors.Join(err, Down(options.Dir))
	}
	if err := c.run(); err != nil {
		return nil, errors.Join(err, c.stopAll())
	}
	return c, nil
}

func (c *Cluster) prepare(built string, programs []string) error {
	for _, sub := range []string{"pids", "log", "bin", "pki"} {
		if err := os.MkdirAll(c.path(sub), 0o755); err != nil {
			return err
		}
	}
	for _, program := range append(programs, "kubectl") {
		target := program
		if program == "kubectl" {
			target = "hyperkube"
		}
		if err := os.Symlink(filepath.Join(built, target), c.bin(program)); err != nil {
			return err
		}
	}
	var err error
	if c.Ports, err = choosePorts(); err != nil {
		return err
	}
	if c.Tier == "node" {
		net, err := claimNetwork()
		if err != nil {
			return err
		}
		c.Net, c.Host = net, net.gateway()
	}
	return c.save()
}

func (c *Cluster) run() error {
	if c.Net != nil {
		if err := c.Net.connect(c.Nodes); err != nil {
			return err
		}
	}
	if err := c.writeIdentities(); err != nil {
		return err
	}
	if err := c.startControlPlane(); err != nil {
		return err
	}
	if c.Net == nil {
		return nil
	}
	return c.startNodes()
}

func (c *Cluster) save() error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.path("cluster.json"), append(text, '\n'), 0o644)
}

// Open finds the cluster of a folder.
func Open(dir string) (*Cluster, error) {
	text, err := os.ReadFile(filepath.Join(dir, "cluster.json"))
	if err != nil {
		return nil, fmt.Errorf("no cluster in %s: %w", dir, err)
	}
	c := &Cluster{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, err
	}
	c.processes = processes{c.Dir}
	return c, nil
}

// Down stops what Up started in the folder and removes the folder. Nothing there is no error; a folder that holds
// something else is.
func Down(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || (err == nil && len(entries) == 0) {
		return nil
	}
	c, err := Open(dir)
	if err != nil {
		return err
	}
	if err := c.stopAll(); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// stopAll ends processes, pods and networks. The data is thrown away, so KILL needs no grace.
func (c *Cluster) stopAll() error {
	var other, runtimes []string
	for _, name := range c.names() {
		if isRuntime(name) {
			runtimes = append(runtimes, name)
		} else {
			other = append(other, name)
		}
	}
	volumes := c.hostPathVolumes()
	c.stop(syscall.SIGKILL, other...)
	if c.Net != nil {
		for node := 1; node <= c.Nodes; node++ {
			c.node(node).killPods()
		}
		c.stop(syscall.SIGTERM, runtimes...)
		for node := 1; node <= c.Nodes; node++ {
			c.node(node).clean()
		}
		c.Net.remove(c.Nodes)
	}
	for _, volume := range volumes {
		os.RemoveAll(volume)
	}
	return nil
}

func (c *Cluster) kubectl(args ...string) (string, error) {
	command := exec.Command(c.bin("kubectl"), args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	text, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("kubectl %v: %w\n%s", args, err, text)
	}
	return string(text), nil
}
