package cluster

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// Each server's port in turn is taken by somebody else between its choice and the server's start.
func TestATakenPortIsChosenAgain(t *testing.T) {
	source, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	builder := Builder{Source: source, Cache: filepath.Join(source, "../../.deps/cluster")}
	defer func() { choosePorts = freePorts }()
	for name, port := range map[string]func(*ports) int{
		"API":  func(p *ports) int { return p.API },
		"etcd": func(p *ports) int { return p.Etcd },
		"peer": func(p *ports) int { return p.EtcdPeer },
	} {
		t.Run(name, func(t *testing.T) {
			chosen := 0
			choosePorts = func() (ports, error) {
				chosen++
				p, err := freePorts()
				if err == nil && chosen == 1 {
					other, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port(&p)))
					if err != nil {
						return p, err
					}
					t.Cleanup(func() { other.Close() })
				}
				return p, err
			}
			dir := filepath.Join(t.TempDir(), "cluster")
			c, err := Up(builder, Options{Dir: dir, Tier: "cp"})
			if errors.Is(err, ErrUnsupported) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if chosen != 2 {
				t.Errorf("ports were chosen %d times", chosen)
			}
			if _, err := c.kubectl("get", "--raw", "/readyz"); err != nil {
				t.Error(err)
			}
			if err := Down(dir); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the folder is left: %v", err)
			}
		})
	}
}

func TestPortsDiffer(t *testing.T) {
	for range 50 {
		p, err := freePorts()
		if err != nil {
			t.Fatal(err)
		}
		seen := map[int]bool{p.API: true, p.Etcd: true, p.EtcdPeer: true, p.DNS: true}
		if len(seen) != 4 {
			t.Fatalf("twice the same: %+v", p)
		}
	}
}
