//! The `volume` command.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::command::{Next, describe, usage};
use crate::shell::Action;
use crate::system::{Growth, System};
use crate::table::bytes;

pub(crate) fn volume(
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
    let [what @ ("grow" | "del"), number] = arguments else { return usage("volume", out) };
    let Ok(number) = number.parse::<usize>() else { return usage("volume", out) };
    let channels = system.disks_of_volume(number);
    if channels.is_empty() {
        writeln!(out, "There is no volume {number}.")?;
        return Ok(Next::Prompt);
    }
    if *what == "grow" {
        writeln!(
            out,
            "Until it has grown the shares of volume {number} are away; what clients have open there is closed."
        )?;
        return Ok(Next::Confirm(Action::GrowVolume(number)));
    }
    say_what_is_lost(number, &channels, system, out)?;
    Ok(Next::Confirm(Action::RemoveVolume(number)))
}

/// Lets a volume grow.
pub(crate) fn grow(number: usize, system: &mut dyn System, out: &mut dyn Write) -> fmt::Result {
    match system.grow_volume(number) {
        Ok(Growth { before, after, limited }) => {
            writeln!(out, "Volume {number} has grown from {} to {}.", bytes(before), bytes(after))?;
            if limited {
                writeln!(out, "There is more room, but it was formatted for no more than that.")?;
            }
            Ok(())
        }
        Err(why) => writeln!(out, "Not done: {why}."),
    }
}

fn say_what_is_lost(
    number: usize,
    channels: &[usize],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> fmt::Result {
    let disks = system.disks();
    for &channel in channels {
        writeln!(out, "Everything on {} will be lost.", describe(&disks, channel))?;
    }
    let mut volumes = disks.into_iter().filter_map(|disk| disk.volume);
    if let Some(volume) = volumes.find(|volume| volume.index == number) {
        let used = bytes(volume.total.saturating_sub(volume.free));
        writeln!(out, "Volume {number} holds {used} of files.")?;
    }
    let shares = system.shares().into_iter().filter(|share| share.volume == number);
    let shares: Vec<String> = shares.map(|share| share.name).collect();
    if !shares.is_empty() {
        writeln!(out, "Its shares go with it: {}.", shares.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::run;
    use crate::model::Model;

    #[test]
    fn what_is_lost_is_named_before_anything_is_done() {
        let (mut model, mut out) = (Model::default(), String::new());
        let next = run("volume del 0", &mut model, &mut out);
        assert!(matches!(next, Ok(Next::Confirm(Action::RemoveVolume(0)))) && model.done.is_empty());
        assert_eq!(out.matches("Everything on disk").count(), 2, "{out}");
        assert!(out.contains("1.0 GiB of files") && out.contains("shares go with it: data."), "{out}");
        assert!(out.lines().all(|line| line.len() < 80));
    }

    #[test]
    fn it_grows_after_a_question() {
        for (number, limited) in [(0, false), (1, true)] {
            let (mut model, mut out) = (Model::default(), String::new());
            let next = run(&alloc::format!("volume grow {number}"), &mut model, &mut out);
            assert!(matches!(next, Ok(Next::Confirm(Action::GrowVolume(asked))) if asked == number));
            assert!(model.done.is_empty() && out.contains("are away"), "{out}");
            grow(number, &mut model, &mut out).unwrap();
            assert!(out.contains("from 4.0 GiB to 9.0 GiB"), "{out}");
            assert_eq!(out.contains("no more than that"), limited);
        }
    }

    #[test]
    fn what_is_not_there_cannot_be_removed() {
        for (line, expected) in [
            ("volume del 3", "There is no volume 3."),
            ("volume grow 3", "There is no volume 3."),
            ("volume del x", "usage: volume"),
            ("volume grow", "usage: volume"),
            ("volume del", "usage: volume"),
            ("volume", "usage: volume"),
        ] {
            let (mut model, mut out) = (Model::default(), String::new());
            assert!(matches!(run(line, &mut model, &mut out), Ok(Next::Prompt)));
            assert!(out.starts_with(expected) && model.done.is_empty(), "{line}: {out}");
        }
    }
}
