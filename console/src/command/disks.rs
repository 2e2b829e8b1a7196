//! Disks and volumes: `disks`, `check`, `format`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use core::fmt::{self, Write};

use super::{Next, usage};
use crate::shell::Action;
use crate::system::{DiskFormat, FileSystem, System};
use crate::table::{Align, Table, bytes};

/// `disks`: what is there.
pub(crate) fn disks(
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
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

/// `check`: asks before a volume is looked at.
pub(crate) fn check(arguments: &[&str], _: &mut dyn System, out: &mut dyn Write) -> Result<Next, fmt::Error> {
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

/// `format`: asks before a disk is lost.
pub(crate) fn format_disk(
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
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

#[cfg(test)]
mod tests {
    use crate::command::tests::ran;

    #[test]
    fn disks_and_their_speed() {
        let (out, _) = ran("disks");
        assert!(out.contains("0 NAS") && out.contains("exFAT") && out.contains("no disk"), "{out}");
        let (out, _) = ran("disks speed 0");
        assert_eq!(out, "1024 KiB a command, 4 at once: 400 MiB/s, 400 commands/s\n");
        assert_eq!(ran("disks speed 1").0, "there is no disk.\n");
        assert!(ran("disks speed").0.contains("speed DISK"));
    }
}
