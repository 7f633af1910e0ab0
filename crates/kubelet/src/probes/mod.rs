//! Startup, readiness and liveness probes: one task per probe and running container, results to the pod's worker.

pub mod grpc;
pub mod http;
pub mod run;
pub mod task;
