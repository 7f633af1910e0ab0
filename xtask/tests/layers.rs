//! Holds the house in shape: crates depend downwards only, files say what they are for, ARCHITECTURE.md lists what the
//! code has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Crate to what it may use, from the top of the house to its bottom.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let pure = ["api", "patch"];
    let component = |more: &[&'static str]| [&["api", "client"], more].concat();
    BTreeMap::from([
        ("cel", vec![]),
        ("api", vec!["cel"]),
        ("patch", vec!["api"]),
        ("store", vec![]),
        ("pki", vec![]),
        ("cri", vec![]),
        ("shim", vec![]),
        ("netlink", vec![]),
        ("runtime", vec!["cri", "shim"]),
        ("client", pure[..1].to_vec()),
        ("apiserver", component(&["patch", "store", "pki", "cel"])),
        ("controllers", component(&["netlink", "pki"])),
        ("scheduler", component(&["pki"])),
        ("kubelet", component(&["cri", "pki"])),
        ("cni", vec!["netlink", "cri"]),
        ("proxy", component(&["netlink"])),
        ("dns", component(&[])),
        ("simulate", component(&[])),
        // Asks the scheduler's pure core what nodes say.
        ("why", component(&["scheduler"])),
    ])
}

fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut out = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]";
        } else if inside && let Some(name) = line.split(['.', ' ', '=']).next().filter(|n| !n.is_empty()) {
            out.push(name.to_owned());
        }
    }
    out
}

#[test]
fn crates_depend_downwards_only() {
    let allowed = allowed();
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(root().join("crates")).expect("crates") {
        let dir = entry.expect("entry").path();
        let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if matches!(name.as_str(), "kelson" | "testkit") {
            continue;
        }
        let Some(may) = allowed.get(name.as_str()) else {
            wrong.push(format!(
                "crate {name} has no place in the layers; give it one in xtask/tests/layers.rs"
            ));
            continue;
        };
        let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).expect("Cargo.toml");
        for d in dependencies(&manifest) {
            if d == "clap" {
                wrong.push(format!("{name} uses clap, which only kelson may"));
            }
            if (allowed.contains_key(d.as_str()) || d == "kelson") && !may.contains(&d.as_str()) {
                wrong.push(format!("{name} uses {d}, which is not below it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                sources(&path, out);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_stays_small() {
    let mut files = Vec::new();
    for dir in ["crates", "tests", "xtask", "bench", "fuzz"] {
        sources(&root().join(dir), &mut files);
    }
    let mut wrong = Vec::new();
    for f in files {
        let text = std::fs::read_to_string(&f).expect("source");
        if !text.starts_with("//!") && !text.trim().is_empty() {
            wrong.push(format!("{} does not open with //!", f.display()));
        }
        if text.lines().count() > 1000 {
            wrong.push(format!("{} is longer than 1,000 lines: split it", f.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_crates_do_no_io_and_read_no_clock() {
    let mut files = Vec::new();
    for dir in [
        "crates/api/src",
        "crates/cel/src",
        "crates/patch/src",
        "crates/scheduler/src/core",
        "crates/scheduler/src/plugins",
        "crates/why/src/families",
    ] {
        sources(&root().join(dir), &mut files);
    }
    for crate_ in ["proxy", "cni"] {
        files.push(root().join(format!("crates/{crate_}/src/render.rs")));
    }
    for part in ["node", "pod", "stage", "status", "failures", "world"] {
        files.push(root().join(format!("crates/simulate/src/{part}.rs")));
    }
    let mut wrong = Vec::new();
    for f in files.iter().filter(|f| !f.ends_with("tests.rs")) {
        let text = std::fs::read_to_string(f).expect("source");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for banned in
            ["std::fs", "std::net::Tcp", "tokio::", "SystemTime::now", "Instant::now", "Timestamp::now"]
        {
            if code.contains(banned) {
                wrong.push(format!("{} uses {banned}", f.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The words in the first column of the table under `heading`.
fn table(text: &str, heading: &str) -> Vec<String> {
    let section = text.split(&format!("### {heading}")).nth(1).unwrap_or_default();
    let section = section.split("\n### ").next().unwrap_or_default();
    section
        .lines()
        .filter(|l| l.starts_with("| `"))
        .filter_map(|l| l.split('`').nth(1).map(str::to_owned))
        .collect()
}

#[test]
fn architecture_lists_every_loop() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let code = std::fs::read_to_string(root().join("crates/controllers/src/table.rs")).expect("table.rs");
    let mut loops: Vec<String> = code
        .lines()
        .filter_map(|l| l.trim().strip_prefix("name: \"")?.strip_suffix("\",").map(str::to_owned))
        .collect();
    let mut told = table(&text, "Loop → file");
    loops.sort();
    told.sort();
    assert_eq!(told, loops, "ARCHITECTURE.md and the controllers' table differ");
}

/// What ARCHITECTURE.md says that each loop watches is what the loop's row says.
#[test]
fn architecture_says_what_loops_watch() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let code = std::fs::read_to_string(root().join("crates/controllers/src/table.rs")).expect("table.rs");
    let section = text.split("### Loop → file").nth(1).unwrap_or_default();
    let mut wrong = Vec::new();
    for row in code.split("    Loop {").skip(1) {
        let name = row.split('"').nth(1).unwrap_or_default();
        let listed = row.split("watches: &[").nth(1).and_then(|r| r.split(']').next()).unwrap_or_default();
        let watches: Vec<&str> = listed.split('"').skip(1).step_by(2).collect();
        let line = section.lines().find(|l| l.starts_with(&format!("| `{name}` |"))).unwrap_or_default();
        let told = line.split('|').nth(3).unwrap_or_default().trim();
        if told != watches.join(", ") {
            wrong.push(format!("{name}: told {told:?}, watches {:?}", watches.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "ARCHITECTURE.md and the controllers' table differ:\n{}", wrong.join("\n"));
}

/// Tables apart.
#[test]
fn pages_have_lines_that_can_be_read() {
    let mut pages: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
        .iter()
        .map(|p| root().join(p))
        .collect();
    for dir in ["docs", "docs/adr", "docs/checklists"] {
        let entries = std::fs::read_dir(root().join(dir)).expect("docs").map(|e| e.expect("an entry").path());
        pages.extend(entries.filter(|p| p.extension().is_some_and(|e| e == "md")));
    }
    let mut long = Vec::new();
    for p in pages {
        let text = std::fs::read_to_string(&p).expect("a page");
        let lines = text.lines().enumerate().filter(|(_, l)| !l.starts_with('|') && l.chars().count() > 145);
        long.extend(lines.map(|(n, _)| format!("{}:{}", p.display(), n + 1)));
    }
    assert!(long.is_empty(), "longer than 145 characters: {long:#?}");
}

#[test]
fn architecture_names_files_that_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let missing: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|w| w.starts_with("crates/") && !w.contains(['*', '<', '…']))
        .filter(|w| !root().join(w).exists())
        .collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:?}");
}
