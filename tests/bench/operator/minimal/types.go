package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// trainJob is what the minimal operator reads and writes of anneal.dev/v1alpha1 TrainJob.
type trainJob struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              trainJobSpec   `json:"spec"`
	Status            trainJobStatus `json:"status,omitempty"`
}

type trainJobSpec struct {
	Image   string `json:"image"`
	Workers struct {
		NumNodes int `json:"numNodes"`
	} `json:"workers"`
	Checkpoint struct {
		Volume struct {
			ClaimName string `json:"claimName"`
		} `json:"volume"`
	} `json:"checkpoint"`
	Rendezvous struct {
		Port int32 `json:"port"`
	} `json:"rendezvous"`
}

type trainJobStatus struct {
	ObservedGeneration int64   `json:"observedGeneration,omitempty"`
	Phase              string  `json:"phase,omitempty"`
	Workers            workers `json:"workers,omitempty"`
}

type workers struct {
	Desired int `json:"desired"`
	Pending int `json:"pending"`
	Running int `json:"running"`
}

type trainJobList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []trainJob `json:"items"`
}

func (j *trainJob) copy() *trainJob {
	out := *j
	j.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	return &out
}

// DeepCopyObject makes trainJob a runtime.Object.
func (j *trainJob) DeepCopyObject() runtime.Object { return j.copy() }

// DeepCopyObject makes trainJobList a runtime.Object.
func (l *trainJobList) DeepCopyObject() runtime.Object {
	out := &trainJobList{TypeMeta: l.TypeMeta, ListMeta: *l.ListMeta.DeepCopy()}
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].copy())
	}
	return out
}

var groupVersion = schema.GroupVersion{Group: "anneal.dev", Version: "v1alpha1"}

func addTrainJob(scheme *runtime.Scheme) {
	scheme.AddKnownTypeWithName(groupVersion.WithKind("TrainJob"), &trainJob{})
	scheme.AddKnownTypeWithName(groupVersion.WithKind("TrainJobList"), &trainJobList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
}
