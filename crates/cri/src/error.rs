//! Errors of the runtime, by what a kubelet does about them.

use thiserror::Error;

pub type Result<T, E = CriError> = std::result::Result<T, E>;

/// The reason a kubelet shows for a failed pull (`state.waiting.reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullReason {
    ErrImagePull,
    RegistryUnavailable,
    SignatureValidationFailed,
    ImageInspectError,
    InvalidImageName,
}

impl PullReason {
    pub fn as_str(self) -> &'static str {
        match self {
            PullReason::ErrImagePull => "ErrImagePull",
            PullReason::RegistryUnavailable => "RegistryUnavailable",
            PullReason::SignatureValidationFailed => "SignatureValidationFailed",
            PullReason::ImageInspectError => "ImageInspectError",
            PullReason::InvalidImageName => "InvalidImageName",
        }
    }
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CriError {
    #[error("{0} not found")]
    NotFound(String),
    #[error("{0} already exists")]
    AlreadyExists(String),
    #[error("{0}")]
    InvalidArgument(String),
    /// The object is in a state that doesn't allow the call (exec in a container that is not running).
    #[error("{0}")]
    FailedPrecondition(String),
    #[error("{message}")]
    ImagePull { reason: PullReason, message: String },
    /// The container's process could not be started: upstream's `StartError`, exit code 128.
    #[error("{message}")]
    Start { message: String },
    #[error("{0}")]
    DeadlineExceeded(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Unimplemented(String),
    #[error("{0}")]
    Internal(String),
}

impl CriError {
    pub fn internal(e: impl std::fmt::Display) -> Self {
        CriError::Internal(e.to_string())
    }

    pub fn pull(reason: PullReason, message: impl Into<String>) -> Self {
        CriError::ImagePull { reason, message: message.into() }
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, CriError::NotFound(_))
    }
}
