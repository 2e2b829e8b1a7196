//! `cargo xtask conformance`: Samba's smbtorture against the image, each case alone.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::process::{Command, Stdio};
use std::time::Duration;

use flash_layout::configuration::Policy;

use crate::arguments::Arguments;
use crate::flash::Provision;
use crate::machine::{Machine, Options};
use crate::report::Report;
use crate::run::{self, Signals};
use crate::{flash, outside, process, settings, tools};

/// A case that takes longer has failed.
const CASE_LIMIT: Duration = Duration::from_secs(40);

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
    Unfinished,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Unfinished => "unfinished",
        }
    }
}

/// The lines of a file in `tests/conformance`, as first word and rest.
fn list(name: &str) -> Result<Vec<(String, String)>, String> {
    let path = settings::root().join("tests").join("conformance").join(name);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    Ok(lines
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .map(|(a, b)| (a.into(), b.trim().into()))
        .collect())
}

/// The cases that must pass.
pub fn expected() -> Result<Vec<String>, String> {
    Ok(list("expected.txt")?.into_iter().map(|(name, _)| name).collect())
}

/// A server under test.
pub struct Torture {
    /// Its port 445.
    pub port: u16,
    /// The account's password.
    pub password: String,
}

impl Torture {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &CASE_LIMIT.as_secs().to_string(), program, "//127.0.0.1/data"]);
        command.args(["-p", &self.port.to_string(), "-U", &format!("nas%{}", self.password)]);
        // smbtorture leaves databases in the directory that it runs in.
        command.current_dir(std::env::temp_dir()).stdin(Stdio::null());
        command
    }

    /// Runs one case, and cleans up behind it if it failed. The first line of its complaint comes with it.
    fn case(&self, name: &str) -> (Outcome, String) {
        let mut command = self.command("smbtorture");
        command.arg(name);
        let Ok(output) = command.stderr(Stdio::piped()).stdout(Stdio::piped()).output() else {
            return (Outcome::Unfinished, "smbtorture does not start".into());
        };
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let (outcome, complaint) = judge(&text);
        if matches!(outcome, Outcome::Failed | Outcome::Unfinished) {
            let mut clean = self.command("smbclient");
            clean.args(["-c", "deltree *"]);
            let _ = process::output(&mut clean);
        }
        (outcome, complaint)
    }

    /// Runs the cases that must pass.
    pub fn regressions(&self, report: &mut Report) -> Result<(), String> {
        tools::require(&[tools::SMBTORTURE])?;
        let mut passed = 0;
        for name in expected()? {
            // Once more: a case that depends on time may be unlucky on a busy machine.
            let mut outcome = self.case(&name);
            if outcome.0 != Outcome::Passed {
                outcome = self.case(&name);
            }
            if outcome.0 == Outcome::Passed {
                passed += 1;
            } else {
                report.fail(&name, &format!("{}: {}", outcome.0.word(), outcome.1));
            }
        }
        report.add_passed(passed);
        println!("       {passed} smbtorture cases passed");
        Ok(())
    }
}

/// What smbtorture's output says about its one case.
fn judge(text: &str) -> (Outcome, String) {
    let mut outcome = Outcome::Unfinished;
    let mut complaint = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let found = [
            ("success: ", Outcome::Passed),
            ("failure: ", Outcome::Failed),
            ("error: ", Outcome::Failed),
            ("skip: ", Outcome::Skipped),
        ];
        let Some((_, kind)) = found.iter().find(|(word, _)| line.starts_with(word)) else { continue };
        outcome = *kind;
        if *kind != Outcome::Passed {
            complaint = lines.next().unwrap_or("").trim().to_string();
        }
    }
    if outcome == Outcome::Unfinished {
        complaint = text.lines().last().unwrap_or("").trim().to_string();
    }
    // The file's place in Samba's source is of no interest.
    let start = complaint.find(": ").filter(|_| complaint.starts_with("../")).map_or(0, |at| at + 2);
    (outcome, complaint.get(start..).unwrap_or("").to_string())
}

/// `cargo xtask conformance`.
pub fn command(rest: Vec<String>) -> Result<ExitCode, String> {
    let mut arguments = Arguments::new(rest);
    let only = arguments.value("--only")?;
    let accept = arguments.flag("--accept");
    arguments.finish()?;
    tools::require(&[tools::RUST_SRC, tools::QEMU, tools::SMBCLIENT, tools::SMBTORTURE])?;
    let signals = Signals::watch()?;
    flash::build("", false)?;
    let directory = settings::output_directory()?.join("conformance");
    let _ = std::fs::remove_dir_all(&directory);
    settings::make_directory(&directory)?;
    let options = Options {
        smb_port: outside::free_port()?,
        netbios_port: outside::free_port()?,
        smb_port2: outside::free_port()?,
        nic: "i82559er".into(),
        qemu_arguments: Vec::new(),
        directory,
    };
    let wanted = run::wanted(&options.directory, None, None, "data".into())?;
    // As the rival was run. With signing required, unsigned requests are refused before anything else is looked at.
    let wanted = Provision { signing: Some(Policy::Offered), ..wanted };
    run::prepare(&options, &flash::firmware()?, &wanted, 4 << 30)?;
    let mut machine = Machine::start(&options)?;
    run::wait_ready(&mut machine, options.smb_port, &signals)?.ok_or("interrupted")?;

    let torture = Torture { port: options.smb_port, password: wanted.password };
    let mut results = BTreeMap::new();
    for (rival, name) in list("cases.txt")? {
        if only.as_ref().is_some_and(|only| !name.starts_with(only.as_str())) {
            continue;
        }
        if signals.count() > 0 {
            return Err("interrupted".into());
        }
        let (outcome, complaint) = torture.case(&name);
        println!("{:<10} {name}  {complaint}", outcome.word());
        results.insert(name, (outcome, complaint, rival));
        if !machine.is_running() {
            return Err(machine.death());
        }
    }
    let console = options.directory.join("console.log");
    machine.power_off(Duration::from_secs(20));

    let must = expected()?;
    let lost: Vec<&String> = must
        .iter()
        .filter(|name| results.get(*name).is_some_and(|(outcome, ..)| *outcome != Outcome::Passed))
        .collect();
    for name in &lost {
        println!("lost: {name}");
    }
    let count = |wanted: Outcome| results.values().filter(|(outcome, ..)| *outcome == wanted).count();
    if only.is_none() {
        let document = document(&results, &list("reasons.txt")?);
        let path = settings::root().join("docs").join("conformance.md");
        std::fs::write(&path, document).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("\n{}", path.display());
    }
    if accept {
        let mut text = String::from(
            "# Cases that must pass: cargo xtask test runs them, cargo xtask conformance --accept writes them.\n",
        );
        let kept = must.iter().filter(|name| !results.contains_key(*name)).cloned();
        let passed = results
            .iter()
            .filter(|(_, (outcome, ..))| *outcome == Outcome::Passed)
            .map(|(name, _)| name.clone());
        let mut names: Vec<String> = kept.chain(passed).collect();
        names.sort();
        text.extend(names.iter().map(|name| format!("{name}\n")));
        let path = settings::root().join("tests").join("conformance").join("expected.txt");
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    println!("the console's log is {}", console.display());
    println!(
        "{} passed, {} failed, {} skipped, {} unfinished",
        count(Outcome::Passed),
        count(Outcome::Failed),
        count(Outcome::Skipped),
        count(Outcome::Unfinished)
    );
    Ok(if lost.is_empty() || accept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `docs/conformance.md`.
fn document(results: &BTreeMap<String, (Outcome, String, String)>, reasons: &[(String, String)]) -> String {
    let reason = |name: &str| {
        let fitting = reasons.iter().filter(|(start, _)| {
            name.strip_prefix(start.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_']))
                || name.starts_with(start.as_str()) && start.matches('.').count() >= 2
        });
        fitting.max_by_key(|(start, _)| start.len()).map(|(_, reason)| reason.as_str())
    };
    let of = |wanted: Outcome| results.iter().filter(move |(_, (outcome, ..))| *outcome == wanted);
    let rival = results.values().filter(|(_, _, rival)| rival == "success").count();
    let mut text = format!(
        "# Conformance: smbtorture against the image\n\n\
         Written by `cargo xtask conformance`: every case of smbtorture 4.17 in `tests/conformance/cases.txt`, each alone, {} s\n\
         at most, against the image in QEMU with signing offered. Linux 6.12 ksmbd passes {rival} of them on the same board.\n\n\
         | passed | failed | skipped | unfinished |\n|---|---|---|---|\n| {} | {} | {} | {} |\n",
        CASE_LIMIT.as_secs(),
        of(Outcome::Passed).count(),
        of(Outcome::Failed).count(),
        of(Outcome::Skipped).count(),
        of(Outcome::Unfinished).count(),
    );
    let behind: Vec<&String> = results
        .iter()
        .filter(|(_, (outcome, _, rival))| rival == "success" && *outcome != Outcome::Passed)
        .map(|(name, _)| name)
        .collect();
    text += &format!("\n## Passed by ksmbd and not here: {}\n\n", behind.len());
    for name in &behind {
        text += &format!("- {name}: {}\n", reason(name).unwrap_or("to be looked at"));
    }
    for outcome in [Outcome::Failed, Outcome::Unfinished, Outcome::Skipped] {
        text += &format!(
            "\n## {} cases\n\n| case | why | what smbtorture says |\n|---|---|---|\n",
            capital(outcome.word())
        );
        for (name, (_, complaint, _)) in of(outcome) {
            let complaint: String = complaint.replace('|', "/").chars().take(120).collect();
            text += &format!("| {name} | {} | {complaint} |\n", reason(name).unwrap_or(""));
        }
    }
    text += "\n## Passed cases\n\n";
    for (name, _) in of(Outcome::Passed) {
        text += &format!("- {name}\n");
    }
    text
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smbtorture_is_understood() {
        assert_eq!(judge("test: x\ntime: y\nsuccess: x\n"), (Outcome::Passed, String::new()));
        let failed =
            "failure: connect [\n../../source4/torture/smb2/connect.c:248: status was A, expected B\n]\n";
        assert_eq!(judge(failed), (Outcome::Failed, "status was A, expected B".into()));
        assert_eq!(judge("skip: x [\n../../a.c:1: no\n]").0, Outcome::Skipped);
        assert_eq!(judge("test: x\nwaiting"), (Outcome::Unfinished, "waiting".into()));
    }

    #[test]
    fn the_lists_can_be_read() {
        let cases = list("cases.txt").unwrap();
        assert!(cases.len() > 400 && cases.iter().all(|(_, name)| name.starts_with("smb2.")));
        assert!(expected().unwrap().iter().all(|name| cases.iter().any(|(_, case)| case == name)));
        assert!(list("reasons.txt").unwrap().iter().all(|(_, reason)| !reason.is_empty()));
    }
}
