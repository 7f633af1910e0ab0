//! Who a container's process is: from the pod, or the image's `USER`, through the image's own /etc/passwd and
//! /etc/group. Pure over the files' text.

use cri::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|l| {
        let mut f = l.split(':');
        let name = f.next()?;
        let uid = f.nth(1)?.parse().ok()?;
        Some(Account { name, uid, gid: f.next()?.parse().ok()? })
    })
}

/// (name, gid, members)
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|l| {
        let mut f = l.split(':');
        let name = f.next()?;
        let gid = f.nth(1)?.parse().ok()?;
        Some((name, gid, f.next().unwrap_or("")))
    })
}

fn id(n: i64, what: &str) -> Result<u32, String> {
    u32::try_from(n).map_err(|_| format!("{what} {n} is out of range"))
}

/// `image_user`: `user`, `user:group`, `uid`, `uid:gid` or empty.
pub fn resolve(
    sc: &LinuxContainerSecurityContext,
    image_user: &str,
    passwd: &str,
    group: &str,
) -> Result<User, String> {
    let (image_name, image_group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let from_image = sc.run_as_user.is_none() && sc.run_as_username.is_empty();
    let name = match (sc.run_as_user, sc.run_as_username.as_str()) {
        (Some(uid), _) => uid.to_string(),
        (None, "") => image_name.to_string(),
        (None, n) => n.to_string(),
    };
    let mut user = User::default();
    let mut account_name = "";
    if !name.is_empty() {
        let by_name = accounts(passwd).find(|a| a.name == name);
        let numeric = name.parse::<i64>().ok();
        let by_id = numeric.and_then(|n| accounts(passwd).find(|a| i64::from(a.uid) == n));
        match (by_name.or(by_id), numeric) {
            (Some(a), _) => {
                (user.uid, user.gid) = (a.uid, a.gid);
                account_name = a.name;
            }
            (None, Some(n)) => user.uid = id(n, "user")?,
            (None, None) => {
                return Err(format!("unable to find user {name}: no matching entries in passwd file"));
            }
        }
    } else if let Some(root) = accounts(passwd).find(|a| a.uid == 0) {
        account_name = root.name;
        user.gid = root.gid;
    }
    if let Some(g) = sc.run_as_group {
        user.gid = id(g, "group")?;
    } else if from_image && !image_group.is_empty() {
        user.gid = match groups(group).find(|(n, _, _)| *n == image_group) {
            Some((_, gid, _)) => gid,
            None => image_group.parse().map_err(|_| {
                format!("unable to find group {image_group}: no matching entries in group file")
            })?,
        };
    }
    user.groups.push(user.gid);
    if sc.supplemental_groups_policy == SupplementalGroupsPolicy::Merge && !account_name.is_empty() {
        let member = |m: &str| m.split(',').any(|u| u.trim() == account_name);
        user.groups.extend(groups(group).filter(|(_, _, m)| member(m)).map(|(_, gid, _)| gid));
    }
    for g in &sc.supplemental_groups {
        user.groups.push(id(*g, "supplemental group")?);
    }
    let mut seen = std::collections::BTreeSet::new();
    user.groups.retain(|g| seen.insert(*g));
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/var/www:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nwww:x:44:\nlogs:x:50:web,other\nmail:x:8:root\n";

    fn run(image: &str, f: impl FnOnce(&mut LinuxContainerSecurityContext)) -> Result<User, String> {
        let mut sc = LinuxContainerSecurityContext::default();
        f(&mut sc);
        resolve(&sc, image, PASSWD, GROUP)
    }

    #[test]
    fn users() {
        let u = |uid, gid, groups: &[u32]| Ok(User { uid, gid, groups: groups.to_vec() });
        assert_eq!(run("", |_| ()), u(0, 0, &[0, 8]));
        assert_eq!(run("web", |_| ()), u(33, 44, &[44, 50]));
        assert_eq!(run("33", |_| ()), u(33, 44, &[44, 50]));
        assert_eq!(run("web:logs", |_| ()), u(33, 50, &[50]));
        assert_eq!(run("1000:1000", |_| ()), u(1000, 1000, &[1000]));
        assert_eq!(run("web", |s| s.run_as_user = Some(5)), u(5, 0, &[0]));
        assert_eq!(run("web:logs", |s| s.run_as_user = Some(33)), u(33, 44, &[44, 50]));
        let strict = run("web", |s| {
            s.supplemental_groups_policy = SupplementalGroupsPolicy::Strict;
            s.supplemental_groups = vec![7, 44];
        });
        assert_eq!(strict, u(33, 44, &[44, 7]));
        assert_eq!(run("", |s| s.run_as_group = Some(9)), u(0, 9, &[9, 8]));
        assert!(run("nobody", |_| ()).unwrap_err().contains("no matching entries in passwd file"));
        assert!(run("web:nogroup", |_| ()).is_err());
        assert!(run("", |s| s.run_as_user = Some(-1)).is_err());
    }
}
