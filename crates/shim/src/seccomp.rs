//! Seccomp filters, compiled once and loaded by many: compiling the default profile takes libseccomp some 20 ms, loading
//! the result takes microseconds. The daemon compiles into a file, a container's last steps before exec load it.
//!
//! What a container's last steps are stands in its spec as an annotation ([`Finish`]): libcontainer is handed no filter,
//! and the capabilities that loading one takes on top, which are dropped right after.

use std::path::Path;

use libcontainer::syscall::syscall::create_syscall;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{
    Arch, LinuxCapabilities, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    Spec,
};
use serde::{Deserialize, Serialize};

use crate::sys;

/// The annotation that holds a [`Finish`].
pub const FINISH: &str = "kelson.dev/finish";
/// Bytes of one instruction of a program.
const INSTRUCTION: usize = 8;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finish {
    /// The compiled program, on the host.
    pub filter: String,
    pub flags: u64,
    /// Those that the container is to have.
    pub capabilities: Option<LinuxCapabilities>,
}

/// A filter that has been read, ready for processes that no longer see its file.
#[derive(Clone, Debug)]
pub struct Ready {
    program: Vec<u8>,
    finish: Finish,
}

impl Ready {
    /// `None` for a spec without one.
    pub fn of(spec: &Spec) -> Result<Option<Self>, String> {
        let Some(text) = spec.annotations().as_ref().and_then(|a| a.get(FINISH)) else { return Ok(None) };
        let finish: Finish =
            serde_json::from_str(text).map_err(|e| format!("parse the annotation {FINISH}: {e}"))?;
        let program = std::fs::read(&finish.filter)
            .map_err(|e| format!("read the seccomp filter {}: {e}", finish.filter))?;
        Ok(Some(Self { program, finish }))
    }

    /// Loads the filter and leaves the container's own capabilities. With `no_new_privs` the filter comes last, as close
    /// to exec as can be; without, loading is a privilege that has to be used before it is dropped.
    pub fn apply(&self, no_new_privs: bool) -> Result<(), String> {
        let load = || load(&self.program, self.finish.flags);
        if !no_new_privs {
            load()?;
        }
        if let Some(c) = &self.finish.capabilities {
            let call = create_syscall();
            libcontainer::capabilities::drop_privileges(c, call.as_ref()).map_err(|e| sys::chain(&e))?;
        }
        if no_new_privs {
            load()?;
        }
        Ok(())
    }
}

/// Whether somebody outside decides about calls: that needs a listener, which libcontainer sets up.
pub fn needs_listener(profile: &LinuxSeccomp) -> bool {
    let notify = |a| a == LinuxSeccompAction::ScmpActNotify;
    notify(profile.default_action()) || profile.syscalls().iter().flatten().any(|s| notify(s.action()))
}

/// The flags with which the kernel is to load a profile's program.
pub fn flags(profile: &LinuxSeccomp) -> u64 {
    let one = |f: &LinuxSeccompFilterFlag| match f {
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // Of use only with a listener.
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
    };
    profile.flags().iter().flatten().map(one).fold(0, |a, b| a | b)
}

/// Compiles a profile into a file, which appears whole or not at all.
pub fn compile(profile: &LinuxSeccomp, to: &Path) -> Result<(), String> {
    let context = context(profile)?;
    let tmp = to.with_extension("tmp");
    let file = std::fs::File::create(&tmp).map_err(|e| format!("make {}: {e}", tmp.display()))?;
    context.export_bpf(&file).map_err(|e| format!("compile the seccomp filter: {e}"))?;
    std::fs::rename(&tmp, to).map_err(|e| format!("name {}: {e}", to.display()))
}

fn context(profile: &LinuxSeccomp) -> Result<ScmpFilterContext, String> {
    let said = |what: String| move |e: libseccomp::error::SeccompError| format!("{what}: {e}");
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut ctx = ScmpFilterContext::new(default).map_err(said("make a seccomp filter".into()))?;
    // A tree costs each call of the container less than a list; older libraries have only the list.
    let _ = ctx.set_ctl_optimize(2);
    for a in profile.architectures().iter().flatten() {
        ctx.add_arch(arch(*a)).map_err(said(format!("add architecture {a:?}")))?;
    }
    for rule in profile.syscalls().iter().flatten() {
        let act = action(rule.action(), rule.errno_ret())?;
        if act == default {
            continue;
        }
        let mut compares = Vec::new();
        for a in rule.args().iter().flatten() {
            let op = compare(a.op(), a.value_two());
            let index =
                u32::try_from(a.index()).map_err(|_| format!("argument {} does not exist", a.index()))?;
            compares.push((index, ScmpArgCompare::new(index, op, a.value())));
        }
        // An argument can be compared once in a rule; further comparisons of the same one are alternatives, as runc has it.
        let mut indexes: Vec<u32> = compares.iter().map(|(i, _)| *i).collect();
        indexes.sort_unstable();
        let alternatives = indexes.windows(2).any(|w| matches!(w, [a, b] if a == b));
        let compares: Vec<ScmpArgCompare> = compares.into_iter().map(|(_, c)| c).collect();
        for name in rule.names() {
            // A name that this library does not know can't be asked for by number either.
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            let failed = said(format!("add a rule for {name}"));
            match (compares.as_slice(), alternatives) {
                ([], _) => ctx.add_rule(act, call).map(drop),
                (all, false) => ctx.add_rule_conditional(act, call, all).map(drop),
                (all, true) => all.iter().try_for_each(|one| {
                    ctx.add_rule_conditional(act, call, std::slice::from_ref(one)).map(drop)
                }),
            }
            .map_err(failed)?;
        }
    }
    Ok(ctx)
}

fn action(a: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, String> {
    use LinuxSeccompAction as A;
    let errno =
        errno.map_or(Ok(libc::EPERM), i32::try_from).map_err(|_| "an errno is out of range".to_string())?;
    Ok(match a {
        A::ScmpActKill | A::ScmpActKillThread => ScmpAction::KillThread,
        A::ScmpActKillProcess => ScmpAction::KillProcess,
        A::ScmpActTrap => ScmpAction::Trap,
        A::ScmpActErrno => ScmpAction::Errno(errno),
        A::ScmpActTrace => ScmpAction::Trace(
            u16::try_from(errno).map_err(|_| format!("trace value {errno} is out of range"))?,
        ),
        A::ScmpActAllow => ScmpAction::Allow,
        A::ScmpActLog => ScmpAction::Log,
        A::ScmpActNotify => ScmpAction::Notify,
    })
}

fn compare(op: LinuxSeccompOperator, two: Option<u64>) -> ScmpCompareOp {
    use LinuxSeccompOperator as O;
    match op {
        O::ScmpCmpNe => ScmpCompareOp::NotEqual,
        O::ScmpCmpLt => ScmpCompareOp::Less,
        O::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        O::ScmpCmpEq => ScmpCompareOp::Equal,
        O::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        O::ScmpCmpGt => ScmpCompareOp::Greater,
        O::ScmpCmpMaskedEq => ScmpCompareOp::MaskedEqual(two.unwrap_or(0)),
    }
}

fn arch(a: Arch) -> ScmpArch {
    match a {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}

/// Puts this process, and all that it becomes, under the program.
fn load(program: &[u8], flags: u64) -> Result<(), String> {
    let count = program.len() / INSTRUCTION;
    let len = u16::try_from(count).ok().filter(|n| *n > 0 && program.len().is_multiple_of(INSTRUCTION));
    let len = len.ok_or_else(|| format!("a seccomp filter of {} bytes can't be right", program.len()))?;
    let mut instructions: Vec<libc::sock_filter> = Vec::with_capacity(count);
    for i in program.chunks_exact(INSTRUCTION) {
        let [c0, c1, jt, jf, k @ ..] = i else { continue };
        let k = k.try_into().map_or(0, u32::from_ne_bytes);
        instructions.push(libc::sock_filter { code: u16::from_ne_bytes([*c0, *c1]), jt: *jt, jf: *jf, k });
    }
    let prog = libc::sock_fprog { len, filter: instructions.as_mut_ptr() };
    // SAFETY: the kernel copies `len` instructions, which live until the call returns.
    let r =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const prog) };
    match r {
        0 => Ok(()),
        _ => Err(format!("load the seccomp filter: {}", std::io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn profile(v: serde_json::Value) -> LinuxSeccomp {
        serde_json::from_value(v).unwrap()
    }

    #[test]
    fn a_compiled_filter_holds_after_loading() {
        let dir = std::env::temp_dir().join(format!("kelson-seccomp-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let to = dir.join("f.bpf");
        let p = profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["sethostname", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99},
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 98,
             "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 9, "op": "SCMP_CMP_EQ"}]}]}));
        assert!(!needs_listener(&p));
        compile(&p, &to).unwrap();
        let program = std::fs::read(&to).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        // On a thread of its own: the filter stays on it until it ends.
        let errno = std::thread::spawn(move || {
            // SAFETY: prctl and the refused calls take no pointers but an empty name.
            unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                load(&program, 0).unwrap();
                let of = |r: libc::c_long| {
                    if r == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap() }
                };
                [
                    of(libc::syscall(libc::SYS_sethostname, c"".as_ptr(), 0)),
                    of(libc::syscall(libc::SYS_personality, 8)),
                    of(libc::syscall(libc::SYS_personality, 9)),
                ]
            }
        });
        assert_eq!(errno.join().unwrap(), [99, 98, 98]);
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        assert!(load(&[], 0).unwrap_err().contains("0 bytes"));
        assert!(load(&[1; 9], 0).unwrap_err().contains("9 bytes"));
        let p = profile(json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}));
        assert!(needs_listener(&p));
    }

    #[test]
    fn flags_of_the_profile() {
        let p = profile(json!({"defaultAction": "SCMP_ACT_ALLOW",
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}));
        assert_eq!(flags(&p), 6);
    }
}
