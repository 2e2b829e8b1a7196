//! The `array` command.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use core::fmt::{self, Write};

use crate::command::{Next, describe, report, usage};
use crate::shell::Action;
use crate::system::{ArrayChange, FileSystem, System};
use crate::table::{Align, Table, bytes, percent};

pub(crate) fn array(
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
    let number = |word: &str| word.parse::<usize>().ok();
    let change = match arguments {
        [] => {
            show(system, out)?;
            return Ok(Next::Prompt);
        }
        ["create"] | ["create", "exfat"] => ArrayChange::Create(FileSystem::ExFat),
        ["create", "fat32"] => ArrayChange::Create(FileSystem::Fat32),
        ["scrub"] => ArrayChange::Scrub(true),
        ["scrub", "stop"] => ArrayChange::Scrub(false),
        ["split"] => ArrayChange::Split,
        [what @ ("add" | "fail" | "choose"), disk] => match (*what, number(disk)) {
            (_, None) => return usage("array", out),
            ("add", Some(disk)) => ArrayChange::Add(disk),
            ("fail", Some(disk)) => ArrayChange::Fail(disk),
            (_, Some(disk)) => ArrayChange::Choose(disk),
        },
        _ => return usage("array", out),
    };
    if asks_first(change, system, out)? {
        return Ok(Next::Confirm(Action::Array(change)));
    }
    carry_out(change, system, out)?;
    Ok(Next::Prompt)
}

/// Says what is lost, if anything is.
fn asks_first(change: ArrayChange, system: &mut dyn System, out: &mut dyn Write) -> Result<bool, fmt::Error> {
    let disks = system.disks();
    let describe = |disk: usize| describe(&disks, disk);
    match change {
        ArrayChange::Create(_) => {
            for disk in disks.iter().filter(|disk| disk.size > 0) {
                writeln!(out, "Everything on {} will be lost.", describe(disk.channel))?;
            }
        }
        ArrayChange::Add(disk) => match system.adding_loses(disk) {
            Ok(true) => writeln!(out, "Everything on {} will be lost.", describe(disk))?,
            // Why not is said when it is tried.
            Ok(false) | Err(_) => return Ok(false),
        },
        ArrayChange::Fail(disk) => {
            writeln!(out, "Until {} is back, nothing stands in for the other.", describe(disk))?;
        }
        ArrayChange::Choose(disk) => {
            writeln!(out, "What was written without {} will not be in the array.", describe(disk))?;
        }
        ArrayChange::Split => {
            writeln!(out, "Each disk becomes a volume of its own, with the files as they are now.")?;
        }
        ArrayChange::Scrub(_) => return Ok(false),
    }
    Ok(true)
}

/// Does what was asked, or confirmed.
pub(crate) fn carry_out(change: ArrayChange, system: &mut dyn System, out: &mut dyn Write) -> fmt::Result {
    let done = match change {
        ArrayChange::Create(_) => String::from("The array is there."),
        ArrayChange::Add(disk) => format!("Disk {disk} is being brought up to date."),
        ArrayChange::Fail(disk) => format!("Disk {disk} is out of the array."),
        ArrayChange::Choose(disk) => format!("The array goes on with disk {disk}."),
        ArrayChange::Scrub(true) => String::from("The disks are being compared."),
        ArrayChange::Scrub(false) => String::from("The disks are no longer compared."),
        ArrayChange::Split => String::from("There is no array any more."),
    };
    report(&system.change_array(change), &done, out)
}

fn show(system: &mut dyn System, out: &mut dyn Write) -> fmt::Result {
    let Some(array) = system.array() else {
        return writeln!(out, "There is no array.");
    };
    writeln!(out, "array: {}", array.state)?;
    let mut table = Table::new(&[("DISK", Align::Right), ("STATE", Align::Left), ("REPAIRED", Align::Right)]);
    for member in array.members {
        let disk = member.disk.map_or_else(|| "-".to_string(), |disk| disk.to_string());
        table.row(vec![disk, member.state, member.repaired.to_string()]);
    }
    table.print(out)?;
    if let Some((done, all)) = array.resync {
        writeln!(out, "resync: {} done", percent(done, all))?;
    }
    if array.unreadable > 0 {
        writeln!(out, "resync: {} blocks of the good disk cannot be read", array.unreadable)?;
    }
    if let Some((done, all)) = array.scrub {
        let (done, all, share) = (bytes(done), bytes(all), percent(done, all));
        writeln!(out, "scrub: {share} done, {done} of {all}")?;
    }
    if let Some(differences) = array.differences {
        writeln!(out, "scrub: {differences} blocks differed and were made equal")?;
    }
    if array.running {
        writeln!(out, "regions in use: {}", array.active)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::run;
    use crate::model::Model;
    use crate::system::{Array, ArrayMember};

    fn ran(line: &str) -> (String, bool, alloc::vec::Vec<String>) {
        let member = |disk, state: &str| ArrayMember { disk, state: state.into(), repaired: 3 };
        let array = Array {
            state: "degraded, being brought up to date".into(),
            running: true,
            members: vec![member(Some(0), "good"), member(None, "failed")],
            resync: Some((1, 4)),
            scrub: Some((1 << 30, 4 << 30)),
            differences: Some(7),
            ..Array::default()
        };
        let (mut model, mut out) = (Model { array: Some(array), ..Model::default() }, String::new());
        let asks = matches!(run(line, &mut model, &mut out), Ok(Next::Confirm(_)));
        (out, asks, model.done)
    }

    #[test]
    fn it_shows_states_and_progress() {
        let (out, _, _) = ran("array");
        for part in
            ["degraded", "0  good", "-  failed", "25 % done", "1.0 GiB of 4.0 GiB", "7 blocks differed"]
        {
            assert!(out.contains(part), "{part} in\n{out}");
        }
        assert!(out.lines().all(|line| line.len() < 80));
        let (mut model, mut out) = (Model::default(), String::new());
        run("array", &mut model, &mut out).unwrap();
        assert_eq!(out, "There is no array.\n");
    }

    #[test]
    fn it_asks_where_something_is_lost() {
        for line in ["create", "create fat32", "add 1", "fail 0", "choose 0", "split"] {
            let (out, asks, done) = ran(&format!("array {line}"));
            assert!(asks && done.is_empty(), "{line}: {out}");
        }
        assert_eq!(ran("array create").0.matches("Everything on disk").count(), 2);
        for (line, done) in [
            ("add 0", "Add(0)"),
            ("add 7", "Add(7)"),
            ("scrub", "Scrub(true)"),
            ("scrub stop", "Scrub(false)"),
        ] {
            assert_eq!(ran(&format!("array {line}")).2, [done]);
        }
        for line in ["array add", "array add x", "array nonsense", "array create ntfs"] {
            assert!(ran(line).0.starts_with("usage: array"), "{line}");
        }
    }
}
