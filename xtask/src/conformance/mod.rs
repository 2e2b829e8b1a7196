//! `cargo xtask conformance`: test suites that others wrote, against the image, each case by itself.

mod fleet;
mod lists;
mod outcome;
mod suites;
mod torture;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use crate::arguments::Arguments;
use crate::report::Report;
use crate::run::Signals;
use crate::{flash, settings, tools};
use lists::ByName;
use outcome::Outcome;
use torture::CASE_LIMIT;

/// How cases ended, and their complaints.
type Results = BTreeMap<String, (Outcome, String)>;

/// Runs the cases that must pass, on machines that keep their files in `directory`.
pub fn regressions(report: &mut Report, directory: &Path, signals: &Signals) -> Result<(), String> {
    tools::require(&[tools::SMBTORTURE])?;
    let expected = lists::expected()?;
    let names: Vec<String> = expected.into_iter().filter(|name| name.starts_with("smb2.")).collect();
    let results = torture(&names, directory, signals, false)?;
    let failed = |results: &Results| -> Vec<String> {
        let failed = results.iter().filter(|(_, (outcome, _))| *outcome != Outcome::Passed);
        failed.map(|(name, _)| name.clone()).collect()
    };
    // Once more: a case that depends on time may be unlucky on a busy machine.
    let again = torture(&failed(&results), directory, signals, false)?;
    for (name, (outcome, complaint)) in again.iter().filter(|(_, (outcome, _))| *outcome != Outcome::Passed) {
        report.fail(name, &format!("{}: {complaint}", outcome.word()));
    }
    let passed = names.len() - failed(&again).len();
    report.add_passed(passed);
    println!("       {passed} smbtorture cases passed");
    Ok(())
}

/// Runs smbtorture's `names`.
fn torture(names: &[String], directory: &Path, signals: &Signals, tell: bool) -> Result<Results, String> {
    let results = Mutex::new(Results::new());
    fleet::run(names, directory, signals, &|name, outcome, complaint| {
        if tell {
            println!("{:<10} {name}  {complaint}", outcome.word());
        }
        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
        results.insert(name.into(), (outcome, complaint));
    })?;
    Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// `cargo xtask conformance`.
pub fn command(rest: Vec<String>) -> Result<ExitCode, String> {
    let mut arguments = Arguments::new(rest);
    let only = arguments.values("--only")?;
    let accept = arguments.flag("--accept");
    arguments.finish()?;
    tools::require(&[tools::RUST_SRC, tools::QEMU, tools::SMBCLIENT, tools::SMBTORTURE])?;
    let signals = Signals::watch()?;
    flash::build("", false)?;
    let directory = settings::output_directory()?.join("conformance");
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| name.starts_with(only.as_str()));
    let cases = lists::cases()?;
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).filter(|name| wanted(name)).collect();
    // The libraries' tests mostly wait, too.
    let (results, more) = std::thread::scope(|scope| {
        let chosen = |package: &str| {
            only.is_empty() || only.iter().any(|only| only.split('.').next() == Some(package))
        };
        let (directory, signals) = (&directory, &signals);
        let more = scope.spawn(move || suites::run(directory, signals, true, &chosen));
        let results = torture(&names, directory, signals, true);
        (results, more.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    });
    let mut results = results?;
    results.append(&mut more?);
    let unsteady = lists::unsteady()?;
    for (name, reason) in &unsteady {
        if let Some(result) = results.get_mut(name) {
            *result = (Outcome::Unsteady, reason.clone());
        }
    }

    let must = lists::expected()?;
    let passed = |name: &String| results.get(name).is_none_or(|(outcome, _)| *outcome == Outcome::Passed);
    let lost: Vec<&String> = must.iter().filter(|name| !passed(name)).collect();
    for name in &lost {
        println!("lost: {name}");
    }
    let reasons = ByName::reasons()?;
    for (name, (outcome, _)) in &results {
        if !matches!(outcome, Outcome::Passed | Outcome::Unsteady) && reasons.find(name).is_none() {
            println!("no reason is written down: {name}");
        }
    }
    if only.is_empty() {
        let document = document(&results, &cases, &reasons);
        let path = settings::root().join("docs").join("conformance.md");
        std::fs::write(&path, document).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("\n{}", path.display());
    }
    if accept {
        let mut text = String::from(
            "# Cases that must pass: cargo xtask test runs them, cargo xtask conformance --accept writes them.\n",
        );
        let kept = must.iter().filter(|name| !results.contains_key(*name)).cloned();
        let passed = results.iter().filter(|(_, (outcome, _))| *outcome == Outcome::Passed);
        let mut names: Vec<String> = kept.chain(passed.map(|(name, _)| name.clone())).collect();
        names.sort();
        text.extend(names.iter().map(|name| format!("{name}\n")));
        let path = settings::root().join("tests").join("conformance").join("expected.txt");
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let count = |wanted: Outcome| results.values().filter(|(outcome, _)| *outcome == wanted).count();
    println!(
        "{} passed, {} failed, {} skipped, {} unfinished, {} unsteady",
        count(Outcome::Passed),
        count(Outcome::Failed),
        count(Outcome::Skipped),
        count(Outcome::Unfinished),
        count(Outcome::Unsteady)
    );
    Ok(if lost.is_empty() || accept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `docs/conformance.md`.
fn document(results: &Results, cases: &[lists::Case], reasons: &ByName) -> String {
    let rival: Vec<&String> =
        cases.iter().filter(|case| case.rival == "success").map(|case| &case.name).collect();
    let mut text = format!(
        "# Conformance: test suites of others against the image\n\n\
         Written by `cargo xtask conformance`: the cases of smbtorture 4.17 in `tests/conformance/cases.txt`, each alone, {CASE_LIMIT} s\n\
         at most unless `options.txt` says more, and the tests that come with smbprotocol, impacket and pike and need a server,\n\
         against the image in QEMU with signing offered. Linux 6.12 ksmbd passes {} of smbtorture's cases on the same board.\n\n\
         | suite | passed | failed | skipped | unfinished | unsteady |\n|---|---|---|---|---|---|\n",
        rival.len(),
    );
    let sets: Vec<&str> = ["smb2"].into_iter().chain(suites::PACKAGES).collect();
    let of = |set: &str, wanted: Outcome| {
        let start = format!("{set}.");
        results
            .iter()
            .filter(move |(name, (outcome, _))| *outcome == wanted && name.starts_with(&start))
            .map(|(name, (_, complaint))| (name, complaint))
            .collect::<Vec<_>>()
    };
    const OUTCOMES: [Outcome; 5] =
        [Outcome::Passed, Outcome::Failed, Outcome::Skipped, Outcome::Unfinished, Outcome::Unsteady];
    for set in &sets {
        let counts = OUTCOMES.map(|outcome| of(set, outcome).len().to_string());
        text += &format!("| {set} | {} |\n", counts.join(" | "));
    }
    let passes = |name: &String| {
        results.get(name).is_some_and(|(outcome, _)| matches!(outcome, Outcome::Passed | Outcome::Unsteady))
    };
    let behind: Vec<&String> = rival.into_iter().filter(|name| !passes(name)).collect();
    text += &format!("\n## Passed by ksmbd and not here: {}\n\n", behind.len());
    for name in &behind {
        text += &format!("- {name}: {}\n", reasons.find(name).unwrap_or("to be looked at"));
    }
    for set in &sets {
        for outcome in [Outcome::Failed, Outcome::Unfinished, Outcome::Skipped] {
            let cases = of(set, outcome);
            if cases.is_empty() {
                continue;
            }
            text += &format!(
                "\n## {set}: {} cases\n\n| case | why | what it says |\n|---|---|---|\n",
                outcome.word()
            );
            for (name, complaint) in cases {
                let complaint: String = complaint.replace('|', "/").chars().take(120).collect();
                text += &format!("| {name} | {} | {complaint} |\n", reasons.find(name).unwrap_or(""));
            }
        }
    }
    text += "\n## Unsteady cases: run, but not counted\n\n";
    for set in &sets {
        text.extend(of(set, Outcome::Unsteady).iter().map(|(name, reason)| format!("- {name}: {reason}\n")));
    }
    text += "\n## Passed cases\n\n";
    for set in &sets {
        text.extend(of(set, Outcome::Passed).iter().map(|(name, _)| format!("- {name}\n")));
    }
    text
}
