//! Running other programs to their end.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The command line as one would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=./,:+@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs `command` with its output shown. An error when it fails.
pub fn run(command: &mut Command) -> Result<(), String> {
    let shown = line(command);
    let status = command.stdin(Stdio::null()).status().map_err(|error| format!("{shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown}: {status}")) }
}

/// Runs `command` and returns what it printed on both streams; on failure that is the error, after its first line.
pub fn output(command: &mut Command) -> Result<String, String> {
    let shown = line(command);
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{shown}: {error}"))?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(format!("{shown}: {}\n{text}", output.status)) }
}

/// What a child prints on its piped standard output, line by line as it comes.
pub fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok)
}

/// Whether a program of this name is on the path (or is there, when it is a path itself).
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Administrators' tools are not on everybody's path.
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(std::path::PathBuf::from));
    places.map(|place| place.join(program)).any(|file| file.is_file())
}

/// Asks `done` every few milliseconds until it gives something, or `limit` has passed.
pub fn wait_for<T>(limit: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(result) = done() {
            return Some(result);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_can_be_typed_again() {
        let mut command = Command::new("smbclient");
        command.args(["//127.0.0.1/data", "-U", "nas%it's", ""]);
        assert_eq!(line(&command), r"smbclient //127.0.0.1/data -U 'nas%it'\''s' ''");
    }

    #[test]
    fn failures_carry_the_output() {
        let error = output(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap_err();
        assert!(error.contains("out\n") && error.contains("err\n") && error.contains('3'), "{error}");
        assert!(run(&mut Command::new("there-is-no-such-program")).is_err());
        assert!(exists("sh") && !exists("there-is-no-such-program"));
    }
}
