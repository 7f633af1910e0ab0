//! End-to-end tests by behaviour, with a real kubectl against a real cluster. They live in `tests/`, one file a subject;
//! what several of them need is here.

pub mod http;
pub mod power;
pub mod writers;
