//! Shares: `share`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::{Next, known_name, report, usage};
use crate::shell::Action;
use crate::system::{Access, Share, System};
use crate::table::{Align, Table};

fn access_name(access: Access) -> &'static str {
    match access {
        Access::None => "none",
        Access::Read => "ro",
        Access::Write => "rw",
    }
}

/// `share`: shares.
pub(crate) fn share(
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
    let known = |system: &dyn System, name: &str| {
        known_name(system.shares().into_iter().map(|share| share.name), name)
    };
    match arguments {
        ["list"] => {
            let mut table = Table::new(&[
                ("SHARE", Align::Left),
                ("VOLUME", Align::Right),
                ("USERS", Align::Left),
                ("GUESTS", Align::Left),
                ("", Align::Left),
            ]);
            for share in system.shares() {
                let mut notes: Vec<String> = Vec::new();
                notes.extend(share.hidden.then(|| "hidden".to_string()));
                notes.extend(share.encrypted.then(|| "encrypted".to_string()));
                notes.extend(
                    share.exceptions.iter().map(|(user, access)| format!("{user}={}", access_name(*access))),
                );
                if !share.comment.is_empty() {
                    notes.push(share.comment);
                }
                table.row(vec![
                    share.name,
                    share.volume.to_string(),
                    access_name(share.access).to_string(),
                    access_name(share.guest).to_string(),
                    notes.join(" "),
                ]);
            }
            table.print(out)?;
        }
        ["add", name, volume, options @ ..] => {
            let Ok(volume) = volume.parse::<usize>() else { return usage("share", out) };
            let Some(share) = parse_share(name, volume, options) else { return usage("share", out) };
            if known(system, name).is_some() {
                writeln!(out, "There is a share {name} already.")?;
            } else if let Some((user, _)) = share
                .exceptions
                .iter()
                .find(|(user, _)| !system.users().iter().any(|known| known.name == *user))
            {
                writeln!(out, "There is no user {user}.")?;
            } else {
                report(&system.add_share(&share), &format!("Share {name} is there."), out)?;
            }
        }
        ["del", name] => match known(system, name) {
            Some(name) => {
                writeln!(out, "What clients have open in {name} will be closed. The files stay.")?;
                return Ok(Next::Confirm(Action::RemoveShare(name)));
            }
            None => writeln!(out, "There is no share {name}.")?,
        },
        _ => return usage("share", out),
    }
    Ok(Next::Prompt)
}

/// The share that the words after `share add NAME VOLUME` describe.
pub(crate) fn parse_share(name: &str, volume: usize, options: &[&str]) -> Option<Share> {
    let mut share = Share {
        name: name.to_string(),
        volume,
        access: Access::Write,
        guest: Access::None,
        exceptions: Vec::new(),
        hidden: false,
        encrypted: false,
        comment: String::new(),
    };
    for option in options {
        match *option {
            "ro" => share.access = Access::Read,
            "rw" => share.access = Access::Write,
            "none" => share.access = Access::None,
            "guest" => share.guest = Access::Write,
            "guest-ro" => share.guest = Access::Read,
            "hidden" => share.hidden = true,
            "encrypted" => share.encrypted = true,
            other => {
                let (user, access) = other.split_once('=')?;
                let access = match access {
                    "none" => Access::None,
                    "ro" => Access::Read,
                    "rw" => Access::Write,
                    _ => return None,
                };
                share.exceptions.push((user.to_string(), access));
            }
        }
    }
    Some(share)
}

#[cfg(test)]
mod tests {
    use crate::command::tests::ran;

    #[test]
    fn shares() {
        assert_eq!(ran("share add photos 1 ro guest-ro ada=rw").1, ["add share photos 1 Read"]);
        assert!(ran("share add DATA 0").0.contains("already"));
        assert!(ran("share add x 0 bob=ro").0.contains("There is no user bob."));
        assert!(ran("share add x 0 wrong").0.starts_with("usage:"));
        assert!(ran("share del other").0.contains("There is no share other."));
        let (out, _) = ran("share list");
        assert!(out.contains("data") && out.contains("hidden ada=ro"), "{out}");
    }
}
