//! A report as text: the cause first, then what shows it, then what helps.

use std::fmt::Write as _;

use crate::cause::{Cause, Finding, Report, Weight};
use crate::facts::names;

/// How many causes of one thing are told in full.
const CAUSES: usize = 3;
/// Values are cut here; they are whole in `-o json`.
const WIDEST: usize = 300;

fn cut(text: &str) -> String {
    let one: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if one.chars().count() <= WIDEST {
        return one;
    }
    let begin: String = one.chars().take(WIDEST).collect();
    format!("{begin}…")
}

fn place(f: &Finding) -> String {
    let thing = format!("{}/{}", f.kind, f.name);
    if f.namespace.is_empty() { thing } else { format!("{thing} in {}", f.namespace) }
}

fn affected(f: &Finding, c: &Cause) -> String {
    let own = format!("{}/{}", f.kind, f.name);
    let others: Vec<String> = c.affects.iter().filter(|a| **a != own).cloned().collect();
    if others.is_empty() { String::new() } else { format!(" [{}]", names(&others, 3)) }
}

fn details(out: &mut String, c: &Cause, indent: &str) {
    if !c.evidence.is_empty() {
        let _ = writeln!(out, "{indent}seen in:");
        for e in &c.evidence {
            let _ = writeln!(out, "{indent}  {}: {} = {}", e.object, e.field, cut(&e.value));
        }
    }
    if !c.help.is_empty() {
        let _ = writeln!(out, "{indent}what helps:");
        for h in &c.help {
            let _ = writeln!(out, "{indent}  {}", h.text);
            if let Some(command) = &h.command {
                let _ = writeln!(out, "{indent}    {command}");
            }
        }
    }
}

fn one(out: &mut String, f: &Finding) {
    let Some(first) = f.causes.first() else {
        let _ = writeln!(out, "{}: nothing is wrong with it", place(f));
        return;
    };
    if !f.is_broken() {
        let _ =
            writeln!(out, "{}: nothing is wrong with it, but {}{}", place(f), first.says, affected(f, first));
    } else {
        let _ = writeln!(out, "{}: {}{}", place(f), cut(&first.says), affected(f, first));
    }
    details(out, first, "  ");
    for c in f.causes.iter().skip(1).take(CAUSES - 1) {
        let word = match c.weight {
            Weight::Root | Weight::State => "also",
            Weight::Symptom => "so",
            Weight::Note => "by the way",
        };
        let _ = writeln!(out, "  {word}: {}{}", cut(&c.says), affected(f, c));
        if c.weight <= Weight::State {
            details(out, c, "    ");
        }
    }
    if f.causes.len() > CAUSES {
        let _ = writeln!(out, "  and {} more (-o json tells them)", f.causes.len() - CAUSES);
    }
}

fn unread(out: &mut String, r: &Report) {
    for (what, why) in &r.unread {
        let _ = writeln!(out, "not looked at: {what} ({})", cut(why));
    }
}

/// About one thing.
pub fn thing(r: &Report) -> String {
    let mut out = String::new();
    r.findings.iter().for_each(|f| one(&mut out, f));
    unread(&mut out, r);
    out
}

/// About everything: one line per cause, with all things that share it.
pub fn everything(r: &Report) -> String {
    let mut groups: Vec<(&Cause, Vec<String>)> = Vec::new();
    for f in &r.findings {
        let Some(c) = f.causes.first() else { continue };
        let member = format!("{}{}", place(f), affected(f, c));
        match groups.iter_mut().find(|(g, _)| g.code == c.code && g.says == c.says) {
            Some((_, all)) => all.push(member),
            None => groups.push((c, vec![member])),
        }
    }
    let mut out = String::new();
    if groups.is_empty() {
        let _ = writeln!(out, "everything does what it should");
    }
    for (c, all) in groups {
        let _ = writeln!(out, "{}", cut(&c.says));
        for thing in all.iter().take(5) {
            let _ = writeln!(out, "  {thing}");
        }
        if all.len() > 5 {
            let _ = writeln!(out, "  and {} more", all.len() - 5);
        }
        if let Some(h) = c.help.first() {
            let command = h.command.as_deref().map(|c| format!(": {c}")).unwrap_or_default();
            let _ = writeln!(out, "  what helps: {}{command}", h.text);
        }
    }
    unread(&mut out, r);
    out
}
