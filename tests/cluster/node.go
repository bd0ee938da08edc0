package cluster

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

//go:embed node/containerd.toml
var containerdConfig string

//go:embed node/kubelet.yaml
var kubeletConfig string

//go:embed node/cni.conflist
var cniConfig string

const cgroupRoot = "/sys/fs/cgroup"

// node is one node: a network namespace with its own containerd, kubelet and kube-proxy, all data in Dir/nodeI.
type node struct {
	cluster *Cluster
	index   int
	name    string
}

func (c *Cluster) node(i int) node { return node{c, i, fmt.Sprintf("node%d", i)} }

func (n node) address() string { return n.cluster.Net.node(n.index) }
func (n node) socket() string  { return n.path("c.sock") }
func (n node) path(parts ...string) string {
	return n.cluster.path(append([]string{n.name}, parts...)...)
}
func (n node) cgroup() string { return n.cluster.Net.namespace(n.index) }

// isRuntime tells a node's containerd, which has to outlive the pods, from other processes.
func isRuntime(process string) bool { return strings.HasSuffix(process, "-containerd") }

// startNodes returns when every node is Ready and names resolve.
func (c *Cluster) startNodes() error {
	if err := c.startDNS(); err != nil {
		return err
	}
	image, err := writeProbeImage(c)
	if err != nil {
		return err
	}
	failures := make([]error, c.Nodes)
	var all sync.WaitGroup
	for i := range c.Nodes {
		all.Add(1)
		go func() {
			defer all.Done()
			failures[i] = c.node(i + 1).start(image)
		}()
	}
	all.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	for i := range c.Nodes {
		name := c.node(i + 1).name
		err := c.wait(name+"-kubelet", 2*time.Minute, func() error {
			_, err := c.kubectl("wait", "--for=condition=Ready", "node/"+name, "--timeout=1s")
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) startDNS() error {
	config := fmt.Sprintf(`.:53 {
 bind %s
 errors
 ready 127.0.0.1:%d
 kubernetes cluster.local in-addr.arpa {
  kubeconfig %s
  pods insecure
  ttl 2
 }
}
`, c.Host, c.Ports.DNS, c.path("coredns.kubeconfig"))
	if err := os.WriteFile(c.path("Corefile"), []byte(config), 0o644); err != nil {
		return err
	}
	if err := c.start("coredns", c.bin("coredns"), "-conf", c.path("Corefile")); err != nil {
		return err
	}
	return c.wait("coredns", time.Minute, func() error { return getOK(fmt.Sprintf("http://127.0.0.1:%d/ready", c.Ports.DNS)) })
}

func (n node) start(image string) error {
	c, inside := n.cluster, n.cluster.Net.enter(n.index)
	if err := n.writeFiles(); err != nil {
		return err
	}
	if err := n.makeCgroups(); err != nil {
		return err
	}
	run := func(name string, command ...string) error {
		return c.start(n.name+"-"+name, append(inside, command...)...)
	}
	if err := run("containerd", "containerd", "-c", n.path("containerd.toml")); err != nil {
		return err
	}
	if err := c.wait(n.name+"-containerd", time.Minute, func() error { _, err := n.ctr("version"); return err }); err != nil {
		return err
	}
	if _, err := n.ctr("images", "import", image); err != nil {
		return err
	}
	if err := run("kubelet", c.bin("hyperkube"), "kubelet", "--config="+n.path("kubelet.yaml"), "--kubeconfig="+c.path(n.name+".kubeconfig"),
		"--root-dir="+n.path("kubelet"), "--hostname-override="+n.name, "--node-ip="+n.address(), "--cert-dir="+n.path("kubelet/pki")); err != nil {
		return err
	}
	// conntrack's limits are the machine's, not the namespace's: leave them alone.
	return run("proxy", c.bin("hyperkube"), "kube-proxy", "--kubeconfig="+c.path("proxy.kubeconfig"), "--proxy-mode=iptables",
		"--cluster-cidr="+c.Net.allPods(), "--hostname-override="+n.name, "--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s", "--bind-address="+n.address(), "--v=1")
}

func (n node) writeFiles() error {
	for _, sub := range []string{"cni", "containerd", "kubelet", "logs"} {
		if err := os.MkdirAll(n.path(sub), 0o755); err != nil {
			return err
		}
	}
	fill := strings.NewReplacer("{NODE}", n.path(), "{NAME}", n.name, "{PKI}", n.cluster.path("pki"), "{DNS}", n.cluster.Host,
		"{CGROUP}", n.cgroup(), "{SOCKET}", n.socket(), "{PODS}", n.cluster.Net.pods(n.index), "{CNI}", cniDir, "{PAUSE}", probeImage)
	for file, text := range map[string]string{"containerd.toml": containerdConfig, "kubelet.yaml": kubeletConfig,
		"cni/10-bridge.conflist": cniConfig, "resolv.conf": "nameserver 127.0.0.1\n"} {
		if err := os.WriteFile(n.path(file), []byte(fill.Replace(text)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// makeCgroups makes the node's own root in every hierarchy; a new cpuset is empty until it is given CPUs and memory.
func (n node) makeCgroups() error {
	hierarchies, err := filepath.Glob(cgroupRoot + "/*")
	if err != nil {
		return err
	}
	for _, hierarchy := range hierarchies {
		if filepath.Base(hierarchy) == "unified" {
			continue
		}
		if err := os.MkdirAll(filepath.Join(hierarchy, n.cgroup()), 0o755); err != nil {
			return err
		}
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		text, err := os.ReadFile(filepath.Join(cgroupRoot, "cpuset", file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(cgroupRoot, "cpuset", n.cgroup(), file), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// LoadImages gives docker or OCI archives to every node of the cluster.
func LoadImages(dir string, archives []string) error {
	c, err := Open(dir)
	if err != nil {
		return err
	}
	for i := 1; i <= c.Nodes; i++ {
		for _, archive := range archives {
			if _, err := c.node(i).ctr("images", "import", archive); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n node) ctr(args ...string) (string, error) {
	text, err := exec.Command("ctr", append([]string{"-a", n.socket(), "-n", "k8s.io"}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ctr %v: %w: %s", args, err, text)
	}
	return string(text), nil
}

var podNamespace = regexp.MustCompile(`/var/run/netns/cni-[0-9a-f-]*`)

// killPods ends all containers. The last one of a pod ends its shim, so containerd has to be alive. The pods' network
// namespaces are found in the containers' records and unmounted by clean.
func (n node) killPods() {
	configs, _ := filepath.Glob(n.path("containerd/state/io.containerd.runtime.v2.task/k8s.io/*/config.json"))
	var namespaces []string
	for _, config := range configs {
		text, _ := os.ReadFile(config)
		namespaces = append(namespaces, podNamespace.FindAllString(string(text), -1)...)
	}
	tasks, err := n.ctr("task", "ls", "-q")
	if err == nil {
		for _, task := range strings.Fields(tasks) {
			n.ctr("task", "kill", "-s", "SIGKILL", task)
		}
		for _, task := range strings.Fields(tasks) {
			n.ctr("task", "delete", "-f", task)
		}
	}
	for _, namespace := range namespaces {
		syscall.Unmount(namespace, syscall.MNT_DETACH)
		os.Remove(namespace)
	}
}

// clean unmounts what pods had mounted below the node's folder and removes its cgroups.
func (n node) clean() {
	mounts, _ := os.ReadFile("/proc/mounts")
	lines := strings.Split(string(mounts), "\n")
	for i := len(lines) - 1; i >= 0; i-- { // last mounted, first unmounted
		if fields := strings.Fields(lines[i]); len(fields) > 1 && strings.HasPrefix(fields[1], n.path()+"/") {
			syscall.Unmount(fields[1], syscall.MNT_DETACH)
		}
	}
	roots, _ := filepath.Glob(filepath.Join(cgroupRoot, "*", n.cgroup()))
	for _, root := range roots {
		exec.Command("find", root, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").Run()
	}
}
