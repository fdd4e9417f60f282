//! Rules of the layout, written as what is absent.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").into()
}

/// Every Rust file below `folder`: path relative to it, and text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let base = root().join(folder);
    let mut open = vec![base.clone()];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(&base).expect("below").display().to_string();
                found.push((name, std::fs::read_to_string(&path).expect("UTF-8")));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

/// No file of `folder` that `concerns` has any of `words` outside comments and tests.
#[track_caller]
fn absent(folder: &str, concerns: impl Fn(&str) -> bool, words: &[&str]) {
    let mut looked_at = 0;
    for (name, text) in sources(folder) {
        if !concerns(&name) || name.ends_with("tests.rs") {
            continue;
        }
        looked_at += 1;
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in words {
                assert!(!code.contains(word), "{folder}/{name}:{}: `{word}` does not belong here", number + 1);
            }
        }
    }
    assert!(looked_at > 0, "the rule looks at something");
}

#[test]
fn harness_and_reference_do_not_know_each_other() {
    absent("harness/src", |_| true, &["partywall_reference"]);
    absent("reference-impl/src", |_| true, &["partywall::"]);
    let manifest = |folder: &str| std::fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
    assert!(!manifest("harness").contains("partywall-reference"));
    assert!(!manifest("reference-impl").contains("partywall.workspace"));
}

#[test]
fn only_the_target_knows_http_and_the_postgres_protocol() {
    let outside = |name: &str| {
        let open = ["target/", "wiretap/", "replay/", "postgres/", "migration/", "probe/"];
        let guard = ["guard/catalog/", "guard/prove", "guard/review.rs"];
        !open.iter().chain(&guard).any(|place| name.starts_with(place))
    };
    absent("harness/src", |name| outside(name) && !["drive.rs", "plant.rs"].contains(&name), &["reqwest", "sqlx"]);
}

#[test]
fn only_reports_and_the_command_line_print() {
    let prints = ["println!", "eprintln!", "print!(", "eprint!(", "stdout()", "stderr()"];
    absent("harness/src", |name| !name.starts_with("report/") && !name.starts_with("cli/"), &prints);
}

#[test]
fn plans_and_oracles_do_no_io_and_know_no_clock() {
    let pure = |name: &str| ["plan/", "oracle/", "canary/", "minimise"].iter().any(|place| name.starts_with(place));
    absent(
        "harness/src",
        pure,
        &["std::fs", "std::net::Tcp", "tokio", "async ", "Instant::now", "now_utc", "SystemTime"],
    );
}

#[test]
fn only_the_seed_makes_randomness() {
    absent("harness/src", |name| name != "seed.rs", &["rand::rng()", "from_os_rng", "from_entropy", "thread_rng"]);
}

#[test]
fn library_code_never_exits_the_process() {
    absent("harness/src", |name| name != "main.rs" && !name.starts_with("cli/"), &["process::exit", "process::abort"]);
    absent("reference-impl/src", |_| true, &["process::exit", "process::abort"]);
}

#[test]
fn no_oracle_knows_a_mutant_or_a_table_of_the_reference() {
    let mut words: Vec<String> = partywall::mutant::catalogue().expect("mutants").into_iter().map(|m| m.id).collect();
    let target = partywall::target::file::TargetFile::load(None).expect("the reference");
    words.extend(target.operation.iter().map(|o| format!("\"{}\"", o.id)));
    words.extend(target.plant.table.iter().map(|t| format!("\"{}\"", t.name)));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    absent("harness/src", |name| name.starts_with("oracle/") || name.starts_with("plan/"), &words);
}

#[test]
fn no_module_is_named_for_nothing() {
    for folder in ["harness/src", "reference-impl/src", "tests"] {
        for (name, _) in sources(folder) {
            let parts = name.trim_end_matches(".rs").split('/');
            for part in parts {
                assert!(!["utils", "util", "helpers", "common", "misc"].contains(&part), "{folder}/{name}");
            }
        }
    }
}

#[test]
fn every_mutant_that_a_requirement_names_exists() {
    let known: Vec<String> = partywall::mutant::catalogue().expect("mutants").into_iter().map(|m| m.id).collect();
    let walls: Vec<String> = partywall_tests::walls::all().expect("walls").into_iter().map(|wall| wall.id).collect();
    for requirement in partywall::requirement::catalogue().expect("requirements") {
        let known = if requirement.needs_probe() { &walls } else { &known };
        for id in &requirement.mutants {
            assert!(known.contains(id), "{} names {id}", requirement.id);
        }
    }
    let files = std::fs::read_dir(root().join("scenarios/mutants")).expect("mutants").count();
    assert_eq!(files, known.len(), "every file in scenarios/mutants is in the catalogue");
}
