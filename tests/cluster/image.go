package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"
)

// probeImage holds cmd/probe and nothing else: it is every pod's sandbox and what the smoke test runs.
const probeImage = "anneal.test/probe:1"

// writeProbeImage makes the image as a docker archive: one layer with one static program.
func writeProbeImage(c *Cluster) (string, error) {
	program, err := os.ReadFile(c.bin("probe"))
	if err != nil {
		return "", err
	}
	layer := archive(file{"probe", program, 0o755})
	layerHash := fmt.Sprintf("%x", sha256.Sum256(layer))
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z",
		"config":  map[string]any{"Entrypoint": []string{"/probe"}, "Cmd": []string{"pause"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + layerHash}},
		"history": []any{map[string]any{"created": "1970-01-01T00:00:00Z"}},
	})
	if err != nil {
		return "", err
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": configName, "RepoTags": []string{probeImage}, "Layers": []string{layerHash + "/layer.tar"}}})
	if err != nil {
		return "", err
	}
	path := c.path("probe.tar")
	return path, os.WriteFile(path, archive(file{configName, config, 0o644},
		file{layerHash + "/layer.tar", layer, 0o644}, file{"manifest.json", manifest, 0o644}), 0o644)
}

type file struct {
	name string
	data []byte
	mode int64
}

// archive cannot fail: it writes to memory.
func archive(files ...file) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.data)), Mode: f.mode})
		w.Write(f.data)
	}
	w.Close()
	return out.Bytes()
}

func getOK(url string) error {
	client := http.Client{Timeout: time.Second}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	return nil
}
