//! End-to-end tests by behaviour, with a real kubectl against a real cluster. They live in `tests/`, one file a subject;
//! what several of them need is here.

pub mod dns;
pub mod extension;
pub mod http;
pub mod load;
pub mod machines;
pub mod net;
pub mod operations;
pub mod power;
pub mod programs;
pub mod world;
pub mod writers;
