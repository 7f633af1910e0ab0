//! The one error that leaves the API: `metav1.Status`, with upstream's reasons, codes and wording.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `Status.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    Unknown,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    Expired,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    ServiceUnavailable,
    StoreReadError,
}

impl Reason {
    pub fn code(self) -> u16 {
        match self {
            Reason::BadRequest => 400,
            Reason::Unauthorized => 401,
            Reason::Forbidden => 403,
            Reason::NotFound => 404,
            Reason::MethodNotAllowed => 405,
            Reason::NotAcceptable => 406,
            Reason::AlreadyExists | Reason::Conflict => 409,
            Reason::Gone | Reason::Expired => 410,
            Reason::RequestEntityTooLarge => 413,
            Reason::UnsupportedMediaType => 415,
            Reason::Invalid => 422,
            Reason::TooManyRequests => 429,
            Reason::Unknown | Reason::InternalError | Reason::ServerTimeout | Reason::StoreReadError => 500,
            Reason::ServiceUnavailable => 503,
            Reason::Timeout => 504,
        }
    }
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unknown => "",
            Reason::BadRequest => "BadRequest",
            Reason::Unauthorized => "Unauthorized",
            Reason::Forbidden => "Forbidden",
            Reason::NotFound => "NotFound",
            Reason::AlreadyExists => "AlreadyExists",
            Reason::Conflict => "Conflict",
            Reason::Gone => "Gone",
            Reason::Invalid => "Invalid",
            Reason::Expired => "Expired",
            Reason::ServerTimeout => "ServerTimeout",
            Reason::Timeout => "Timeout",
            Reason::TooManyRequests => "TooManyRequests",
            Reason::MethodNotAllowed => "MethodNotAllowed",
            Reason::NotAcceptable => "NotAcceptable",
            Reason::RequestEntityTooLarge => "RequestEntityTooLarge",
            Reason::UnsupportedMediaType => "UnsupportedMediaType",
            Reason::InternalError => "InternalError",
            Reason::ServiceUnavailable => "ServiceUnavailable",
            Reason::StoreReadError => "StorageReadError",
        }
    }
    pub fn parse(s: &str) -> Reason {
        use Reason::*;
        [
            BadRequest,
            Unauthorized,
            Forbidden,
            NotFound,
            AlreadyExists,
            Conflict,
            Gone,
            Invalid,
            Expired,
            ServerTimeout,
            Timeout,
            TooManyRequests,
            MethodNotAllowed,
            NotAcceptable,
            RequestEntityTooLarge,
            UnsupportedMediaType,
            InternalError,
            ServiceUnavailable,
            StoreReadError,
        ]
        .into_iter()
        .find(|r| r.as_str() == s)
        .unwrap_or(Unknown)
    }
}

/// One entry of `Status.details.causes`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, `FieldManagerConflict`, …
    pub reason: String,
    pub message: String,
    /// Field path as upstream words it (`spec.containers[0].image`); may be empty.
    pub field: String,
}

/// A failed request, as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub reason: Reason,
    pub code: u16,
    pub message: String,
    /// `details.kind`: the resource's plural name, or its kind for Invalid.
    pub kind: String,
    pub group: String,
    pub name: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: u32,
    /// `metadata.continue`, set on an expired continue token that may go on inconsistently.
    pub continue_token: String,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Status {}

fn qualified(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

impl Status {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            code: reason.code(),
            message: message.into(),
            kind: String::new(),
            group: String::new(),
            name: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
            continue_token: String::new(),
        }
    }
    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        self.group = group.into();
        self.kind = kind.into();
        self.name = name.into();
        self
    }
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        Self::new(Reason::NotFound, format!("{} \"{name}\" not found", qualified(plural, group)))
            .about(group, plural, name)
    }
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        Self::new(Reason::AlreadyExists, format!("{} \"{name}\" already exists", qualified(plural, group)))
            .about(group, plural, name)
    }
    pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        Self::new(
            Reason::Conflict,
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(plural, group)),
        )
        .about(group, plural, name)
    }
    pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let q = qualified(plural, group);
        let message = match (plural.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{q} is forbidden: {why}"),
            (false, false) => format!("{q} \"{name}\" is forbidden: {why}"),
        };
        Self::new(Reason::Forbidden, message).about(group, plural, name)
    }
    /// `kind` is the Kind, not the plural, as upstream does for 422.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let errs: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let text = if errs.len() == 1 { errs[0].clone() } else { format!("[{}]", errs.join(", ")) };
        let mut s =
            Self::new(Reason::Invalid, format!("{} \"{name}\" is invalid: {text}", qualified(kind, group)))
                .about(group, kind, name);
        s.causes = causes;
        s
    }
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }
    pub fn internal(why: impl std::fmt::Display) -> Self {
        let mut s = Self::new(Reason::InternalError, format!("Internal error occurred: {why}"));
        s.causes.push(Cause { reason: String::new(), message: why.to_string(), field: String::new() });
        s
    }
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(Reason::Expired, message)
    }
    pub fn is_not_found(&self) -> bool {
        self.reason == Reason::NotFound
    }
    pub fn is_conflict(&self) -> bool {
        self.reason == Reason::Conflict
    }
    pub fn is_already_exists(&self) -> bool {
        self.reason == Reason::AlreadyExists
    }
    pub fn is_gone(&self) -> bool {
        self.code == 410
    }

    /// The body that goes out.
    pub fn to_value(&self) -> Value {
        let mut metadata = json!({});
        if !self.continue_token.is_empty() {
            metadata["continue"] = json!(self.continue_token);
        }
        let mut details = serde_json::Map::new();
        for (k, v) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)]
        {
            if !v.is_empty() {
                details.insert(k.into(), json!(v));
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|c| {
                let mut m = serde_json::Map::new();
                for (k, v) in [("reason", &c.reason), ("message", &c.message), ("field", &c.field)] {
                    if !v.is_empty() {
                        m.insert(k.into(), json!(v));
                    }
                }
                Value::Object(m)
            });
            details.insert("causes".into(), Value::Array(causes.collect()));
        }
        if self.retry_after_seconds > 0 {
            details.insert("retryAfterSeconds".into(), json!(self.retry_after_seconds));
        }
        let mut v = json!({"kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "code": self.code});
        if self.reason != Reason::Unknown {
            v["reason"] = json!(self.reason.as_str());
        }
        if !details.is_empty() {
            v["details"] = Value::Object(details);
        }
        v
    }

    /// Reads a Status off the wire; what is no Status becomes one with the HTTP code and the body as message.
    pub fn from_wire(code: u16, body: &[u8]) -> Self {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let Ok(v) = serde_json::from_slice::<Value>(body) else {
            let mut s = Self::new(Reason::Unknown, String::from_utf8_lossy(body).into_owned());
            s.code = code;
            return s;
        };
        let d = &v["details"];
        let mut s = Self::new(Reason::parse(v["reason"].as_str().unwrap_or_default()), text(&v["message"]))
            .about(
                d["group"].as_str().unwrap_or_default(),
                d["kind"].as_str().unwrap_or_default(),
                d["name"].as_str().unwrap_or_default(),
            );
        s.code = v["code"].as_u64().and_then(|c| u16::try_from(c).ok()).unwrap_or(code);
        s.uid = text(&d["uid"]);
        s.retry_after_seconds =
            d["retryAfterSeconds"].as_u64().and_then(|c| u32::try_from(c).ok()).unwrap_or(0);
        s.continue_token = text(&v["metadata"]["continue"]);
        for c in d["causes"].as_array().into_iter().flatten() {
            s.causes.push(Cause {
                reason: text(&c["reason"]),
                message: text(&c["message"]),
                field: text(&c["field"]),
            });
        }
        s
    }
}
