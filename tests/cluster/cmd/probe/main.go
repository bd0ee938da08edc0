// The one program in the cluster's own image: the sandbox process of every pod, and what the smoke test runs in pods.
//
//	probe pause         waits for SIGTERM and reaps orphans (it is pid 1 of a pod)
//	probe serve ADDR    answers each request with the host's name
//	probe get URL       prints what URL answers; retries for a minute
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve":
		serve(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "get":
		get(os.Args[2])
	default:
		pause()
	}
}

func pause() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for {
			if pid, _ := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 {
				break
			}
		}
	}
}

func serve(address string) {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		fmt.Fprintln(w, name)
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(address, nil))
	os.Exit(1)
}

func get(url string) {
	client := http.Client{Timeout: 3 * time.Second}
	var last error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		answer, err := client.Get(url)
		if err != nil {
			last = err
			continue
		}
		defer answer.Body.Close()
		io.Copy(os.Stdout, answer.Body)
		return
	}
	fmt.Fprintln(os.Stderr, last)
	os.Exit(1)
}
