//! `meta.k8s.io/v1` Tables: what `kubectl get` prints. One file per API group; each gives its columns and makes one row
//! of cells per object. Pure: the caller says what time it is.

pub mod duration;

pub use duration::human;
