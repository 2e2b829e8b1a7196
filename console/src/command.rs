//! The commands.

mod array;
mod disks;
mod restart;
pub(crate) mod share;
mod show;
mod user;
mod volume;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::shell::{Action, PasswordFor};
use crate::system::{Disk, Outcome, System};
use crate::table::bytes;
use array::array;
use disks::{check, disks, format_disk};
use restart::{poweroff, reboot};
use share::share;
use show::{crash, date, log, net, status};
use user::user;
use volume::volume;

/// What the shell does after a command.
pub(crate) enum Next {
    /// The next command.
    Prompt,
    /// Asks for `yes` first.
    Confirm(Action),
    /// Asks for a password.
    Password(PasswordFor),
}

type Handler = fn(&[&str], &mut dyn System, &mut dyn Write) -> Result<Next, fmt::Error>;

/// One command.
struct Command {
    name: &'static str,
    /// What may follow the name, one line for each form.
    forms: &'static [&'static str],
    summary: &'static str,
    handler: Handler,
}

const COMMANDS: [Command; 15] = [
    Command {
        name: "array",
        forms: &[
            "",
            "create [exfat | fat32]",
            "add DISK",
            "fail DISK",
            "scrub [stop]",
            "choose DISK",
            "split",
        ],
        summary: "the mirror of two disks: show, make, repair, check it",
        handler: array,
    },
    Command {
        name: "check",
        forms: &["VOLUME [repair]"],
        summary: "look for damage on a volume, and repair it",
        handler: check,
    },
    Command { name: "crash", forms: &[""], summary: "what the last crash left behind", handler: crash },
    Command {
        name: "date",
        forms: &["", "YYYY-MM-DD HH:MM[:SS]"],
        summary: "show or set the clock (UTC)",
        handler: date,
    },
    Command {
        name: "disks",
        forms: &["", "speed DISK"],
        summary: "disks and the volumes on them; how fast one is read",
        handler: disks,
    },
    Command {
        name: "format",
        forms: &["DISK [exfat | fat32]"],
        summary: "make a new, empty volume on a disk",
        handler: format_disk,
    },
    Command {
        name: "help",
        forms: &["[COMMAND]"],
        summary: "this list, or the forms of one command",
        handler: help,
    },
    Command {
        name: "log",
        forms: &["[LINES]"],
        summary: "the last lines of the log (default 20)",
        handler: log,
    },
    Command { name: "net", forms: &[""], summary: "Ethernet ports and addresses", handler: net },
    Command {
        name: "poweroff",
        forms: &["[now]"],
        summary: "write everything to the disks and switch off",
        handler: poweroff,
    },
    Command {
        name: "reboot",
        forms: &["[now]"],
        summary: "write everything to the disks and start again",
        handler: reboot,
    },
    Command {
        name: "share",
        forms: &[
            "list",
            "add NAME VOLUME [ro | none] [guest | guest-ro] [hidden] [encrypted] [USER=none | USER=ro | USER=rw]...",
            "del NAME",
        ],
        summary: "list, add, remove shares",
        handler: share,
    },
    Command {
        name: "status",
        forms: &["[-v]"],
        summary: "uptime, memory, workers, connections",
        handler: status,
    },
    Command {
        name: "user",
        forms: &["list", "add NAME [admin]", "passwd NAME", "del NAME"],
        summary: "list, add, remove users, set passwords",
        handler: user,
    },
    Command {
        name: "volume",
        forms: &["grow VOLUME", "del VOLUME"],
        summary: "let a volume grow onto larger disks; remove one",
        handler: volume,
    },
];

/// The commands' names, sorted.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|command| command.name)
}

/// Runs the command in `line`.
pub(crate) fn run(line: &str, system: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some((name, arguments)) = words.split_first() else { return Ok(Next::Prompt) };
    match COMMANDS.iter().find(|command| command.name == *name) {
        Some(command) => (command.handler)(arguments, system, out),
        None => {
            writeln!(out, "There is no command {name}. Try: help")?;
            Ok(Next::Prompt)
        }
    }
}

/// Does what was confirmed.
pub(crate) fn carry_out(action: &Action, system: &mut dyn System, out: &mut dyn Write) -> fmt::Result {
    let (outcome, done) = match action {
        Action::Format(disk, format) => {
            writeln!(out, "Formatting disk {disk} ...")?;
            (system.format(*disk, *format), format!("Disk {disk} is formatted."))
        }
        Action::Array(change) => return array::carry_out(*change, system, out),
        Action::Check(volume, repair) => (system.check(*volume, *repair, out), String::new()),
        Action::GrowVolume(number) => return volume::grow(*number, system, out),
        Action::RemoveVolume(volume) => {
            (system.remove_volume(*volume), format!("Volume {volume} is gone; its disks are blank."))
        }
        Action::RemoveUser(name) => (system.remove_user(name), format!("User {name} is gone.")),
        Action::RemoveShare(name) => {
            (system.remove_share(name), format!("Share {name} is gone; its files stay."))
        }
        Action::Restart(how) => {
            writeln!(out, "Writing everything to the disks ...")?;
            (system.restart(*how), String::new())
        }
    };
    report(&outcome, &done, out)
}

/// Sets a password that was typed twice.
pub(crate) fn set_password(
    purpose: &PasswordFor,
    password: &str,
    system: &mut dyn System,
    out: &mut dyn Write,
) -> fmt::Result {
    match purpose {
        PasswordFor::New(name, administrator) => {
            let outcome = system.add_user(name, password, *administrator);
            report(&outcome, &format!("User {name} can log on."), out)
        }
        PasswordFor::Change(name) => {
            report(&system.set_password(name, password), &format!("User {name} has a new password."), out)
        }
    }
}

/// Prints `done`, or why not.
pub(crate) fn report(outcome: &Outcome, done: &str, out: &mut dyn Write) -> fmt::Result {
    match outcome {
        Ok(()) if done.is_empty() => Ok(()),
        Ok(()) => writeln!(out, "{done}"),
        Err(reason) => writeln!(out, "Not done: {reason}."),
    }
}

/// A disk by its channel, model and size.
pub(crate) fn describe(disks: &[Disk], channel: usize) -> String {
    let found = disks.iter().find(|found| found.channel == channel && found.size > 0);
    found.map_or_else(
        || format!("disk {channel}"),
        |found| format!("disk {channel} ({}, {})", found.model, bytes(found.size)),
    )
}

/// How the one of `names` is spelled that is `name` but for the case of its letters.
fn known_name(mut names: impl Iterator<Item = String>, name: &str) -> Option<String> {
    names.find(|known| known.to_lowercase() == name.to_lowercase())
}

/// Prints the forms of a command that was not understood.
pub(crate) fn usage(name: &str, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    if let Some(command) = COMMANDS.iter().find(|command| command.name == name) {
        for (index, form) in command.forms.iter().enumerate() {
            let lead = if index == 0 { "usage:" } else { "   or:" };
            writeln!(out, "{lead} {name} {form}")?;
        }
    }
    Ok(Next::Prompt)
}

fn help(arguments: &[&str], _: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    if let [name] = arguments {
        if names().any(|known| known == *name) {
            return usage(name, out);
        }
        writeln!(out, "There is no command {name}.")?;
    }
    writeln!(out, "Commands (help COMMAND shows its forms):")?;
    for command in &COMMANDS {
        writeln!(out, "  {:<10}{}", command.name, command.summary)?;
    }
    Ok(Next::Prompt)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::Model;

    /// What `line` prints and does.
    pub(crate) fn ran(line: &str) -> (String, Vec<String>) {
        let (mut model, mut out) = (Model::default(), String::new());
        run(line, &mut model, &mut out).unwrap();
        (out, model.done)
    }

    #[test]
    fn the_table_is_sorted_and_help_shows_it() {
        assert!(names().is_sorted());
        let (out, _) = ran("help");
        assert_eq!(out.lines().count(), COMMANDS.len() + 1);
        assert_eq!(ran("help user").0.lines().count(), 4);
        assert!(ran("help nonsense").0.starts_with("There is no command nonsense."));
        assert_eq!(ran("nonsense").0, "There is no command nonsense. Try: help\n");
        assert_eq!(ran("  ").0, "");
    }

    #[test]
    fn everything_fits_into_80_columns() {
        for line in ["help", "status -v", "disks", "net", "log", "crash", "date", "user list", "share list"] {
            let (out, _) = ran(line);
            for row in out.lines() {
                assert!(row.chars().count() < 80, "{line}: {row}");
            }
            assert!(out.lines().count() > 0, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_is_said() {
        assert!(ran("format 2").0.contains("There is no disk 2."));
        assert!(ran("format x").0.starts_with("usage:"));
        assert!(ran("check x").0.starts_with("usage:") && ran("check 0 now").0.starts_with("usage:"));
        assert!(ran("user add ADA").0.contains("already"));
        assert!(ran("user del bob").0.contains("There is no user bob."));
        let (mut model, mut out) = (Model::default(), String::new());
        carry_out(&Action::RemoveUser("ada".into()), &mut model, &mut out).unwrap();
        assert_eq!(out, "Not done: the flash is full.\n");
    }
}
