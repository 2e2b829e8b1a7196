//! Runs the client suites of `tests/clients`, which print one line for each test.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::machine::Ports;
use crate::report::Report;
use crate::{process, settings};

/// Where the server is, and how much to do with it.
#[derive(Clone, Debug)]
pub struct Target {
    /// How it is reached.
    pub ports: Ports,
    /// The account's password.
    pub password: String,
    /// MiB of the large file.
    pub size: u32,
    /// Files of the tree.
    pub files: u32,
    /// Folders of the tree.
    pub folders: u32,
    /// Another share, or the same.
    pub share2: String,
    /// Everything, at full size.
    pub full: bool,
}

/// Runs the suite `name` against `target`; `limit` bounds the whole of it.
pub fn suite(
    report: &mut Report,
    python: &Path,
    name: &str,
    target: &Target,
    more: &[&str],
    limit: Duration,
) {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &limit.as_secs().to_string()]).arg(python);
    command.arg(settings::root().join("tests").join("clients").join(format!("{name}_suite.py")));
    for (option, value) in [
        ("--port", u32::from(target.ports.smb)),
        ("--port2", target.ports.smb2.into()),
        ("--netbios-port", target.ports.netbios.into()),
        ("--size", target.size),
        ("--files", target.files),
        ("--folders", target.folders),
    ] {
        command.arg(option).arg(value.to_string());
    }
    command.arg("--password").arg(&target.password).arg("--share2").arg(&target.share2);
    if target.full {
        command.arg("--full");
    }
    command.args(more).env("PYTHONDONTWRITEBYTECODE", "1");
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return report.fail(name, &format!("{error}")),
    };
    let mut passed = 0;
    let mut failed = 0;
    for line in process::lines(&mut child) {
        if let Some(rest) = line.strip_prefix("ok ") {
            passed += 1;
            println!("ok     {rest}");
        } else if let Some((test, reason)) =
            line.strip_prefix("not ok ").and_then(|rest| rest.split_once(": "))
        {
            failed += 1;
            report.fail(test, reason);
        } else {
            println!("       {line}");
        }
    }
    report.add_passed(passed);
    match child.wait() {
        Ok(status) if status.code() == Some(124) => {
            report.fail(name, &format!("took longer than {} s", limit.as_secs()))
        }
        Ok(status) if !status.success() && failed == 0 => {
            report.fail(name, &format!("the suite ended with {status}"))
        }
        Ok(_) if passed + failed == 0 => report.fail(name, "the suite ran no test"),
        Ok(_) => {}
        Err(error) => report.fail(name, &format!("{error}")),
    }
}
