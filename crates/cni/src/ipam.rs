//! Which pod has which address: a file per address, made before the address is used and removed after, so that neither a
//! crash nor a restart leaks or doubles one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use netlink::Cidr;

#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    #[error("no address left in {0}; delete pods or give the node a larger pod network")]
    Exhausted(String),
    #[error("failed to {what}: {source}")]
    Io { what: String, source: std::io::Error },
}

fn io(what: String) -> impl FnOnce(std::io::Error) -> IpamError {
    move |source| IpamError::Io { what, source }
}

pub struct Ipam {
    dir: PathBuf,
    cidrs: Vec<Cidr>,
    used: BTreeMap<IpAddr, String>,
    by_sandbox: BTreeMap<String, Vec<IpAddr>>,
    /// Where the search goes on, so that a released address rests before it is used again.
    next: Vec<u128>,
}

impl Ipam {
    pub fn open(state: &Path, cidrs: &[Cidr]) -> Result<Self, IpamError> {
        let dir = state.join("addresses");
        fs::create_dir_all(&dir).map_err(io(format!("make the directory {}", dir.display())))?;
        let mut ipam = Self {
            dir,
            cidrs: cidrs.to_vec(),
            used: BTreeMap::new(),
            by_sandbox: BTreeMap::new(),
            next: vec![2; cidrs.len()],
        };
        let entries = fs::read_dir(&ipam.dir).map_err(io(format!("read {}", ipam.dir.display())))?;
        for entry in entries {
            let entry = entry.map_err(io(format!("read {}", ipam.dir.display())))?;
            let Some(addr) =
                entry.file_name().to_str().and_then(|n| n.replace('_', ":").parse::<IpAddr>().ok())
            else {
                continue;
            };
            let sandbox = fs::read_to_string(entry.path()).unwrap_or_default().trim().to_owned();
            if sandbox.is_empty() {
                // A crash between making and filling the file: nobody was told of the address.
                let _ = fs::remove_file(entry.path());
                continue;
            }
            ipam.take(addr, &sandbox);
        }
        Ok(ipam)
    }

    fn take(&mut self, addr: IpAddr, sandbox: &str) {
        self.used.insert(addr, sandbox.to_owned());
        let mine = self.by_sandbox.entry(sandbox.to_owned()).or_default();
        mine.push(addr);
        mine.sort_by_key(|a| self.cidrs.iter().position(|c| c.contains(*a)));
    }

    fn file(&self, addr: IpAddr) -> PathBuf {
        self.dir.join(addr.to_string().replace(':', "_"))
    }

    pub fn of(&self, sandbox: &str) -> Vec<IpAddr> {
        self.by_sandbox.get(sandbox).cloned().unwrap_or_default()
    }

    pub fn sandboxes(&self) -> BTreeSet<String> {
        self.by_sandbox.keys().cloned().collect()
    }

    /// One address per family; the same ones on a second call.
    pub fn allocate(&mut self, sandbox: &str) -> Result<Vec<IpAddr>, IpamError> {
        let have = self.of(sandbox);
        if have.len() == self.cidrs.len() {
            return Ok(have);
        }
        self.release(sandbox)?;
        for i in 0..self.cidrs.len() {
            match self.pick(i).and_then(|addr| self.write(addr, sandbox).map(|()| addr)) {
                Ok(addr) => self.take(addr, sandbox),
                Err(e) => {
                    self.release(sandbox)?;
                    return Err(e);
                }
            }
        }
        Ok(self.of(sandbox))
    }

    fn write(&self, addr: IpAddr, sandbox: &str) -> Result<(), IpamError> {
        let path = self.file(addr);
        let what = || format!("write {}", path.display());
        let mut f = fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(io(what()))?;
        f.write_all(sandbox.as_bytes()).map_err(io(what()))
    }

    /// The first two addresses and the last one are nobody's: network, gateway, broadcast.
    fn pick(&mut self, family: usize) -> Result<IpAddr, IpamError> {
        let exhausted =
            |c: Option<&Cidr>| IpamError::Exhausted(c.map(ToString::to_string).unwrap_or_default());
        let (Some(cidr), Some(next)) = (self.cidrs.get(family).copied(), self.next.get_mut(family)) else {
            return Err(exhausted(None));
        };
        let last = cidr.size().saturating_sub(1);
        let usable = last.saturating_sub(2);
        for step in 0..usable.min(1 << 20) {
            let n = 2 + (*next - 2 + step) % usable;
            let Some(addr) = cidr.nth(n) else { continue };
            if !self.used.contains_key(&addr) {
                *next = n + 1;
                return Ok(addr);
            }
        }
        Err(exhausted(Some(&cidr)))
    }

    pub fn release(&mut self, sandbox: &str) -> Result<(), IpamError> {
        for addr in self.by_sandbox.remove(sandbox).unwrap_or_default() {
            self.used.remove(&addr);
            let path = self.file(addr);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io(format!("remove {}", path.display()))(e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temp(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("kelson-ipam-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn addresses_are_unique_survive_a_reopen_and_come_back_when_released() {
        let dir = temp("a");
        let cidrs: Vec<Cidr> =
            vec!["10.1.0.0/29".parse().expect("cidr"), "fd00::/125".parse().expect("cidr")];
        let mut ipam = Ipam::open(&dir, &cidrs).expect("open");
        let mut seen = BTreeSet::new();
        for i in 0..5 {
            let got = ipam.allocate(&format!("s{i}")).expect("address");
            assert_eq!(got.len(), 2);
            assert!(got.iter().all(|a| seen.insert(*a)));
        }
        assert!(matches!(ipam.allocate("one-more"), Err(IpamError::Exhausted(_))));
        assert!(ipam.of("one-more").is_empty());
        let mut again = Ipam::open(&dir, &cidrs).expect("reopen");
        assert_eq!(again.of("s3"), ipam.of("s3"));
        again.release("s3").expect("release");
        assert_eq!(again.allocate("new").expect("address"), ipam.of("s3"));
        fs::remove_dir_all(&dir).expect("clean up");
    }
}
