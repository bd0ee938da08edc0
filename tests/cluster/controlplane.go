package cluster

import (
	_ "embed"
	"fmt"
	"os"
	"strings"
	"time"
)

//go:embed base.yaml
var baseObjects string

// writeIdentities makes the CA, all certificates and the kubeconfigs.
func (c *Cluster) writeIdentities() error {
	ca, err := newAuthority(c.path("pki"))
	if err != nil {
		return err
	}
	servers := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local", "127.0.0.1", c.Host, c.serviceIP()}
	clients := []identity{
		{name: "admin", user: "admin", groups: []string{"system:masters"}},
		{name: "controllers", user: "system:kube-controller-manager"},
		{name: "scheduler", user: "system:kube-scheduler"},
		{name: "proxy", user: "system:kube-proxy"},
		{name: "coredns", user: "system:coredns"},
	}
	for i := 1; i <= c.Nodes; i++ {
		n := c.node(i)
		clients = append(clients, identity{name: n.name, user: "system:node:" + n.name, groups: []string{"system:nodes"}})
	}
	all := append([]identity{
		{name: "apiserver", user: "kube-apiserver", hosts: servers},
		{name: "kubelet-client", user: "apiserver-kubelet", groups: []string{"system:masters"}},
		{name: "front-proxy", user: "front-proxy"},
	}, clients...)
	for i := 1; i <= c.Nodes; i++ {
		n := c.node(i)
		all = append(all, identity{name: n.name + "-serving", user: "system:node:" + n.name, hosts: []string{n.name, "127.0.0.1", n.address()}})
	}
	for _, id := range all {
		if err := ca.issue(id); err != nil {
			return err
		}
	}
	server := fmt.Sprintf("https://%s:%d", c.Host, c.Ports.API)
	for _, id := range clients {
		if err := ca.kubeconfig(c.path(id.name+".kubeconfig"), server, id.name); err != nil {
			return err
		}
	}
	return ca.signingKey("service-accounts")
}

// startControlPlane returns when pods could be created: the default service account is there.
func (c *Cluster) startControlPlane() error {
	hyperkube, pki := c.bin("hyperkube"), c.path("pki")
	etcd := fmt.Sprintf("http://127.0.0.1:%d", c.Ports.Etcd)
	peer := fmt.Sprintf("http://127.0.0.1:%d", c.Ports.EtcdPeer)
	if err := c.start("etcd", hyperkube, "etcd", "--name=test", "--data-dir="+c.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+etcd, "--advertise-client-urls="+etcd, "--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer, "--initial-cluster=test="+peer); err != nil {
		return err
	}
	if err := c.wait("etcd", time.Minute, func() error { return getOK(etcd + "/health") }); err != nil {
		return err
	}
	flags := strings.Fields(fmt.Sprintf(`--etcd-servers=%s --secure-port=%d --bind-address=%s --advertise-address=%s
		--service-cluster-ip-range=%s --authorization-mode=Node,RBAC --allow-privileged=true
		--client-ca-file=PKI/ca.crt --tls-cert-file=PKI/apiserver.crt --tls-private-key-file=PKI/apiserver.key
		--service-account-issuer=https://kubernetes.default.svc
		--service-account-key-file=PKI/service-accounts.pub --service-account-signing-key-file=PKI/service-accounts.key
		--kubelet-client-certificate=PKI/kubelet-client.crt --kubelet-client-key=PKI/kubelet-client.key
		--kubelet-certificate-authority=PKI/ca.crt --kubelet-preferred-address-types=InternalIP
		--requestheader-client-ca-file=PKI/ca.crt --requestheader-allowed-names=front-proxy
		--requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group
		--requestheader-extra-headers-prefix=X-Remote-Extra-
		--proxy-client-cert-file=PKI/front-proxy.crt --proxy-client-key-file=PKI/front-proxy.key
		--enable-admission-plugins=NodeRestriction --enable-aggregator-routing=true --profiling=false --v=1`,
		etcd, c.Ports.API, c.Host, c.Host, c.serviceRange()))
	for i := range flags {
		flags[i] = strings.ReplaceAll(flags[i], "PKI", pki)
	}
	if c.Net == nil { // loopback may not be an endpoint of the Service "kubernetes"
		flags = append(flags, "--endpoint-reconciler-type=none")
	}
	if err := c.start("apiserver", append([]string{hyperkube, "kube-apiserver"}, flags...)...); err != nil {
		return err
	}
	if err := c.wait("apiserver", 2*time.Minute, func() error { _, err := c.kubectl("get", "--raw", "/readyz"); return err }); err != nil {
		return err
	}
	// Not sooner: without the API server's bootstrap roles the controller manager is refused, and exits.
	config := c.path("controllers.kubeconfig")
	if err := c.start("controllers", hyperkube, "kube-controller-manager", "--kubeconfig="+config,
		"--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config, "--leader-elect=false",
		"--use-service-account-credentials=true", "--root-ca-file="+pki+"/ca.crt",
		"--service-account-private-key-file="+pki+"/service-accounts.key",
		"--cluster-signing-cert-file="+pki+"/ca.crt", "--cluster-signing-key-file="+pki+"/ca.key",
		"--secure-port=0", "--kube-api-qps=300", "--kube-api-burst=600", "--node-monitor-grace-period=20s",
		"--enable-hostpath-provisioner=true", "--v=1"); err != nil {
		return err
	}
	config = c.path("scheduler.kubeconfig")
	if err := c.start("scheduler", hyperkube, "kube-scheduler", "--kubeconfig="+config, "--authentication-kubeconfig="+config,
		"--authorization-kubeconfig="+config, "--leader-elect=false", "--secure-port=0",
		"--kube-api-qps=300", "--kube-api-burst=600", "--v=1"); err != nil {
		return err
	}
	if err := os.WriteFile(c.path("base.yaml"), []byte(baseObjects), 0o644); err != nil {
		return err
	}
	if _, err := c.kubectl("apply", "-f", c.path("base.yaml")); err != nil {
		return err
	}
	return c.wait("controllers", time.Minute, func() error { _, err := c.kubectl("get", "serviceaccount", "default"); return err })
}

// hostPathVolumes lists the folders that the controller manager has made for claims; they are outside of Dir.
func (c *Cluster) hostPathVolumes() []string {
	if c.pid("apiserver") == 0 {
		return nil
	}
	text, err := c.kubectl("get", "pv", "--request-timeout=5s", "-o", "jsonpath={.items[*].spec.hostPath.path}")
	if err != nil {
		return nil
	}
	var found []string
	for _, path := range strings.Fields(text) {
		if strings.HasPrefix(path, "/tmp/hostpath_pv/") {
			found = append(found, path)
		}
	}
	return found
}
