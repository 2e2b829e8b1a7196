//! Accounts: `user`.

use alloc::string::ToString;
use alloc::vec;
use core::fmt::{self, Write};

use super::{Next, known_name, usage};
use crate::shell::{Action, PasswordFor};
use crate::system::System;
use crate::table::{Align, Table};

/// `user`: accounts.
pub(crate) fn user(
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
    let known =
        |system: &dyn System, name: &str| known_name(system.users().into_iter().map(|user| user.name), name);
    match arguments {
        ["list"] => {
            let mut table = Table::new(&[("USER", Align::Left), ("", Align::Left)]);
            for user in system.users() {
                let kind = match (user.administrator, user.disabled) {
                    (_, true) => "disabled",
                    (true, false) => "administrator",
                    (false, false) => "",
                };
                table.row(vec![user.name, kind.to_string()]);
            }
            table.print(out)?;
        }
        ["add", name] | ["add", name, "admin"] => {
            if known(system, name).is_some() {
                writeln!(out, "There is a user {name} already.")?;
            } else {
                return Ok(Next::Password(PasswordFor::New((*name).to_string(), arguments.len() == 3)));
            }
        }
        [what @ ("passwd" | "del"), name] => match known(system, name) {
            Some(name) if *what == "passwd" => return Ok(Next::Password(PasswordFor::Change(name))),
            Some(name) => {
                writeln!(out, "User {name} will not be able to log on any more.")?;
                return Ok(Next::Confirm(Action::RemoveUser(name)));
            }
            None => writeln!(out, "There is no user {name}.")?,
        },
        _ => return usage("user", out),
    }
    Ok(Next::Prompt)
}
