//! One case of smbtorture.

use std::process::{Command, Stdio};

use super::outcome::{Outcome, normalised};
use crate::process;

/// A case that takes longer has failed, unless `options.txt` gives it more (`limit=SECONDS`).
pub const CASE_LIMIT: u64 = 80;

/// The second account of the servers under test.
pub const SECOND_USER: &str = "other";

/// A server under test.
#[derive(Clone, Debug)]
pub struct Torture {
    /// Its port 445.
    pub port: u16,
    /// The accounts' password.
    pub password: String,
}

impl Torture {
    fn command(&self, program: &str, limit: u64) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &limit.to_string(), program, "//127.0.0.1/data"]);
        command.args(["-p", &self.port.to_string(), "-U", &format!("nas%{}", self.password)]);
        // smbtorture leaves databases in the directory that it runs in.
        command.current_dir(std::env::temp_dir()).stdin(Stdio::null());
        command
    }

    /// Runs one case with the words of `options`, and cleans up behind it. The first line of its complaint comes with
    /// it.
    pub fn case(&self, name: &str, options: &str) -> (Outcome, String) {
        let limit = options.split_whitespace().find_map(|word| word.strip_prefix("limit=")?.parse().ok());
        let mut command = self.command("smbtorture", limit.unwrap_or(CASE_LIMIT));
        command.arg(format!("--option=torture:user2name={SECOND_USER}"));
        command.arg(format!("--option=torture:user2password={}", self.password));
        command.args(options.split_whitespace().filter(|word| word.starts_with('-'))).arg(name);
        let Ok(output) = command.stderr(Stdio::piped()).stdout(Stdio::piped()).output() else {
            return (Outcome::Unfinished, "smbtorture does not start".into());
        };
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        // No case finds what another has left.
        let mut clean = self.command("smbclient", CASE_LIMIT);
        clean.args(["-c", "deltree *"]);
        let _ = process::output(&mut clean);
        judge(&text)
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
        let said = |line: &&str| !line.starts_with("time: ") && !line.trim().is_empty();
        complaint = text.lines().rfind(said).unwrap_or("").trim().to_string();
    }
    (outcome, normalised(&complaint))
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
}
