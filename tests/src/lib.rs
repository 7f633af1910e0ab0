//! End-to-end tests by behaviour, with a real kubectl against a real cluster. They live in `tests/`, one file a subject.
