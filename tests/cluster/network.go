package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// network is one bridge on this machine with a network namespace a node. Nodes have no default route and nothing
// translates addresses: what runs in the cluster reaches this machine and nothing else.
//
//	nodes 10.(200+Slot).0.0/24, pods 10.(128+Slot).NODE.0/24, services 10.(160+Slot).0.0/16
type network struct {
	Slot      int
	Forwarded string // ip_forward as found
}

const (
	slots       = 16
	forwardFile = "/proc/sys/net/ipv4/ip_forward"
)

// claimNetwork takes the first free slot: making the bridge fails if another cluster has it.
func claimNetwork() (*network, error) {
	forwarded, err := os.ReadFile(forwardFile)
	if err != nil {
		return nil, err
	}
	for slot := range slots {
		n := &network{Slot: slot, Forwarded: strings.TrimSpace(string(forwarded))}
		if err = ip("link", "add", n.bridge(), "type", "bridge"); err == nil {
			return n, nil
		}
	}
	return nil, fmt.Errorf("no bridge for a cluster: %w", err)
}

func (n *network) bridge() string         { return fmt.Sprintf("anneal%d", n.Slot) }
func (n *network) gateway() string        { return fmt.Sprintf("10.%d.0.1", 200+n.Slot) }
func (n *network) node(i int) string      { return fmt.Sprintf("10.%d.0.%d", 200+n.Slot, 10+i) }
func (n *network) pods(i int) string      { return fmt.Sprintf("10.%d.%d.0/24", 128+n.Slot, i) }
func (n *network) allPods() string        { return fmt.Sprintf("10.%d.0.0/16", 128+n.Slot) }
func (n *network) services() string       { return fmt.Sprintf("10.%d.0.0/16", 160+n.Slot) }
func (n *network) namespace(i int) string { return fmt.Sprintf("anneal%d-node%d", n.Slot, i) }
func (n *network) veth(i int) string      { return fmt.Sprintf("ann%dv%d", n.Slot, i) }

// serviceRange and serviceIP (of the API server) of either tier.
func (c *Cluster) serviceRange() string {
	if c.Net == nil {
		return "10.96.0.0/16"
	}
	return c.Net.services()
}
func (c *Cluster) serviceIP() string { return strings.TrimSuffix(c.serviceRange(), "0/16") + "1" }

// enter is the prefix of a command that runs in a node's network. Not `ip netns exec`: that hides /sys/fs/cgroup.
func (n *network) enter(i int) []string {
	return []string{"nsenter", "--net=/run/netns/" + n.namespace(i)}
}

func (n *network) connect(nodes int) error {
	steps := [][]string{
		{"ip", "addr", "add", n.gateway() + "/24", "dev", n.bridge()},
		{"ip", "link", "set", n.bridge(), "up"},
		{"sysctl", "-qw", "net.ipv4.ip_forward=1"},
		{"ip", "route", "replace", "blackhole", n.services()},
	}
	for i := 1; i <= nodes; i++ {
		inside := func(args ...string) { steps = append(steps, append(n.enter(i), args...)) }
		steps = append(steps,
			[]string{"ip", "netns", "add", n.namespace(i)},
			[]string{"ip", "link", "add", n.veth(i), "type", "veth", "peer", "name", "eth0", "netns", n.namespace(i)},
			[]string{"ip", "link", "set", n.veth(i), "master", n.bridge(), "up"})
		inside("ip", "link", "set", "lo", "up")
		inside("ip", "addr", "add", n.node(i)+"/24", "dev", "eth0")
		inside("ip", "link", "set", "eth0", "up")
		inside("ip", "route", "add", n.allPods(), "via", n.gateway())
		inside("ip", "route", "add", n.services(), "via", n.gateway())
		inside("sysctl", "-qw", "net.ipv4.ip_forward=1")
		steps = append(steps, []string{"ip", "route", "replace", n.pods(i), "via", n.node(i), "dev", n.bridge()})
	}
	for _, step := range steps {
		if text, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(step, " "), err, text)
		}
	}
	return nil
}

// remove undoes connect; forwarding is reset by the last cluster.
func (n *network) remove(nodes int) {
	for i := 1; i <= nodes; i++ {
		ip("netns", "del", n.namespace(i))
		ip("link", "del", n.veth(i))
	}
	ip("link", "del", n.bridge())
	ip("route", "del", "blackhole", n.services())
	if others, _ := filepath.Glob("/sys/class/net/anneal[0-9]*"); len(others) == 0 {
		os.WriteFile(forwardFile, []byte(n.Forwarded+"\n"), 0o644)
	}
}

func ip(args ...string) error {
	text, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return errors.New(strings.TrimSpace(string(text)))
	}
	return nil
}
