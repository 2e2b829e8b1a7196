//! `cargo xtask test`: style, host tests, the same on a big-endian processor, the image driven by real clients.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::arguments::Arguments;
use crate::report::Report;
use crate::{outside, process, settings, tools};

/// The parts, in their order.
const PARTS: [&str; 4] = ["style", "host", "big-endian", "image"];

/// Foreign programs that the storage crate's tests ask for their verdict.
const JUDGES: [tools::Tool; 2] = [tools::FSCK_EXFAT, tools::FSCK_FAT];

/// The target of the big-endian host tests: 32 bits, as the board.
const BIG_ENDIAN: &str = "powerpc-unknown-linux-gnu";

/// `cargo xtask test`.
pub fn command(rest: Vec<String>) -> Result<ExitCode, String> {
    let mut arguments = Arguments::new(rest);
    let full = arguments.flag("--full");
    let only = arguments.values("--only")?;
    let suite = arguments.value("--suite")?;
    arguments.finish()?;
    if let Some(unknown) = only.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(format!("{unknown} is no part of the test; the parts are: {}", PARTS.join(" ")));
    }
    let mut report = Report::new();
    for part in PARTS {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == part) {
            continue;
        }
        let result = match part {
            "style" => style(&mut report),
            "host" => host(&mut report),
            "big-endian" => big_endian(&mut report),
            _ => outside::run(&mut report, full, suite.as_deref()),
        };
        if let Err(error) = result {
            report.fail(part, &error);
        }
    }
    Ok(report.finish())
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(settings::root());
    command
}

fn style(report: &mut Report) -> Result<(), String> {
    report.heading("format and clippy");
    tools::require(&[tools::RUSTFMT, tools::CLIPPY, tools::RUST_SRC])?;
    report.check("cargo fmt --check", || {
        process::output(cargo().args(["fmt", "--all", "--check"])).map(|_| ())
    });
    println!(
        "       cargo clippy, for the host and for the board; a few minutes when nothing is compiled yet"
    );
    report.check("cargo clippy, host", || {
        process::output(cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
        .map(|_| ())
    });
    report.check("cargo clippy, board", || {
        let mut command = cargo();
        command.env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        command.args([
            "clippy",
            "--quiet",
            "--release",
            "--package",
            "firmware",
            "--package",
            "ppc750-nas",
            "--bins",
        ]);
        command.args(["--target", "boards/ppc750-nas/powerpc750-none.json", "-Zjson-target-spec"]);
        command.args(["-Zbuild-std=core,alloc", "-Zbuild-std-features=compiler-builtins-mem"]);
        command.args(["--", "-D", "warnings"]);
        process::output(&mut command).map(|_| ())
    });
    Ok(())
}

fn host(report: &mut Report) -> Result<(), String> {
    report.heading("host tests");
    tools::require(&JUDGES)?;
    cargo_test(report, "host tests", cargo().args(["test", "--quiet", "--workspace", "--no-fail-fast"]))?;
    // The fuzz targets' seeds; the crate is no member of the workspace.
    let mut seeds = cargo();
    seeds.args([
        "test",
        "--release",
        "--quiet",
        "--no-default-features",
        "--manifest-path",
        "fuzz/Cargo.toml",
    ]);
    cargo_test(report, "fuzz seeds", &mut seeds)
}

fn big_endian(report: &mut Report) -> Result<(), String> {
    report.heading("the same on a big-endian processor");
    tools::require(&[tools::QEMU_USER, tools::POWERPC_GCC, tools::POWERPC_LIBC, tools::POWERPC_STD])?;
    tools::require(&JUDGES)?;
    let mut command = cargo();
    command
        .env("CARGO_TARGET_POWERPC_UNKNOWN_LINUX_GNU_LINKER", "powerpc-linux-gnu-gcc")
        .env("CARGO_TARGET_POWERPC_UNKNOWN_LINUX_GNU_RUNNER", "qemu-ppc -L /usr/powerpc-linux-gnu")
        // A process that qemu-user forks while other threads run may wait for a lock of theirs for ever, before it becomes fsck.
        .env("RUST_TEST_THREADS", "1")
        .args(["test", "--quiet", "--workspace", "--no-fail-fast", "--exclude", "xtask", "--lib", "--tests"])
        .args(["--target", BIG_ENDIAN]);
    cargo_test(report, "big-endian host tests", &mut command)
}

/// Runs `cargo test` and counts its tests.
fn cargo_test(report: &mut Report, name: &str, command: &mut Command) -> Result<(), String> {
    let started = Instant::now();
    let shown = process::line(command);
    println!("       {shown}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{shown}: {error}"))?;
    let (mut passed, mut failed) = (0, 0);
    let mut failures = Vec::new();
    let mut inside = false;
    for line in process::lines(&mut child) {
        if let Some((good, bad)) = counts(&line) {
            passed += good;
            failed += bad;
            inside = false;
        } else if line == "failures:" {
            inside = true;
        } else if inside && failures.len() < 200 {
            failures.push(line);
        }
    }
    let status = child.wait().map_err(|error| format!("{shown}: {error}"))?;
    report.add_passed(passed);
    println!("       {passed} passed, {failed} failed ({:.0} s)", started.elapsed().as_secs_f32());
    if failed > 0 || !status.success() {
        report.fail(name, &format!("{failed} failed ({status})\n{}", failures.join("\n")));
    } else if passed == 0 {
        report.fail(name, "no test ran");
    }
    Ok(())
}

/// Passed and failed of libtest's line `test result: ok. 27 passed; 0 failed; ...`.
fn counts(line: &str) -> Option<(usize, usize)> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        rest.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
    };
    Some((number("passed")?, number("failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_is_understood() {
        let line =
            "test result: ok. 27 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.67s";
        assert_eq!(counts(line), Some((27, 0)));
        assert_eq!(counts("test result: FAILED. 1 passed; 2 failed; 0 ignored"), Some((1, 2)));
        assert_eq!(counts("running 3 tests"), None);
    }
}
