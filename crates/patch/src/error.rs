//! Why a patch could not be read or applied, sorted the way upstream answers it.

use crate::gofmt;
use serde_json::Value;

pub type Result<T> = std::result::Result<T, Error>;

/// A failed patch. The wording is upstream's where upstream has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The patch itself is malformed (400).
    #[error("{0}")]
    BadRequest(String),
    /// The patch is bigger than what is allowed (413).
    #[error("{0}")]
    TooLarge(String),
    /// The patch is well formed but does not fit the object (422).
    #[error("{0}")]
    Unprocessable(String),
    /// The patch contradicts the schema in a way upstream answers as a plain error (500 without a reason).
    #[error("{0}")]
    Failed(String),
    /// Others own what an apply wants to change (409).
    #[error("{0}")]
    Conflict(crate::apply::Conflicts),
}

/// How the failure of a `test` begins; nothing else does.
pub(crate) const TEST: &str = "testing value ";

impl Error {
    /// A `test` of a JSON patch did not hold.
    pub fn is_failed_test(&self) -> bool {
        matches!(self, Error::Unprocessable(m) if m.starts_with(TEST))
    }
    pub(crate) fn no_merge_key(map: &Value, key: &str) -> Error {
        Error::Failed(format!("map: {} does not contain declared merge key: {key}", gofmt::v(map)))
    }
    pub(crate) fn bad_arg(expected: &str, actual: &Value) -> Error {
        Error::Failed(format!("expected a {expected}, but received a {}", gofmt::type_name(actual)))
    }
    pub(crate) fn bad_patch_type(directive: &Value, map: &Value) -> Error {
        Error::Failed(format!("unknown patch type: {} in map: {}", gofmt::v(directive), gofmt::v(map)))
    }
}

impl From<Error> for api::Status {
    fn from(e: Error) -> Self {
        match e {
            Error::BadRequest(m) => api::Status::bad_request(m),
            Error::TooLarge(m) => api::Status::new(api::Reason::RequestEntityTooLarge, m),
            // Upstream keeps the reason to itself here, and clients match on its sentence.
            Error::Unprocessable(_) => api::Status::new(
                api::Reason::Invalid,
                "the server rejected our request due to an error in our request",
            ),
            Error::Conflict(c) => api::Status::from(&c),
            Error::Failed(m) => api::Status::new(api::Reason::Unknown, m),
        }
    }
}
