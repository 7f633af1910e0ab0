//! A command that runs beside the test (a watch, a port-forward, a terminal), with what it printed so far. Ends with the
//! value that holds it.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::wait_for;

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Background {
    child: Child,
    output: PathBuf,
}

impl Background {
    /// Starts it; standard output and error go to one file, standard input stays open.
    pub fn start(mut command: Command) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let output = std::env::temp_dir().join(format!("kelson-e2e-{}-out-{n}", std::process::id()));
        let file = File::create(&output).expect("a file for the output");
        let copy = file.try_clone().expect("the same file again");
        let child = command.stdin(Stdio::piped()).stdout(file).stderr(copy).spawn();
        let child = child.unwrap_or_else(|e| panic!("failed to start {command:?}: {e}"));
        Self { child, output }
    }

    /// What it printed so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Waits until `part` was printed.
    pub fn wait_text(&mut self, part: &str) {
        let mut ended = false;
        wait_for(&format!("the output {part:?}"), || {
            let over = ended;
            ended = matches!(self.child.try_wait(), Ok(Some(_)));
            let found = self.text().contains(part);
            assert!(found || !over, "the command ended without printing {part:?}");
            found
        });
    }

    pub fn write(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("open standard input");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("write to the command");
    }

    /// End of input for the command.
    pub fn close_input(&mut self) {
        self.child.stdin = None;
    }

    /// Waits for its own end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("a command to end", || {
            status = self.child.try_wait().expect("the state of the command");
            status.is_some()
        });
        status.expect("ended")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("a command beside the test had printed:\n{}", self.text());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.output);
    }
}
