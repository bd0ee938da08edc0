package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// ErrUnsupported marks a machine that cannot run a tier; the error's text says what is missing.
var ErrUnsupported = errors.New("this machine can't run the test cluster")

// cniDir is where Debian's containernetworking-plugins puts its programs.
const cniDir = "/usr/lib/cni"

// nodeControllers are the cgroup v1 hierarchies that a kubelet and runc write to.
var nodeControllers = []string{"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "pids"}

// Supported tells whether this machine can run the tier. cp needs nothing but Linux; node needs root, cgroup v1
// hierarchies that can be written, network namespaces, and a few Debian packages.
func Supported(tier string) error {
	no := func(format string, args ...any) error {
		return fmt.Errorf("%w: tier node: %s", ErrUnsupported, fmt.Sprintf(format, args...))
	}
	switch tier {
	case "cp":
		return nil
	case "node":
	default:
		return fmt.Errorf("unknown tier %q: cp or node", tier)
	}
	if os.Geteuid() != 0 {
		return no("it needs root")
	}
	var missing []string
	for program, pkg := range map[string]string{"containerd": "containerd", "runc": "runc", "iptables": "iptables",
		"conntrack": "conntrack", "ip": "iproute2", "nsenter": "util-linux"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, pkg)
		}
	}
	if _, err := os.Stat(cniDir + "/bridge"); err != nil {
		missing = append(missing, "containernetworking-plugins")
	}
	if len(missing) > 0 {
		return no("missing packages; as root: apt-get install --no-install-recommends %s", strings.Join(missing, " "))
	}
	for _, controller := range nodeControllers {
		probe := fmt.Sprintf("%s/%s/anneal-check-%d", cgroupRoot, controller, os.Getpid())
		if err := os.Mkdir(probe, 0o755); err != nil {
			return no("no cgroup v1 hierarchy of %s that can be written: %v", controller, err)
		}
		os.Remove(probe)
	}
	name := fmt.Sprintf("anneal-check-%d", os.Getpid())
	if text, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		return no("no network namespaces: %s", strings.TrimSpace(string(text)))
	}
	return exec.Command("ip", "netns", "del", name).Run()
}
