//! What load generators share: HTTP/2 connections to a server, requests at a pace, readings of /proc.

pub mod client;
pub mod pace;
pub mod process;
