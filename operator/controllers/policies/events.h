// What a change of status is worth telling: the Events of a job.
#pragma once

#include <vector>

#include "operator/kube/event_recorder.h"

namespace anneal::controllers {

/// A run that begins, every new reason of Ready (phases, waiting, pod problems, gates, the end), restarts, a queued
/// spec change, a suspected hang, a published artefact. Nothing for mere progress.
std::vector<kube::EventFact> EventsOf(const kube::Json& before, const kube::Json& after);

}  // namespace anneal::controllers
