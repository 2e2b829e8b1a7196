//! The shell: prompts, questions and their answers around the commands.

use alloc::string::{String, ToString};
use core::fmt::{self, Write};

use crate::command::{self, Next};
use crate::editor::{Editor, Event};
use crate::system::System;

/// The prompt for a command.
const PROMPT: &str = "nas> ";

/// One administrator at one terminal.
#[derive(Debug)]
pub struct Shell {
    editor: Editor,
    state: State,
}

/// What the line being typed is for.
#[derive(Debug)]
enum State {
    /// A command.
    Command,
    /// The word `yes`, before `action` is carried out.
    Confirm(Action),
    /// A password, before `action` is carried out with it.
    Password(PasswordFor),
    /// The same once more.
    Again(PasswordFor, String),
}

/// What is done once it was confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Format the disk on a channel.
    Format(usize, crate::DiskFormat),
    /// Change the array.
    Array(crate::ArrayChange),
    /// Check a volume, or repair it.
    Check(usize, bool),
    /// Let a volume grow.
    GrowVolume(usize),
    /// Remove a volume.
    RemoveVolume(usize),
    /// Remove an account.
    RemoveUser(String),
    /// Remove a share.
    RemoveShare(String),
    /// Reboot or switch off.
    Restart(crate::Restart),
}

/// What a password is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PasswordFor {
    /// A new account: its name, and whether it is an administrator's.
    New(String, bool),
    /// An account that exists.
    Change(String),
}

impl Default for Shell {
    fn default() -> Self {
        Self::new()
    }
}

impl Shell {
    /// A shell before its first prompt: call [`Shell::start`].
    #[must_use]
    pub fn new() -> Self {
        Self { editor: Editor::new(), state: State::Command }
    }

    /// Prints the first prompt.
    pub fn start(&mut self, out: &mut dyn Write) -> fmt::Result {
        self.state = State::Command;
        self.editor.begin(PROMPT, false, out)
    }

    /// Takes bytes from the terminal; a command runs when its line is complete, before this returns. What the
    /// commands print arrives at `out` as they go on.
    pub fn receive(&mut self, bytes: &[u8], system: &mut dyn System, out: &mut dyn Write) -> fmt::Result {
        for byte in bytes {
            match self.editor.byte(*byte, out)? {
                None => {}
                Some(Event::Line(line)) => self.line(&line, system, out)?,
                Some(Event::Interrupted) => self.start(out)?,
                Some(Event::EndOfFile) => {}
                Some(Event::Complete) => self.complete(out)?,
            }
        }
        Ok(())
    }

    /// Prints a line of the log above the line being typed.
    pub fn announce(&mut self, line: &str, out: &mut dyn Write) -> fmt::Result {
        self.editor.erase(out)?;
        writeln!(Printer(out), "{line}")?;
        self.editor.redraw(out)
    }

    fn line(&mut self, line: &str, system: &mut dyn System, out: &mut dyn Write) -> fmt::Result {
        let next = match core::mem::replace(&mut self.state, State::Command) {
            State::Command => command::run(line, system, &mut Printer(out))?,
            State::Confirm(action) if line.trim() == "yes" => {
                command::carry_out(&action, system, &mut Printer(out))?;
                Next::Prompt
            }
            State::Confirm(_) => {
                writeln!(Printer(out), "Nothing done.")?;
                Next::Prompt
            }
            State::Password(_) if line.is_empty() => {
                writeln!(Printer(out), "No password, nothing done.")?;
                Next::Prompt
            }
            State::Password(purpose) => {
                self.state = State::Again(purpose, line.to_string());
                return self.editor.begin("Again: ", true, out);
            }
            State::Again(purpose, password) => {
                if password == line {
                    command::set_password(&purpose, &password, system, &mut Printer(out))?;
                } else {
                    writeln!(Printer(out), "They differ, nothing done.")?;
                }
                Next::Prompt
            }
        };
        match next {
            Next::Prompt => self.start(out),
            Next::Confirm(action) => {
                self.state = State::Confirm(action);
                self.editor.begin("Type yes to go on: ", false, out)
            }
            Next::Password(purpose) => {
                self.state = State::Password(purpose);
                self.editor.begin("Password: ", true, out)
            }
        }
    }

    /// Completes a command's name, if one alone fits, or lists those that do.
    fn complete(&mut self, out: &mut dyn Write) -> fmt::Result {
        let (word, first) = self.editor.word();
        if !first || !matches!(self.state, State::Command) {
            return Ok(());
        }
        let fitting = || command::names().filter(|name| name.starts_with(&word));
        match (fitting().next(), fitting().count()) {
            (Some(name), 1) => {
                self.editor.insert(name.get(word.len()..).unwrap_or(""), out)?;
                self.editor.insert(" ", out)
            }
            (Some(_), _) => {
                self.editor.erase(out)?;
                for name in fitting() {
                    write!(out, "{name}  ")?;
                }
                out.write_str("\r\n")?;
                self.editor.redraw(out)
            }
            (None, _) => out.write_char('\u{7}'),
        }
    }
}

/// Ends lines as terminals want it, and makes what came from elsewhere (file names, log lines) harmless: other control
/// characters are shown as `?`.
pub(crate) struct Printer<'a>(pub(crate) &'a mut dyn Write);

impl Write for Printer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.0.write_str("\r\n")?;
            }
            for piece in line.split_inclusive(char::is_control) {
                let clean = piece.trim_end_matches(char::is_control);
                self.0.write_str(clean)?;
                if clean.len() < piece.len() {
                    self.0.write_char('?')?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    /// What the terminal shows after `input`, escape sequences and all, and what the system was asked to do.
    fn session(input: &str) -> (String, Model) {
        let (mut shell, mut system, mut out) = (Shell::new(), Model::default(), String::new());
        shell.start(&mut out).unwrap();
        shell.receive(input.as_bytes(), &mut system, &mut out).unwrap();
        (out, system)
    }

    #[test]
    fn destructive_commands_ask_first() {
        let (out, system) = session("format 0\rno\r");
        assert!(out.contains("Nothing done."), "{out}");
        assert_eq!(system.done, [""; 0]);
        let (_, system) = session("format 0\r\x03");
        assert_eq!(system.done, [""; 0]);
        let (_, system) = session("format 0\ryes\rformat 1 fat32\ryes\r");
        assert_eq!(system.done, ["format 0 ExFat", "format 1 Fat32"]);
        let (out, system) = session("check 0\rno\rcheck 1\ryes\rcheck 0 repair\ryes\r");
        assert_eq!(system.done, ["check 1 false", "check 0 true"]);
        assert!(out.contains("nothing is wrong"), "{out}");
        let (_, system) = session("user del ada\ryes\rshare del data\ryes\r");
        assert_eq!(system.done, ["remove user ada", "remove share data"]);
        let (out, system) = session("volume del 0\rno\rvolume del 0\ryes\r");
        assert_eq!(system.done, ["remove volume 0"]);
        assert!(out.contains("Volume 0 is gone"), "{out}");
    }

    #[test]
    fn passwords_are_asked_twice_and_never_shown() {
        let (out, system) = session("user add eve\rs3cret\rs3cret\ruser passwd ada\rother1\rother1\r");
        assert_eq!(system.done, ["add user eve s3cret false", "password ada other1"]);
        assert!(!out.contains("s3cret") && !out.contains("other1"), "{out}");
        let (out, system) = session("user add eve\rone\rtwo\ruser add eve\r\r");
        assert_eq!(system.done, [""; 0]);
        assert!(out.contains("They differ") && out.contains("No password"), "{out}");
    }

    #[test]
    fn interrupt_leaves_a_question() {
        let (_, system) = session("user add eve\rone\x03user passwd ada\rx\rx\r");
        assert_eq!(system.done, ["password ada x"]);
    }

    #[test]
    fn tab_completes() {
        let (out, _) = session("he\t\r");
        assert!(out.contains("help ") && out.contains("Commands"), "{out}");
        let (out, _) = session("d\t");
        assert!(out.contains("date  disks"), "{out}");
        let (out, _) = session("xyz\t");
        assert!(out.ends_with('\u{7}'));
    }

    #[test]
    fn log_lines_do_not_mix_with_the_line_being_typed() {
        use crate::editor::tests::Terminal;
        let (mut shell, mut system, mut terminal) = (Shell::new(), Model::default(), Terminal::new());
        shell.start(&mut terminal).unwrap();
        shell.receive(b"stat", &mut system, &mut terminal).unwrap();
        shell.announce("disk 1: \x1B[31mgone\x07", &mut terminal).unwrap();
        shell.receive(b"us", &mut system, &mut terminal).unwrap();
        let rows: Vec<String> =
            terminal.rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_string()).collect();
        assert_eq!(rows, ["disk 1: ?[31mgone?", "nas> status"]);
    }

    #[test]
    fn every_line_ends_with_carriage_return_and_line_feed() {
        let (out, _) = session("help\rstatus -v\rdisks\rnet\rlog\rcrash\ruser list\rshare list\rdate\r");
        for (index, _) in out.match_indices('\n') {
            assert_eq!(out.as_bytes()[index - 1], b'\r');
        }
    }
}
