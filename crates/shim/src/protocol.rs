//! The language between the daemon and a shim: frames of a big-endian u32 length and JSON, over a unix stream socket.
//! File descriptors travel with the first byte of their frame (SCM_RIGHTS). Pure but for [`read_len`]'s arithmetic:
//! both sides bring their own socket code.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Raised when an old shim could misunderstand a new daemon. A daemon talks to shims of any version it knows.
pub const VERSION: u32 = 1;
pub const MAX_FRAME: usize = 1 << 20;
pub const SOCKET: &str = "shim.sock";
pub const CONFIG: &str = "shim.json";
pub const STATE: &str = "shim-state.json";

/// Written by the daemon into the sandbox's directory before it starts the shim there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShimConfig {
    pub version: u32,
    pub sandbox_id: String,
    /// Empty: the host's.
    pub netns: String,
    pub host_ipc: bool,
    /// Empty: the host's UTS namespace.
    pub hostname: String,
    /// A pause process holds a PID namespace for all containers.
    pub shared_pid: bool,
    pub sysctls: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFrame {
    pub seq: u64,
    pub req: Request,
    /// Descriptors that came with this frame.
    #[serde(default)]
    pub fds: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    Hello {
        version: u32,
    },
    /// Exits are sent on this connection from now on.
    Subscribe,
    Run(RunRequest),
    Signal {
        id: String,
        signal: i32,
        all: bool,
    },
    /// Descriptors in order: stdin, stdout, stderr, as far as the flags say; none with `tty`, where the reply carries
    /// the terminal. The process is killed when the connection closes before it ends.
    Exec(ExecRequest),
    /// Descriptors in order: stdin (read end), stdout, stderr (write ends).
    Attach {
        id: String,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    Resize {
        id: String,
        width: u16,
        height: u16,
    },
    ReopenLog {
        id: String,
    },
    List,
    Pids {
        id: String,
    },
    /// Forgets a container that has ended.
    Remove {
        id: String,
    },
    /// A TCP connection to the pod's loopback; the reply carries it.
    Connect {
        port: u16,
    },
    /// Kills what runs, then the shim ends; the reply comes last.
    Shutdown,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRequest {
    pub id: String,
    pub bundle: String,
    /// Relative to every hierarchy's root.
    pub cgroup: String,
    /// Empty: output is thrown away.
    pub log_path: String,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub oom_score_adj: Option<i32>,
    /// It has its own PID namespace: its processes die with it.
    pub private_pid: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecRequest {
    pub id: String,
    pub args: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyFrame {
    /// 0 for events.
    pub seq: u64,
    pub reply: Reply,
    #[serde(default)]
    pub fds: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reply {
    Ok,
    Hello {
        version: u32,
        pid: i32,
        pause_pid: i32,
    },
    Started {
        pid: i32,
        started_at: i64,
    },
    List {
        containers: Vec<ContainerRecord>,
    },
    Pids {
        pids: Vec<i32>,
    },
    Error {
        code: ErrorCode,
        message: String,
    },
    /// Event on subscribed connections.
    Exited {
        container: ContainerRecord,
    },
    /// Event on an exec's connection.
    ExecExited {
        code: i32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    NotFound,
    Exists,
    NotRunning,
    /// The process could not be started: the container's fault.
    Start,
    Invalid,
    Internal,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    #[default]
    Starting,
    Running,
    Exited,
}

/// What a shim knows about one container; the state file holds these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerRecord {
    pub id: String,
    pub phase: Phase,
    pub pid: i32,
    /// Nanoseconds since the epoch.
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub oom_killed: bool,
    /// Set when it never started.
    pub error: String,
    pub log_bytes: u64,
}

/// The state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShimState {
    pub version: u32,
    pub pid: i32,
    /// Field 22 of /proc/pid/stat: tells the shim from a later process with its pid.
    pub start_ticks: u64,
    pub pause_pid: i32,
    pub containers: Vec<ContainerRecord>,
}

/// A frame ready to send.
pub fn encode<T: Serialize>(msg: &T) -> Vec<u8> {
    let mut out = vec![0; 4];
    if serde_json::to_writer(&mut out, msg).is_err() {
        out.truncate(4);
    }
    let n = u32::try_from(out.len() - 4).unwrap_or(0);
    out[..4].copy_from_slice(&n.to_be_bytes());
    out
}

/// Takes the first whole frame's body out of `buf`. An error: the peer doesn't speak this language.
pub fn take_frame(buf: &mut Vec<u8>) -> Result<Option<Vec<u8>>, String> {
    let Some(head) = buf.first_chunk::<4>() else { return Ok(None) };
    let n = u32::from_be_bytes(*head) as usize;
    if n > MAX_FRAME {
        return Err(format!("frame of {n} bytes is over the limit of {MAX_FRAME}"));
    }
    if buf.len() < 4 + n {
        return Ok(None);
    }
    let rest = buf.split_off(4 + n);
    let mut frame = std::mem::replace(buf, rest);
    frame.drain(..4);
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_split() {
        let a = RequestFrame { seq: 7, req: Request::Connect { port: 80 }, fds: 0 };
        let b = RequestFrame { seq: 8, req: Request::List, fds: 0 };
        let bytes = [encode(&a), encode(&b)].concat();
        for cut in 0..bytes.len() {
            let (mut buf, mut got) = (Vec::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                buf.extend_from_slice(part);
                while let Some(f) = take_frame(&mut buf).unwrap() {
                    got.push(serde_json::from_slice::<RequestFrame>(&f).unwrap());
                }
            }
            assert_eq!(got, [a.clone(), b.clone()]);
        }
    }

    #[test]
    fn a_huge_frame_is_refused() {
        assert!(take_frame(&mut vec![0xff; 8]).is_err());
    }
}
