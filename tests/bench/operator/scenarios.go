package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

const namespace = "default"

var (
	trainJobs = schema.GroupVersionResource{Group: "anneal.dev", Version: "v1alpha1", Resource: "trainjobs"}
	podKind   = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
)

func trainJob(name string, pods int) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "anneal.dev/v1alpha1", "kind": "TrainJob",
		"metadata": map[string]any{"name": name},
		"spec": map[string]any{
			"image":      "anneal-worker:0.1.0",
			"config":     map[string]any{"configMapRef": map[string]any{"name": "pipeline"}},
			"workers":    map[string]any{"numNodes": int64(pods), "gpusPerNode": int64(0)},
			"rendezvous": map[string]any{"backend": "gloo"},
			"checkpoint": map[string]any{"volume": map[string]any{"claimName": "models"}},
		},
	}}
}

// inParallel calls make(0..n-1) from 16 goroutines.
func inParallel(n int, make func(int) error) error {
	next := func() func() int {
		var mutex sync.Mutex
		i := -1
		return func() int { mutex.Lock(); defer mutex.Unlock(); i++; return i }
	}()
	var wait sync.WaitGroup
	failures := [16]error{}
	for worker := range failures {
		wait.Go(func() {
			for i := next(); i < n && failures[worker] == nil; i = next() {
				failures[worker] = make(i)
			}
		})
	}
	wait.Wait()
	return errors.Join(failures[:]...)
}

// podWatch tells when pods whose name begins with the prefix were made, by metadata alone.
func (b *bed) podWatch(ctx context.Context, prefix string, made func(name string)) (stop func(), err error) {
	list, err := b.metadata.Resource(podKind).Namespace(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	stream, err := b.metadata.Resource(podKind).Namespace(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return nil, err
	}
	go func() {
		for event := range stream.ResultChan() {
			if object, ok := event.Object.(*metav1.PartialObjectMetadata); ok && event.Type == watch.Added && strings.HasPrefix(object.Name, prefix) {
				made(object.Name)
			}
		}
	}()
	return stream.Stop, nil
}

// fill makes jobs and returns pods per second: from the first job's creation to the last pod's.
func (b *bed) fill(ctx context.Context, prefix string, jobs, pods int, limit time.Duration) (float64, error) {
	before, err := b.requests(ctx, podMade)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	err = inParallel(jobs, func(i int) error {
		_, err := b.objects.Resource(trainJobs).Namespace(namespace).Create(ctx, trainJob(fmt.Sprintf("%s%05d", prefix, i), pods), metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return 0, err
	}
	err = until(ctx, limit, "all pods made", func() (bool, error) {
		made, err := b.requests(ctx, podMade)
		if err == nil {
			err = fmt.Errorf("%.0f of %d", made-before, jobs*pods)
		}
		return int(made-before) >= jobs*pods, err
	})
	return float64(jobs*pods) / time.Since(began).Seconds(), err
}

// allRun fails unless every job is told to be Running.
func (b *bed) allRun(ctx context.Context) error {
	options := metav1.ListOptions{Limit: 500}
	for {
		page, err := b.objects.Resource(trainJobs).Namespace(namespace).List(ctx, options)
		if err != nil {
			return err
		}
		for _, job := range page.Items {
			if phase, _, _ := unstructured.NestedString(job.Object, "status", "phase"); phase != "Running" {
				return fmt.Errorf("TrainJob %s is '%s' when all is quiet", job.GetName(), phase)
			}
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}

// changes patches specs, ten a second, and returns how long each took to appear in status.observedGeneration.
func (b *bed) changes(ctx context.Context, prefix string, jobs int) ([]time.Duration, error) {
	var mutex sync.Mutex
	sent := map[string]time.Time{}
	var took []time.Duration
	list, err := b.objects.Resource(trainJobs).Namespace(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	stream, err := b.objects.Resource(trainJobs).Namespace(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
	if err != nil {
		return nil, err
	}
	defer stream.Stop()
	go func() {
		for event := range stream.ResultChan() {
			job, ok := event.Object.(*unstructured.Unstructured)
			if !ok {
				continue
			}
			seen, _, _ := unstructured.NestedInt64(job.Object, "status", "observedGeneration")
			mutex.Lock()
			if at, waits := sent[job.GetName()]; waits && seen == job.GetGeneration() {
				took = append(took, time.Since(at))
				delete(sent, job.GetName())
			}
			mutex.Unlock()
		}
	}()
	count := min(jobs, 200)
	for i := range count {
		name := fmt.Sprintf("%s%05d", prefix, i*(jobs/count))
		patch, _ := json.Marshal(map[string]any{"spec": map[string]any{"activeDeadlineSeconds": 864000 + i}})
		mutex.Lock()
		sent[name] = time.Now()
		mutex.Unlock()
		// The event of the change itself still has the old observedGeneration: only the operator's write ends the time.
		if _, err := b.objects.Resource(trainJobs).Namespace(namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return nil, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	err = until(ctx, time.Minute, "all changes observed", func() (bool, error) {
		mutex.Lock()
		defer mutex.Unlock()
		return len(took) == count, fmt.Errorf("%d of %d", len(took), count)
	})
	slices.Sort(took)
	return took, err
}

// restart kills the operator and starts it anew; a new job comes while it still lists. Returns the time from the
// operator's start to the job's pod. The name is the last in every list.
func (b *bed) restart(ctx context.Context, o operator) (time.Duration, error) {
	b.stopOperator()
	served := make(chan time.Time, 1)
	stop, err := b.podWatch(ctx, "zz-new-", func(string) { served <- time.Now() })
	if err != nil {
		return 0, err
	}
	defer stop()
	if err := b.startOperator(o); err != nil {
		return 0, err
	}
	time.Sleep(100 * time.Millisecond)
	if _, err := b.objects.Resource(trainJobs).Namespace(namespace).Create(ctx, trainJob("zz-new-0", 1), metav1.CreateOptions{}); err != nil {
		return 0, err
	}
	select {
	case at := <-served:
		return at.Sub(b.operatorOn), nil
	case <-time.After(5 * time.Minute):
		return 0, errors.New("the new job was not served within five minutes")
	}
}

// foreign makes pods of somebody else; nobody schedules them.
func (b *bed) foreign(ctx context.Context, count int) error {
	return inParallel(count, func(i int) error {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("foreign-%05d", i), Labels: map[string]string{"app": "other"}},
			Spec: corev1.PodSpec{SchedulerName: "none", Containers: []corev1.Container{{
				Name: "main", Image: "other:1", Args: []string{"--one", "--two", "--three"},
				Env: []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}, {Name: "C", Value: "3"}}}}},
		}
		_, err := b.kube.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
		return err
	})
}
