//! The commands.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::array::array;
use crate::date::{format_time, parse_time};
use crate::shell::{Action, PasswordFor};
use crate::system::{Access, DiskFormat, FileSystem, Outcome, Restart, Share, System};
use crate::table::{Align, Table, bytes, duration, percent};

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

const COMMANDS: [Command; 14] = [
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
            "add NAME VOLUME [ro] [guest | guest-ro] [hidden] [encrypted] [USER=none | USER=ro | USER=rw]...",
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
        Action::Array(change) => return crate::array::carry_out(*change, system, out),
        Action::Check(volume, repair) => (system.check(*volume, *repair, out), String::new()),
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

fn status(arguments: &[&str], system: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    let verbose = match arguments {
        [] => false,
        ["-v"] => true,
        _ => return usage("status", out),
    };
    let status = system.status();
    writeln!(out, "{}  {}", status.host_name, status.build)?;
    writeln!(out, "  machine      {}", status.machine)?;
    writeln!(out, "  up           {}", duration(status.uptime))?;
    if let Some(now) = system.wall_clock() {
        writeln!(out, "  clock        {} UTC", format_time(now))?;
    }
    let memory = &status.memory;
    let used = bytes(memory.used);
    let high = bytes(memory.high_water);
    writeln!(out, "  memory       {} fitted, image {}", bytes(memory.total), bytes(memory.image))?;
    writeln!(out, "  heap         {used} of {} in use, at most {high}", bytes(memory.heap))?;
    let cache = &status.cache;
    let (filled, dirty) = (bytes(cache.used), bytes(cache.dirty));
    let hits = percent(cache.hits, cache.hits.saturating_add(cache.misses));
    writeln!(out, "  cache        {filled} of {}, {dirty} to be written, {hits} hits", bytes(cache.total))?;
    let (busy, workers) = status.workers;
    writeln!(out, "  workers      {busy} of {workers} busy, at most {}", status.workers_high_water)?;
    writeln!(out, "  connections  {} of {}", status.connections.0, status.connections.1)?;
    writeln!(out, "  sessions     {} of {}", status.sessions.0, status.sessions.1)?;
    writeln!(out, "  open files   {} of {}", status.open_files.0, status.open_files.1)?;
    writeln!(out, "  handles      {} of {}", status.handles.0, status.handles.1)?;
    writeln!(out, "  requests     {}", status.requests)?;
    if verbose {
        let sizes = &status.sizes;
        writeln!(
            out,
            "  sizes        session {} bytes, open file {} bytes, handle {} bytes",
            sizes.session, sizes.open_file, sizes.handle
        )?;
        writeln!(out)?;
        let mut table = Table::new(&[
            ("THREAD", Align::Left),
            ("STATE", Align::Left),
            ("STACK", Align::Right),
            ("MOST USED", Align::Right),
            ("", Align::Right),
        ]);
        for thread in system.threads() {
            let share = percent(thread.stack_high_water as u64, thread.stack as u64);
            let (stack, most) = (thread.stack.to_string(), thread.stack_high_water.to_string());
            table.row(vec![thread.name, thread.state, stack, most, share]);
        }
        table.print(out)?;
    }
    let connections = system.connections();
    if !connections.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&[
            ("CLIENT", Align::Left),
            ("PORT", Align::Right),
            ("SMB", Align::Left),
            ("USER", Align::Left),
            ("PROTECTION", Align::Left),
            ("HANDLES", Align::Right),
        ]);
        for connection in connections {
            let (port, handles) = (connection.port.to_string(), connection.handles.to_string());
            table.row(vec![
                connection.peer,
                port,
                connection.dialect,
                connection.user,
                connection.protection,
                handles,
            ]);
        }
        table.print(out)?;
    }
    Ok(Next::Prompt)
}

fn disks(arguments: &[&str], system: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    match arguments {
        [] => {}
        ["speed", disk] => return disk_speed(disk, system, out),
        _ => return usage("disks", out),
    }
    let mut table = Table::new(&[
        ("DISK", Align::Right),
        ("MODEL", Align::Left),
        ("SIZE", Align::Right),
        ("STATE", Align::Left),
        ("ERRORS", Align::Right),
        ("VOLUME", Align::Left),
        ("FORMAT", Align::Left),
        ("FREE", Align::Right),
    ]);
    for disk in system.disks() {
        let size = if disk.size == 0 { "-".to_string() } else { bytes(disk.size) };
        let (volume, format, free) = match disk.volume {
            Some(volume) => {
                let label =
                    if volume.label.is_empty() { String::new() } else { format!(" {}", volume.label) };
                (format!("{}{label}", volume.index), volume.file_system, bytes(volume.free))
            }
            None => ("-".to_string(), String::new(), String::new()),
        };
        table.row(vec![
            disk.channel.to_string(),
            disk.model,
            size,
            disk.state,
            disk.errors.to_string(),
            volume,
            format,
            free,
        ]);
    }
    table.print(out)?;
    Ok(Next::Prompt)
}

fn disk_speed(disk: &str, system: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    let Ok(disk) = disk.parse() else { return usage("disks", out) };
    match system.disk_speed(disk) {
        Ok(speeds) => {
            for speed in speeds {
                let (time, kib) = (speed.microseconds.max(1), speed.bytes as u64 / 1024);
                let mib = speed.commands * kib * 1_000_000 / 1024 / time;
                let commands = speed.commands * 1_000_000 / time;
                let at_once = speed.at_once;
                writeln!(out, "{kib} KiB a command, {at_once} at once: {mib} MiB/s, {commands} commands/s")?;
            }
        }
        Err(why) => writeln!(out, "{why}.")?,
    }
    Ok(Next::Prompt)
}

fn net(arguments: &[&str], system: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    if !arguments.is_empty() {
        return usage("net", out);
    }
    for port in system.ports() {
        let [a, b, c, d, e, f] = port.address;
        let link = if port.link { "link up" } else { "no link" };
        let (index, model) = (port.index, &port.model);
        writeln!(out, "port {index}  {model}  {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}  {link}")?;
        for address in &port.ip_addresses {
            writeln!(out, "        {address}")?;
        }
        if !port.gateway.is_empty() {
            writeln!(out, "        gateway {}", port.gateway)?;
        }
        writeln!(
            out,
            "        {} frames received, {} sent, {} lost or damaged",
            port.received, port.sent, port.errors
        )?;
    }
    Ok(Next::Prompt)
}

fn log(arguments: &[&str], system: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    let count = match arguments {
        [] => 20,
        [count] => match count.parse::<usize>() {
            Ok(count) => count,
            Err(_) => return usage("log", out),
        },
        _ => return usage("log", out),
    };
    let mut total = 0usize;
    system.log(&mut |_| total += 1);
    let mut index = 0usize;
    let mut result = Ok(());
    system.log(&mut |line| {
        // Lines that come in between the two passes are shown as well.
        if index + count >= total && result.is_ok() {
            result = writeln!(out, "{line}");
        }
        index += 1;
    });
    result.map(|()| Next::Prompt)
}

fn crash(arguments: &[&str], system: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    if !arguments.is_empty() {
        return usage("crash", out);
    }
    match system.crash() {
        Some(crash) => writeln!(
            out,
            "After {}:\n{}",
            duration(crash.uptime.saturating_mul(1000)),
            crash.text.trim_end()
        )?,
        None => writeln!(out, "No crash is recorded.")?,
    }
    Ok(Next::Prompt)
}

fn date(arguments: &[&str], system: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    match arguments {
        [] => match system.wall_clock() {
            Some(now) => writeln!(out, "{} UTC", format_time(now))?,
            None => writeln!(out, "The clock is not set.")?,
        },
        [day, time] => match parse_time(day, time) {
            Some(seconds) => {
                let outcome = system.set_wall_clock(seconds);
                report(&outcome, &format!("{} UTC", format_time(seconds)), out)?;
            }
            None => return usage("date", out),
        },
        _ => return usage("date", out),
    }
    Ok(Next::Prompt)
}

fn check(arguments: &[&str], _: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    let (volume, repair) = match arguments {
        [volume] => (volume, false),
        [volume, "repair"] => (volume, true),
        _ => return usage("check", out),
    };
    let Ok(volume) = volume.parse::<usize>() else { return usage("check", out) };
    writeln!(
        out,
        "Until it is done the shares of volume {volume} are away; what clients have open there is closed."
    )?;
    if repair {
        writeln!(out, "What is wrong will be put right; lost clusters become files in FOUND.000.")?;
    } else {
        writeln!(out, "Nothing will be changed.")?;
    }
    Ok(Next::Confirm(Action::Check(volume, repair)))
}

fn format_disk(arguments: &[&str], system: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    let (channel, file_system) = match arguments {
        [channel] | [channel, "exfat"] => (channel, FileSystem::ExFat),
        [channel, "fat32"] => (channel, FileSystem::Fat32),
        _ => return usage("format", out),
    };
    let Ok(channel) = channel.parse::<usize>() else { return usage("format", out) };
    let Some(disk) = system.disks().into_iter().find(|disk| disk.channel == channel && disk.size > 0) else {
        writeln!(out, "There is no disk {channel}.")?;
        return Ok(Next::Prompt);
    };
    writeln!(out, "Everything on disk {channel} ({}, {}) will be lost.", disk.model, bytes(disk.size))?;
    if let Some(volume) = disk.volume {
        let used = bytes(volume.total.saturating_sub(volume.free));
        writeln!(out, "It holds a volume with {used} of files.")?;
    }
    Ok(Next::Confirm(Action::Format(channel, DiskFormat { file_system })))
}

fn reboot(arguments: &[&str], system: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    restart("reboot", Restart::Reboot, arguments, system, out)
}

fn poweroff(arguments: &[&str], system: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    restart("poweroff", Restart::PowerOff, arguments, system, out)
}

fn restart(
    name: &str,
    how: Restart,
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
    let action = Action::Restart(how);
    let handles: usize = match arguments {
        [] => system.connections().iter().map(|connection| connection.handles).sum(),
        ["now"] => 0,
        _ => return usage(name, out),
    };
    if handles > 0 {
        writeln!(out, "Clients have {handles} files and folders open.")?;
        return Ok(Next::Confirm(action));
    }
    carry_out(&action, system, out)?;
    Ok(Next::Prompt)
}

fn user(arguments: &[&str], system: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    let known = |system: &dyn System, name: &str| {
        system
            .users()
            .into_iter()
            .find(|user| user.name.to_lowercase() == name.to_lowercase())
            .map(|user| user.name)
    };
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

fn access_name(access: Access) -> &'static str {
    match access {
        Access::None => "none",
        Access::Read => "ro",
        Access::Write => "rw",
    }
}

fn share(arguments: &[&str], system: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
    let known = |system: &dyn System, name: &str| {
        system
            .shares()
            .into_iter()
            .find(|share| share.name.to_lowercase() == name.to_lowercase())
            .map(|share| share.name)
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
fn parse_share(name: &str, volume: usize, options: &[&str]) -> Option<Share> {
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
pub(crate) mod tests {
    use super::*;
    use crate::system::*;

    /// An appliance that notes what it was asked to do.
    #[derive(Default)]
    pub(crate) struct Model {
        pub(crate) array: Option<Array>,
        pub(crate) done: Vec<String>,
        pub(crate) handles: usize,
    }

    impl System for Model {
        fn status(&self) -> Status {
            Status {
                host_name: "NAS".into(),
                build: "0.1.0".into(),
                machine: "PowerPC 750 revision 3.1, MPC106".into(),
                uptime: 93_784_000,
                memory: Memory {
                    total: 512 << 20,
                    image: 700 << 10,
                    heap: 300 << 20,
                    used: 5 << 20,
                    high_water: 6 << 20,
                },
                cache: Cache { total: 200 << 20, used: 100 << 20, dirty: 4096, hits: 9, misses: 1 },
                workers: (2, 16),
                workers_high_water: 7,
                sizes: Sizes { session: 280, open_file: 96, handle: 24 },
                ..Status::default()
            }
        }

        fn threads(&self) -> Vec<Thread> {
            vec![Thread {
                name: "worker 0".into(),
                state: "idle".into(),
                stack: 16384,
                stack_high_water: 4096,
            }]
        }

        fn connections(&self) -> Vec<Connection> {
            vec![Connection {
                peer: "[fe80::5054:ff:fe12:3456]:50123".into(),
                port: 1,
                dialect: "3.1.1".into(),
                user: "ada".into(),
                protection: "encrypted".into(),
                handles: self.handles,
            }]
        }

        fn disks(&self) -> Vec<Disk> {
            let volume = VolumeUse {
                index: 0,
                label: "NAS".into(),
                file_system: "exFAT".into(),
                total: 4 << 30,
                free: 3 << 30,
            };
            let good = Disk {
                channel: 0,
                model: "QEMU QEMU HARDDISK".into(),
                size: 4 << 30,
                state: "online".into(),
                errors: 0,
                volume: Some(volume),
            };
            let blank = Disk { channel: 1, volume: None, ..good.clone() };
            vec![good, blank, Disk { channel: 2, state: "no disk".into(), ..Disk::default() }]
        }

        fn disk_speed(&self, disk: usize) -> Outcome<Vec<DiskSpeed>> {
            if disk > 0 {
                return Err("there is no disk".into());
            }
            Ok(vec![DiskSpeed { bytes: 1 << 20, at_once: 4, commands: 200, microseconds: 500_000 }])
        }

        fn ports(&self) -> Vec<Port> {
            vec![Port {
                index: 0,
                model: "Intel 82559ER".into(),
                address: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
                link: true,
                ip_addresses: vec!["10.0.2.15/24 (DHCP)".into(), "fe80::5054:ff:fe12:3456/64".into()],
                gateway: "10.0.2.2".into(),
                received: 7,
                sent: 8,
                errors: 9,
            }]
        }

        fn log(&self, visit: &mut dyn FnMut(&str)) {
            for number in 0..100 {
                visit(&format!("line {number}"));
            }
        }

        fn format(&mut self, disk: usize, format: DiskFormat) -> Outcome {
            self.done.push(format!("format {disk} {:?}", format.file_system));
            Ok(())
        }

        fn array(&self) -> Option<Array> {
            self.array.clone()
        }

        fn adding_loses(&self, disk: usize) -> Outcome<bool> {
            if disk < 2 { Ok(disk == 1) } else { Err("there is no such disk".into()) }
        }

        fn change_array(&mut self, change: ArrayChange) -> Outcome {
            self.done.push(format!("{change:?}"));
            Ok(())
        }

        fn check(&mut self, volume: usize, repair: bool, out: &mut dyn Write) -> Outcome {
            self.done.push(format!("check {volume} {repair}"));
            writeln!(out, "nothing is wrong").map_err(|_| String::new())
        }

        fn users(&self) -> Vec<User> {
            vec![User { name: "ada".into(), administrator: true, disabled: false }]
        }

        fn add_user(&mut self, name: &str, password: &str, administrator: bool) -> Outcome {
            self.done.push(format!("add user {name} {password} {administrator}"));
            Ok(())
        }

        fn remove_user(&mut self, name: &str) -> Outcome {
            self.done.push(format!("remove user {name}"));
            Err("the flash is full".into())
        }

        fn set_password(&mut self, name: &str, password: &str) -> Outcome {
            self.done.push(format!("password {name} {password}"));
            Ok(())
        }

        fn shares(&self) -> Vec<Share> {
            vec![parse_share("data", 0, &["guest-ro", "hidden", "ada=ro"]).unwrap()]
        }

        fn add_share(&mut self, share: &Share) -> Outcome {
            self.done.push(format!("add share {} {} {:?}", share.name, share.volume, share.access));
            Ok(())
        }

        fn remove_share(&mut self, name: &str) -> Outcome {
            self.done.push(format!("remove share {name}"));
            Ok(())
        }

        fn wall_clock(&self) -> Option<u64> {
            Some(1_000_000_000)
        }

        fn set_wall_clock(&mut self, seconds: u64) -> Outcome {
            self.done.push(format!("clock {seconds}"));
            Ok(())
        }

        fn crash(&self) -> Option<Crash> {
            Some(Crash { uptime: 61, text: "panic\nbacktrace\n".into() })
        }

        fn restart(&mut self, how: Restart) -> Outcome {
            self.done.push(format!("{how:?}"));
            Ok(())
        }
    }

    /// What `line` prints and does.
    fn ran(line: &str) -> (String, Vec<String>) {
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
    fn status_says_what_there_is_to_say() {
        let (out, _) = ran("status");
        for part in [
            "1 day 02:03:04",
            "5.0 MiB of 300 MiB in use",
            "2 of 16 busy",
            "90 % hits",
            "3.1.1",
            "2001-09-09",
        ] {
            assert!(out.contains(part), "{part} in\n{out}");
        }
        assert!(!out.contains("sizes"));
        let (out, _) = ran("status -v");
        assert!(out.contains("session 280 bytes, open file 96 bytes, handle 24 bytes"), "{out}");
        assert!(out.contains("worker 0") && out.contains("25 %"), "{out}");
    }

    #[test]
    fn disks_net_log_and_crash() {
        let (out, _) = ran("disks");
        assert!(out.contains("0 NAS") && out.contains("exFAT") && out.contains("no disk"), "{out}");
        let (out, _) = ran("disks speed 0");
        assert_eq!(out, "1024 KiB a command, 4 at once: 400 MiB/s, 400 commands/s\n");
        assert_eq!(ran("disks speed 1").0, "there is no disk.\n");
        assert!(ran("disks speed").0.contains("speed DISK"));
        assert!(ran("net").0.contains("52:54:00:12:34:56  link up"));
        assert_eq!(ran("log 2").0, "line 98\nline 99\n");
        assert_eq!(ran("log").0.lines().count(), 20);
        assert_eq!(ran("log 0").0, "");
        assert_eq!(ran("log 1000").0.lines().count(), 100);
        assert_eq!(ran("crash").0, "After 00:01:01:\npanic\nbacktrace\n");
    }

    #[test]
    fn the_clock() {
        assert_eq!(ran("date").0, "2001-09-09 01:46:40 UTC\n");
        assert_eq!(ran("date 2001-09-09 01:46:40").1, ["clock 1000000000"]);
        assert_eq!(ran("date 2001-02-29 01:46").1, [""; 0]);
    }

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

    #[test]
    fn restart_asks_only_when_somebody_is_disturbed() {
        assert_eq!(ran("reboot").1, ["Reboot"]);
        assert_eq!(ran("poweroff").1, ["PowerOff"]);
        let (mut model, mut out) = (Model { handles: 3, ..Model::default() }, String::new());
        assert!(matches!(run("poweroff", &mut model, &mut out), Ok(Next::Confirm(_))));
        assert!(model.done.is_empty());
        assert!(matches!(run("poweroff now", &mut model, &mut out), Ok(Next::Prompt)));
        assert_eq!(model.done, ["PowerOff"]);
    }
}
