package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// written are the kinds that operators write; leases and node heartbeats are not theirs.
var written = regexp.MustCompile(`resource="(trainjobs|pods|services|configmaps|persistentvolumeclaims|events)"`)
var writing = regexp.MustCompile(`verb="(POST|PUT|PATCH|APPLY|DELETE|DELETECOLLECTION)"`)
var podMade = regexp.MustCompile(`code="201".*group="".*resource="pods".*subresource="".*verb="POST"`)

// writes counts the write requests to the kinds above, whoever made them.
func (b *bed) writes(ctx context.Context) (float64, error) { return b.requests(ctx, written, writing) }

// requests counts the API server's requests whose labels match all patterns.
func (b *bed) requests(ctx context.Context, patterns ...*regexp.Regexp) (float64, error) {
	text, err := b.kube.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, err
	}
	total := 0.0
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, "apiserver_request_total{") ||
			slices.ContainsFunc(patterns, func(pattern *regexp.Regexp) bool { return !pattern.MatchString(line) }) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, err
		}
		total += value
	}
	return total, nil
}

// settle returns when nothing was written for ten seconds, with the time since `since` of the last write.
func (b *bed) settle(ctx context.Context, since time.Time, limit time.Duration) (time.Duration, error) {
	var before float64
	quiet := time.Now()
	err := until(ctx, limit, "no writes for 10 s", func() (bool, error) {
		now, err := b.writes(ctx)
		if err != nil || now != before {
			before, quiet = now, time.Now()
			return false, err
		}
		return time.Since(quiet) > 10*time.Second, nil
	})
	return quiet.Sub(since), err
}

// usage of the operator's process.
type usage struct {
	rssMiB, peakMiB float64
	cpu             time.Duration
}

func (b *bed) usage() (usage, error) {
	var u usage
	pid := b.operator.Process.Pid
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for _, line := range strings.Split(string(status), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "VmRSS:":
			u.rssMiB = kib / 1024
		case "VmHWM:":
			u.peakMiB = kib / 1024
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, field := range fields[11:13] { // utime, stime in hundredths of a second
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	return u, nil
}
