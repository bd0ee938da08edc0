package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processes starts servers that outlive this program and records them in Dir/pids, one file each: "PID START", START
// being the kernel's start time, so that a pid used again by someone else is never killed.
type processes struct{ Dir string }

// start runs the command with its output in Dir/log/NAME.log.
func (p processes) start(name string, command ...string) error {
	log, err := os.Create(filepath.Join(p.Dir, "log", name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	c := exec.Command(command[0], command[1:]...)
	c.Stdout, c.Stderr, c.Dir = log, log, p.Dir
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	go c.Wait() // or it stays a zombie that looks alive
	record := fmt.Sprintf("%d %s\n", c.Process.Pid, startTime(c.Process.Pid))
	return os.WriteFile(p.file(name), []byte(record), 0o644)
}

func (p processes) file(name string) string { return filepath.Join(p.Dir, "pids", name) }

// pid is 0 unless the recorded process still runs.
func (p processes) pid(name string) int {
	text, err := os.ReadFile(p.file(name))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) != 2 {
		return 0
	}
	pid, _ := strconv.Atoi(fields[0])
	if pid == 0 || startTime(pid) != fields[1] {
		return 0
	}
	return pid
}

// names lists the recorded processes.
func (p processes) names() []string {
	entries, _ := os.ReadDir(filepath.Join(p.Dir, "pids"))
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// stop sends the signal to all named processes, waits for their end, and forgets them.
func (p processes) stop(signal syscall.Signal, names ...string) {
	for _, name := range names {
		if pid := p.pid(name); pid != 0 {
			syscall.Kill(pid, signal)
		}
	}
	for _, name := range names {
		end := time.Now().Add(10 * time.Second)
		for p.pid(name) != 0 && time.Now().Before(end) {
			time.Sleep(20 * time.Millisecond)
		}
		if pid := p.pid(name); pid != 0 {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		os.Remove(p.file(name))
	}
}

// wait polls until ready returns nil. It gives up after the limit, or at once if the process has ended, and then shows
// the end of its log.
func (p processes) wait(name string, limit time.Duration, ready func() error) error {
	end := time.Now().Add(limit)
	for {
		err := ready()
		dead := p.pid(name) == 0
		if err == nil && !dead {
			return nil
		}
		if err == nil {
			err = errors.New("somebody else answers in its place")
		}
		if dead || time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(p.Dir, "log", name+".log"))
			state := fmt.Sprintf("not ready after %v", limit)
			if dead {
				state = "ended"
			}
			if dead && strings.Contains(string(log), errPortTaken.Error()) {
				err = errors.Join(err, errPortTaken)
			}
			return fmt.Errorf("%s %s: %w\n%s", name, state, err, tail(string(log), 3000))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// startTime is field 22 of /proc/PID/stat, "" for a process that is gone or a zombie.
func startTime(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The command's name, in parentheses, may hold blanks.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}
