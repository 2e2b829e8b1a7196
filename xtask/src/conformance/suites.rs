//! The tests that come with Python's client libraries.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Results;
use super::fleet::Member;
use super::outcome::{Outcome, normalised};
use crate::run::Signals;
use crate::{settings, tools};
use flash_layout::configuration::Policy;

/// The libraries; a result's name begins with one of them.
pub const PACKAGES: [&str; 3] = ["smbprotocol", "impacket", "pike"];

/// Seconds that the tests of one library may take.
const LIMIT: u32 = 900;

/// Runs the tests of those libraries that are `wanted`, on a machine that keeps its files in `directory`.
pub fn run(
    directory: &Path,
    signals: &Signals,
    tell: bool,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Results, String> {
    let mut results = Results::new();
    let packages: Vec<&str> = PACKAGES.into_iter().filter(|package| wanted(package)).collect();
    if packages.is_empty() {
        return Ok(results);
    }
    let (python, sources) = tools::python_suites()?;
    for package in packages {
        let mut member = Member::boot(&directory.join(package), Policy::Offered, signals)?;
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &LIMIT.to_string()]).arg(&python);
        command.arg(settings::root().join("tests").join("conformance").join("suites.py")).arg(package);
        command.args(member.suite_arguments()).arg("--sources").arg(&sources);
        command.current_dir(directory).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
        let output = command.output().map_err(|error| format!("{package}: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let before = results.len();
        for (name, outcome, complaint) in text.lines().filter_map(parse) {
            if tell {
                println!("{:<10} {name}  {complaint}", outcome.word());
            }
            // A test may end twice: in itself, and in what cleans up behind it.
            let entry = results.entry(name).or_insert_with(|| (outcome, complaint.clone()));
            if outcome == Outcome::Failed {
                *entry = (outcome, complaint);
            }
        }
        member.check().map_err(|error| format!("{package}: {error}"))?;
        member.end()?;
        if results.len() == before || output.status.code() == Some(124) {
            let errors = String::from_utf8_lossy(&output.stderr);
            let tail: Vec<&str> = text.lines().chain(errors.lines()).rev().take(20).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            return Err(format!("{package}: {}\n{}", output.status, tail.join("\n")));
        }
    }
    Ok(results)
}

/// One line of `suites.py`.
fn parse(line: &str) -> Option<(String, Outcome, String)> {
    let (word, rest) = line.strip_prefix('@')?.split_once(' ')?;
    let outcome = match word {
        "passed" => Outcome::Passed,
        "failed" => Outcome::Failed,
        "skipped" => Outcome::Skipped,
        _ => return None,
    };
    let (name, complaint) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((name.into(), outcome, normalised(complaint)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let line = "@failed pike.lock.LockTest.test_a assert 123456 == 1";
        assert_eq!(
            parse(line),
            Some(("pike.lock.LockTest.test_a".into(), Outcome::Failed, "assert N == 1".into()))
        );
        assert_eq!(parse("@passed pike.x "), Some(("pike.x".into(), Outcome::Passed, String::new())));
        assert_eq!(parse("something else"), None);
    }
}
