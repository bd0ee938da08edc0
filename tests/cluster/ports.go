package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
)

// errPortTaken is in the error of a server that found its port in use.
var errPortTaken = errors.New("address already in use")

// choosePorts is a variable for the test of a port that is taken after all.
var choosePorts = freePorts

// freePorts holds all of them until each is found: no two are the same. Nobody else is kept from them after that.
func freePorts() (ports, error) {
	var found [4]int
	for i := range found {
		listener, err := listen()
		if err != nil {
			return ports{}, err
		}
		defer listener.Close()
		found[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports{API: found[0], Etcd: found[1], EtcdPeer: found[2], DNS: found[3]}, nil
}

// listen takes a port outside of those that the kernel gives to outgoing connections, and not below 10000.
func listen() (net.Listener, error) {
	first, last := 32768, 60999
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		fmt.Sscan(string(text), &first, &last)
	}
	var lost error
	for range 200 {
		port := 10000 + rand.IntN(50000)
		if port >= first && port <= last && last-first < 50000 {
			continue
		}
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return listener, nil
		}
		lost = err
	}
	return nil, fmt.Errorf("no free port: %w", lost)
}
