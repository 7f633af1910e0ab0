//! How autoscalers go about it: flags by upstream's names, their form in the configuration file, and what follows from them.

use std::time::Duration;

use clap::Args as ClapArgs;
use controllers::Autoscaling;
use serde::Deserialize;

use crate::duration::duration;

#[derive(Debug, Clone, Default, ClapArgs, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AutoscalingArgs {
    /// Between two looks at an autoscaler [default: 15s].
    #[arg(long = "horizontal-pod-autoscaler-sync-period", value_name = "DURATION")]
    pub sync_period: Option<String>,
    /// How long recommendations hold a target up where its autoscaler says nothing [default: 5m].
    #[arg(long = "horizontal-pod-autoscaler-downscale-stabilization", value_name = "DURATION")]
    pub downscale_stabilization: Option<String>,
    /// By how much usage may miss its target before anything is done [default: 0.1].
    #[arg(long = "horizontal-pod-autoscaler-tolerance", value_name = "SHARE")]
    pub tolerance: Option<f64>,
    /// How long after its start a pod's CPU counts only once it is ready [default: 5m].
    #[arg(long = "horizontal-pod-autoscaler-cpu-initialization-period", value_name = "DURATION")]
    pub cpu_initialization_period: Option<String>,
    /// A pod that becomes unready so soon after its start was never ready [default: 30s].
    #[arg(long = "horizontal-pod-autoscaler-initial-readiness-delay", value_name = "DURATION")]
    pub initial_readiness_delay: Option<String>,
}

impl AutoscalingArgs {
    /// Flags win over the file.
    pub fn over(self, file: Self) -> Self {
        Self {
            sync_period: self.sync_period.or(file.sync_period),
            downscale_stabilization: self.downscale_stabilization.or(file.downscale_stabilization),
            tolerance: self.tolerance.or(file.tolerance),
            cpu_initialization_period: self.cpu_initialization_period.or(file.cpu_initialization_period),
            initial_readiness_delay: self.initial_readiness_delay.or(file.initial_readiness_delay),
        }
    }

    pub fn settings(self) -> anyhow::Result<Autoscaling> {
        let usual = Autoscaling::default();
        let of = |flag: &str, text: Option<String>, default| match text.as_deref() {
            None => Ok(default),
            // Not to wait at all is a choice, but for the period.
            Some("0" | "0s") if flag != "sync-period" => Ok(Duration::ZERO),
            Some(t) => duration(&format!("horizontal-pod-autoscaler-{flag}"), t),
        };
        let tolerance = self.tolerance.unwrap_or(usual.tolerance);
        if !tolerance.is_finite() || tolerance < 0.0 {
            anyhow::bail!("--horizontal-pod-autoscaler-tolerance {tolerance}: a share such as 0.1 is needed");
        }
        Ok(Autoscaling {
            sync: of("sync-period", self.sync_period, usual.sync)?,
            downscale_stabilization: of(
                "downscale-stabilization",
                self.downscale_stabilization,
                usual.downscale_stabilization,
            )?,
            tolerance,
            cpu_initialization: of(
                "cpu-initialization-period",
                self.cpu_initialization_period,
                usual.cpu_initialization,
            )?,
            initial_readiness: of(
                "initial-readiness-delay",
                self.initial_readiness_delay,
                usual.initial_readiness,
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_nonsense_is_refused() {
        let args = |sync: &str, down: &str| AutoscalingArgs {
            sync_period: Some(sync.into()),
            downscale_stabilization: Some(down.into()),
            ..AutoscalingArgs::default()
        };
        let s = args("5s", "0s").over(args("9s", "9s")).settings().expect("settings");
        assert_eq!((s.sync, s.downscale_stabilization), (Duration::from_secs(5), Duration::ZERO));
        assert_eq!((s.tolerance, s.initial_readiness), (0.1, Duration::from_secs(30)));
        let wrong = |a: AutoscalingArgs| a.settings().expect_err("refused").to_string();
        assert!(wrong(args("0s", "1s")).contains("horizontal-pod-autoscaler-sync-period"));
        let tolerance = AutoscalingArgs { tolerance: Some(-1.0), ..AutoscalingArgs::default() };
        assert!(wrong(tolerance).contains("tolerance"));
    }
}
