//! Whether the controllers and the scheduler are elected among several servers, and with which times: flags, their form in
//! the configuration file, and what follows from them.

use clap::Args as ClapArgs;
use client::Timing;
use serde::Deserialize;

use crate::duration::duration;

/// Upstream's names.
#[derive(Debug, Clone, Default, ClapArgs, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LeaderArgs {
    /// Run the controllers and the scheduler only while holding their Leases, so that of several servers one does
    /// [default: true with --etcd-servers].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub leader_elect: Option<bool>,
    /// How long others wait after a leader's last sign of life [default: 15s].
    #[arg(long = "leader-elect-lease-duration", value_name = "DURATION")]
    pub lease_duration: Option<String>,
    /// How long a leader tries to renew before it stops [default: 10s].
    #[arg(long = "leader-elect-renew-deadline", value_name = "DURATION")]
    pub renew_deadline: Option<String>,
    /// Between two renewals [default: 2s].
    #[arg(long = "leader-elect-retry-period", value_name = "DURATION")]
    pub retry_period: Option<String>,
}

/// A leader must have tried more than once before its deadline, as in client-go.
const JITTER: f64 = 1.2;

impl LeaderArgs {
    /// Flags win over the file.
    pub fn over(self, file: Self) -> Self {
        Self {
            leader_elect: self.leader_elect.or(file.leader_elect),
            lease_duration: self.lease_duration.or(file.lease_duration),
            renew_deadline: self.renew_deadline.or(file.renew_deadline),
            retry_period: self.retry_period.or(file.retry_period),
        }
    }

    /// `None`: the loops run without asking. `shared`: other servers may work on the same store.
    pub fn timing(self, shared: bool) -> anyhow::Result<Option<Timing>> {
        let usual = Timing::default();
        let of = |flag: &str, text: Option<String>, default| match text {
            Some(t) => duration(&format!("leader-elect-{flag}"), &t),
            None => Ok(default),
        };
        let t = Timing {
            lease: of("lease-duration", self.lease_duration, usual.lease)?,
            deadline: of("renew-deadline", self.renew_deadline, usual.deadline)?,
            retry: of("retry-period", self.retry_period, usual.retry)?,
        };
        if t.lease.subsec_nanos() != 0 {
            anyhow::bail!("--leader-elect-lease-duration {:?}: a Lease counts whole seconds", t.lease);
        }
        if t.lease <= t.deadline {
            anyhow::bail!(
                "--leader-elect-lease-duration {:?} must be longer than --leader-elect-renew-deadline {:?}: a leader stops before others may begin",
                t.lease,
                t.deadline
            );
        }
        if t.deadline <= t.retry.mul_f64(JITTER) {
            anyhow::bail!(
                "--leader-elect-renew-deadline {:?} must be longer than {JITTER} times --leader-elect-retry-period {:?}, so that a leader tries more than once",
                t.deadline,
                t.retry
            );
        }
        Ok(self.leader_elect.unwrap_or(shared).then_some(t))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_servers_that_share_a_store_elect() {
        assert_eq!(LeaderArgs::default().timing(false).expect("timing"), None);
        assert_eq!(LeaderArgs::default().timing(true).expect("timing"), Some(Timing::default()));
        let said = |v| LeaderArgs { leader_elect: Some(v), ..LeaderArgs::default() };
        assert!(said(true).timing(false).expect("timing").is_some());
        assert!(said(false).timing(true).expect("timing").is_none());
        assert!(said(false).over(said(true)).timing(true).expect("timing").is_none());
    }

    #[test]
    fn times_must_fit_together() {
        let of = |lease: &str, deadline: &str, retry: &str| LeaderArgs {
            lease_duration: Some(lease.into()),
            renew_deadline: Some(deadline.into()),
            retry_period: Some(retry.into()),
            ..LeaderArgs::default()
        };
        let t = of("3s", "2s", "250ms").timing(true).expect("timing").expect("an election");
        assert_eq!((t.lease, t.retry), (Duration::from_secs(3), Duration::from_millis(250)));
        let wrong = |a: LeaderArgs| format!("{:#}", a.timing(true).expect_err("must be refused"));
        assert!(wrong(of("10s", "10s", "2s")).contains("must be longer than --leader-elect-renew-deadline"));
        assert!(wrong(of("15s", "2s", "2s")).contains("tries more than once"));
        assert!(wrong(of("1500ms", "1s", "100ms")).contains("whole seconds"));
        assert!(wrong(of("15", "10s", "2s")).contains("--leader-elect-lease-duration"));
    }
}
