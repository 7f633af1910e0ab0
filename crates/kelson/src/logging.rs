//! Structured log lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// `filter` as in `info,kubelet=debug`.
pub fn start(filter: &str, json: bool) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|e| {
        anyhow::anyhow!("--log {filter:?} is no filter such as info or info,kubelet=debug: {e}")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colour = std::io::stderr().is_terminal();
    let result = if json { builder.json().try_init() } else { builder.with_ansi(colour).try_init() };
    result.map_err(|e| anyhow::anyhow!("failed to start logging: {e}"))
}
