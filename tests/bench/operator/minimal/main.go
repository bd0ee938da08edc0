// minimal is the yardstick of `make bench-operator`: an operator as one writes it with controller-runtime, its cache as
// it is by default. Per TrainJob it makes a headless Service and spec.workers.numNodes pods, and tells in status how
// many of them run. It knows no restarts, runs, timeouts, snapshots or Events.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const ownerIndex = "owner"

type reconciler struct{ client.Client }

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var job trainJob
	if err := r.Get(ctx, request.NamespacedName, &job); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var pods corev1.PodList
	if err := r.List(ctx, &pods, client.InNamespace(job.Namespace), client.MatchingFields{ownerIndex: string(job.UID)}); err != nil {
		return ctrl.Result{}, err
	}
	if job.Spec.Workers.NumNodes > 1 { // as Anneal does
		if err := r.ensure(ctx, &job, service(&job), &corev1.Service{}); err != nil {
			return ctrl.Result{}, err
		}
	}
	status := trainJobStatus{ObservedGeneration: job.Generation, Phase: "Starting", Workers: workers{Desired: job.Spec.Workers.NumNodes}}
	there := map[string]bool{}
	for i := range pods.Items {
		there[pods.Items[i].Name] = true
		switch pods.Items[i].Status.Phase {
		case corev1.PodRunning:
			status.Workers.Running++
		case corev1.PodPending:
			status.Workers.Pending++
		}
	}
	for i := range job.Spec.Workers.NumNodes {
		if pod := workerPod(&job, i); !there[pod.Name] {
			if err := r.ensure(ctx, &job, pod, nil); err != nil {
				return ctrl.Result{}, err
			}
		}
	}
	if status.Workers.Running == status.Workers.Desired {
		status.Phase = "Running"
	}
	if reflect.DeepEqual(status, job.Status) {
		return ctrl.Result{}, nil
	}
	before := job.copy()
	job.Status = status
	return ctrl.Result{}, r.Status().Patch(ctx, &job, client.MergeFrom(before))
}

// ensure creates an owned object unless the cache, if asked by `known`, has it.
func (r *reconciler) ensure(ctx context.Context, job *trainJob, object, known client.Object) error {
	if known != nil && r.Get(ctx, client.ObjectKeyFromObject(object), known) == nil {
		return nil
	}
	if err := ctrl.SetControllerReference(job, object, r.Scheme()); err != nil {
		return err
	}
	if err := r.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

func labels(job *trainJob) map[string]string {
	return map[string]string{"app.kubernetes.io/managed-by": "minimal", "anneal.dev/job-name": job.Name}
}

func service(job *trainJob) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: job.Name + "-hl", Labels: labels(job)},
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, PublishNotReadyAddresses: true, Selector: labels(job),
			Ports: []corev1.ServicePort{{Name: "rendezvous", Port: job.Spec.Rendezvous.Port}},
		},
	}
}

// workerPod is as large as a pod of Anneal's: environment, three volumes, security settings.
func workerPod(job *trainJob, index int) *corev1.Pod {
	no, yes, user, shm := false, true, int64(65532), resource.MustParse("1Gi")
	var env []corev1.EnvVar
	for name, value := range map[string]string{"MASTER_ADDR": job.Name + "-w0." + job.Name + "-hl", "MASTER_PORT": fmt.Sprint(job.Spec.Rendezvous.Port),
		"NNODES": fmt.Sprint(job.Spec.Workers.NumNodes), "NODE_RANK": fmt.Sprint(index), "PROCESS_GROUP_TIMEOUT_SECONDS": "1800",
		"PROGRESS_PORT": "29400"} {
		env = append(env, corev1.EnvVar{Name: name, Value: value})
	}
	empty := func(medium corev1.StorageMedium, limit *resource.Quantity) corev1.VolumeSource {
		return corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: medium, SizeLimit: limit}}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: fmt.Sprintf("%s-w%d", job.Name, index), Labels: labels(job)},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, Hostname: fmt.Sprintf("%s-w%d", job.Name, index), Subdomain: job.Name + "-hl",
			AutomountServiceAccountToken: &no, EnableServiceLinks: &no,
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &user, FSGroup: &user},
			Volumes: []corev1.Volume{
				{Name: "model", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{
					ClaimName: job.Spec.Checkpoint.Volume.ClaimName}}},
				{Name: "shm", VolumeSource: empty(corev1.StorageMediumMemory, &shm)},
				{Name: "tmp", VolumeSource: empty("", nil)},
			},
			Containers: []corev1.Container{{
				Name: "worker", Image: job.Spec.Image, Command: []string{"anneal"},
				Args: []string{"launch", "--nnodes", fmt.Sprint(job.Spec.Workers.NumNodes), "--node-rank", fmt.Sprint(index), "--", "train",
					"--pipeline_config_path", "/etc/anneal/pipeline.config", "--model_dir", "/mnt/model/r1", "--continue_train"},
				Env:   env,
				Ports: []corev1.ContainerPort{{Name: "progress", ContainerPort: 29400}},
				SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
				VolumeMounts: []corev1.VolumeMount{{Name: "model", MountPath: "/mnt/model"}, {Name: "shm", MountPath: "/dev/shm"}, {Name: "tmp", MountPath: "/tmp"}},
			}},
		},
	}
}

func run(concurrency int) error {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return err
	}
	addTrainJob(scheme)
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Metrics: server.Options{BindAddress: "0"}})
	if err != nil {
		return err
	}
	err = manager.GetFieldIndexer().IndexField(context.Background(), &corev1.Pod{}, ownerIndex, func(object client.Object) []string {
		if owner := metav1.GetControllerOf(object); owner != nil {
			return []string{string(owner.UID)}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = ctrl.NewControllerManagedBy(manager).For(&trainJob{}).Owns(&corev1.Pod{}).Owns(&corev1.Service{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency}).Complete(&reconciler{manager.GetClient()})
	if err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}

func main() {
	concurrency := flag.Int("workers", 4, "reconciles at a time")
	flag.Parse()
	ctrl.SetLogger(zap.New())
	if err := run(*concurrency); err != nil {
		fmt.Fprintln(os.Stderr, "minimal:", err)
		os.Exit(1)
	}
}
