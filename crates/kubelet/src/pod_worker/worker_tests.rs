//! A worker against the fake runtime.
