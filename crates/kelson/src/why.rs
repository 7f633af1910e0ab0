//! `kelson why`: what keeps a thing from doing what it should, in plain words, read through the API with one's own rights.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use client::{Client, clock};
use why::read::{self, Question};
use why::{Facts, Report, render};

use crate::kubeconfig::{self, Kubeconfig};

#[derive(Debug, Args)]
pub struct WhyArgs {
    /// What to ask about: `pod NAME`, `deployment/NAME`, …; nothing: everything that does not do what it should.
    #[arg(value_name = "KIND NAME")]
    pub thing: Vec<String>,
    /// The namespace [default: that of the context; for everything: all].
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// How to say it.
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub output: Output,
    /// Whose cluster, and as whom [default: KUBECONFIG, else ~/.kube/config, else this machine's cluster].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Another context than the current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The data directory of a server on this machine, whose administrator this is.
    #[arg(long, value_name = "DIR", conflicts_with = "kubeconfig")]
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

pub fn main(args: WhyArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: WhyArgs) -> anyhow::Result<()> {
    let asked = why::target(&args.thing)?;
    let places = kubeconfig::places(args.kubeconfig, args.data_dir.as_deref());
    let config = Kubeconfig::read_all(&places, args.context.as_deref())?;
    let client = Client::new(Arc::new(config.transport()?), "kelson-why");
    let own = if config.namespace.is_empty() { "default".to_owned() } else { config.namespace.clone() };
    let (report, one) = match asked {
        Some((kind, name)) => {
            let namespace = args.namespace.unwrap_or(own);
            let facts =
                facts(&client, &Question::One { kind, namespace: namespace.clone(), name: name.clone() })
                    .await?;
            let namespace = if kind.resource.namespaced { namespace } else { String::new() };
            let Some(thing) = facts.look(kind.name, &namespace, &name).there() else {
                bail!("{} {name:?} is gone", kind.name);
            };
            (why::explain(&facts, thing), true)
        }
        None => (everything(&client, args.namespace, own).await?, false),
    };
    match (args.output, one) {
        (Output::Json, _) => println!("{}", serde_json::to_string_pretty(&report.to_json())?),
        (Output::Text, true) => print!("{}", render::thing(&report)),
        (Output::Text, false) => print!("{}", render::everything(&report)),
    }
    Ok(())
}

async fn facts(client: &Client, q: &Question) -> anyhow::Result<Facts> {
    read::facts(client, q, clock::now().as_second())
        .await
        .map_err(|e| anyhow!(e))
        .context("failed to ask the cluster")
}

/// In all namespaces, or, for those who may not look into them, in the context's.
async fn everything(client: &Client, namespace: Option<String>, own: String) -> anyhow::Result<Report> {
    let first = namespace.clone().unwrap_or_default();
    let facts_of = |namespace: String| async move { facts(client, &Question::All { namespace }).await };
    let mut found = facts_of(first.clone()).await?;
    if namespace.is_none() && !found.knows("pod", "") {
        found = facts_of(own.clone()).await?;
        found.unread.insert("other namespaces than ".to_owned() + &own, "they may not be read".into());
    }
    let looked_at = if found.knows("pod", "") {
        String::new()
    } else if namespace.is_some() {
        first
    } else {
        own
    };
    if !found.knows("pod", &looked_at) {
        let why = found.unread.values().next().cloned().unwrap_or_default();
        bail!("failed to read the pods: {why}");
    }
    Ok(why::everything(&found))
}
