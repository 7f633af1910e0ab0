//! How often what goes wrong: `crash=2%,image=1%,node=0.5%`.

/// Shares in millionths, so that equal seeds draw equally.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    /// Pods whose container ends three times before it stays.
    pub crash: u32,
    /// Pods whose image can't be pulled the first three times.
    pub image: u32,
    /// Nodes that are silent once for five minutes, in the first ten.
    pub node: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FailuresError {
    #[error("{0:?}: crash=SHARE, image=SHARE or node=SHARE is needed, with commas")]
    Name(String),
    #[error("{0:?} is no share such as 2% or 0.5%")]
    Share(String),
}

const WHOLE: f64 = 1_000_000.0;

fn share(text: &str) -> Result<u32, FailuresError> {
    let bad = || FailuresError::Share(text.to_owned());
    let percent: f64 = text.trim().strip_suffix('%').ok_or_else(bad)?.parse().map_err(|_| bad())?;
    if !(0.0..=100.0).contains(&percent) {
        return Err(bad());
    }
    // Between 0 and a million.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok((percent / 100.0 * WHOLE).round() as u32)
}

impl std::str::FromStr for Failures {
    type Err = FailuresError;
    fn from_str(text: &str) -> Result<Self, FailuresError> {
        let mut out = Self::default();
        for part in text.split(',').filter(|p| !p.trim().is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| FailuresError::Name(part.to_owned()))?;
            *match name.trim() {
                "crash" => &mut out.crash,
                "image" => &mut out.image,
                "node" => &mut out.node,
                _ => return Err(FailuresError::Name(part.to_owned())),
            } = share(value)?;
        }
        Ok(out)
    }
}

/// A number that depends on what it is drawn for only: the same cluster fails in the same way again.
pub fn draw(what: u128, salt: u64) -> u64 {
    // SplitMix64.
    let mut z = u64::try_from(what & u128::from(u64::MAX)).unwrap_or(0)
        ^ u64::try_from(what >> 64).unwrap_or(0).rotate_left(32)
        ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Whether a draw falls into a share of millionths.
pub fn hits(drawn: u64, share: u32) -> bool {
    drawn % 1_000_000 < u64::from(share)
}

/// A draw between two numbers, both included.
pub fn between(drawn: u64, least: u64, most: u64) -> u64 {
    least + drawn % (most.saturating_sub(least) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read() {
        let f: Failures = "crash=2%, image=0.5%,node=100%".parse().expect("failures");
        assert_eq!(f, Failures { crash: 20_000, image: 5_000, node: 1_000_000 });
        assert_eq!("".parse(), Ok(Failures::default()));
        for bad in ["crash", "disk=1%", "crash=2", "crash=101%", "crash=x%", "crash=-1%"] {
            assert!(bad.parse::<Failures>().is_err(), "{bad}");
        }
    }

    #[test]
    fn draws_are_spread_and_repeat() {
        let hit = (0..100_000u128).filter(|i| hits(draw(*i, 7), 20_000)).count();
        assert!((1_800..2_200).contains(&hit), "{hit} of 100,000 at 2 %");
        assert_eq!(draw(5, 1), draw(5, 1));
        assert!((0..1000).all(|i| (5..=9).contains(&between(draw(i, 1), 5, 9))));
        assert!(!hits(draw(1, 1), 0) && hits(draw(1, 1), 1_000_000));
    }
}
