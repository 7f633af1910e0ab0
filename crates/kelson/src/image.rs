//! `kelson image`: asks the running daemon, or works on the data directory itself when none runs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use runtime::EmbeddedRuntime;
use runtime::images::Progress;

use crate::admin::{self, ImageRow, Request};
use crate::args::{ImageArgs, ImageCommand};
use crate::bar::Bar;
use crate::config::Instance;
use crate::mark;
use crate::node::runtime_config;

/// How long a server may take from its start to its socket.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn main(args: ImageArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: ImageArgs) -> anyhow::Result<()> {
    let instance = Instance::of(&args.data_dir);
    let requests = match args.command {
        ImageCommand::Import { archive, name } => {
            let path = std::path::absolute(&archive)?;
            if !path.is_file() {
                bail!("there is no archive {}", path.display());
            }
            vec![Request::Import { path, name }]
        }
        ImageCommand::Pull { image } => vec![Request::Pull { image }],
        ImageCommand::Ls => vec![Request::List],
        ImageCommand::Rm { images } => images.into_iter().map(|image| Request::Remove { image }).collect(),
    };
    for request in requests {
        let listing = matches!(request, Request::List);
        let verb = match request {
            Request::Import { .. } => "imported",
            Request::Pull { .. } => "pulled",
            Request::List => "",
            Request::Remove { .. } => "removed",
        };
        let rows = {
            let mut bar = Bar::new(&title(&request));
            one(&instance, request, &mut bar).await?
        };
        if listing {
            print(&rows);
        } else {
            for r in rows {
                println!("{verb} {}", r.names.join(", "));
            }
        }
    }
    Ok(())
}

fn title(request: &Request) -> String {
    match request {
        Request::Import { path, .. } => format!("importing {}", path.display()),
        Request::Pull { image } => format!("pulling {image}"),
        Request::List => "listing".into(),
        Request::Remove { image } => format!("removing {image}"),
    }
}

async fn one(instance: &Instance, request: Request, bar: &mut Bar) -> anyhow::Result<Vec<ImageRow>> {
    // A server that starts has the directory before it listens.
    let begun = std::time::Instant::now();
    let _hold = loop {
        if let Some(rows) = admin::ask(&instance.admin_socket(), &request, bar).await? {
            return Ok(rows);
        }
        if let Some(hold) = own(instance)? {
            break hold;
        }
        if begun.elapsed() > PATIENCE {
            bail!(
                "the server of {} does not answer on {}; it keeps images only when it runs with a node",
                instance.data_dir.display(),
                instance.admin_socket().display()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let config = runtime_config(instance, Arc::new(runtime::LoopbackOnly));
    let runtime = EmbeddedRuntime::open(config).await.context("failed to open the images")?;
    let (progress, mut told) = (Progress::default(), (0, 0));
    let work = admin::perform(&runtime, request, &progress);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            result = &mut work => return result,
            (done, total) = admin::moved(&progress, &mut told) => bar.show(done, total),
        }
    }
}

/// The data directory for this command, which needs no server then; `None` when one has it.
fn own(instance: &Instance) -> anyhow::Result<Option<mark::Hold>> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "no daemon answers on {}, and working on the images directly needs root",
            instance.admin_socket().display()
        );
    }
    mark::claim(instance, &[], None)?;
    let dir = &instance.data_dir;
    mark::hold(dir).with_context(|| format!("failed to lock {}", dir.display()))
}

fn print(rows: &[ImageRow]) {
    println!("{:<60} {:<14} {:>10}", "IMAGE", "ID", "SIZE");
    for r in rows {
        let id = r.id.strip_prefix("sha256:").unwrap_or(&r.id);
        let id: String = id.chars().take(12).collect();
        for name in &r.names {
            println!("{name:<60} {id:<14} {:>7.1} MB", r.size as f64 / 1e6);
        }
    }
}
