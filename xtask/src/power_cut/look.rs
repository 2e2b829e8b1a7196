//! After the cut: the disks as they would be, the appliance on them, and what is there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::Employee;
use storage::BlockDevice;
use storage::format::Kind;
use storage::partition::Layout;
use storage::test_devices::oracle::{self, Covered, Found};
use storage::test_devices::workload::{Diary, Failure};
use storage::test_devices::{Generator, RamDisk, judge};

use super::Tally;
use super::log::Follower;
use super::recording::{Recording, connect};
use super::rig::{Product, Rig, power_off, write_disk};
use crate::machine::{Attached, Machine};
use crate::{mirror, process, run};

/// What was answered so long before the cut is safe without a FLUSH: three of the appliance's commit intervals of 2 s, and
/// some for a machine with other work.
const SETTLED: u64 = 8_000_000_000;

/// The log has nothing but information: recovery is by replay alone, and nothing else had to be done or said.
pub fn console_is_calm(machine: &Machine) -> Result<(), String> {
    let text = machine.console_text();
    let alarming = |line: &&str| {
        line.contains("] WARN")
            || line.contains("] ERROR")
            || line.contains("read-only")
            || line.contains("panicked")
    };
    match text.lines().find(alarming) {
        None => Ok(()),
        Some(line) => Err(format!("the console says: {line}\n{}", machine.console_tail(30))),
    }
}

impl Rig {
    /// Takes a recording's cuts one by one.
    pub fn cuts(
        &self,
        recording: &Recording,
        random: &mut Generator,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let mut followers = Vec::new();
        for (channel, base) in self.base.iter().enumerate() {
            // The logs are needed to the end, and a second cut makes others.
            let kept = self.options.directory.join(format!("recorded{channel}.log"));
            let log = self.options.log(channel);
            std::fs::rename(&log, &kept).map_err(|error| format!("{}: {error}", log.display()))?;
            followers.push(Follower::new(&kept, base)?);
        }
        for cut in &recording.cuts {
            if self.signals.count() > 0 {
                return Err("interrupted".into());
            }
            if tally.findings.len() >= super::ENOUGH {
                break;
            }
            for (follower, length) in followers.iter_mut().zip(cut.lengths) {
                follower.advance(length)?;
            }
            let mut disks = match followers.as_slice() {
                [one, two] => [one.cut(random), two.cut(random)],
                _ => return Err("there are two disks".into()),
            };
            let mut survivor = None;
            if random.once_in(4) {
                disks = self.cut_again(&disks, random)?;
                tally.twice += 1;
            } else if self.product == Product::Mirror && random.once_in(5) {
                // Not after a first recovery: that may have begun to copy from one disk to the other.
                survivor = Some(random.below(2) as usize);
            }
            tally.alone += u64::from(survivor.is_some());
            tally.cuts += 1;
            match self.look(recording, cut.at, &disks, survivor) {
                Ok(covered) => {
                    tally.covered.files += covered.files;
                    tally.covered.promised_bytes += covered.promised_bytes;
                }
                // Control-C ends a look, too.
                Err(_) if self.signals.count() > 0 => return Err("interrupted".into()),
                Err(reason) => {
                    let place = self.keep(&disks, recording, cut.at, &reason, tally)?;
                    println!("FINDING in {}: {}", place.display(), reason.lines().next().unwrap_or(""));
                    tally.findings.push(place);
                }
            }
        }
        Ok(())
    }

    /// Starts on the disks, and fails again while they are recovered.
    fn cut_again(&self, disks: &[RamDisk; 2], random: &mut Generator) -> Result<[RamDisk; 2], String> {
        self.write_disks(disks)?;
        for channel in 0..2 {
            let log = self.options.log(channel);
            std::fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        }
        let mut machine = Machine::start_with(&self.options, [Attached::Recorded; 2])?;
        std::thread::sleep(Duration::from_millis(random.below(600)));
        machine.kill();
        let mut after = Vec::new();
        for (channel, disk) in disks.iter().enumerate() {
            let log = self.options.log(channel);
            let length =
                std::fs::metadata(&log).map_err(|error| format!("{}: {error}", log.display()))?.len();
            let mut follower = Follower::new(&log, disk)?;
            follower.advance(length)?;
            after.push(follower.cut(random));
        }
        <[RamDisk; 2]>::try_from(after).map_err(|_| "there are two disks".to_string())
    }

    /// Starts on the disks and judges what is there; then the disks alone.
    fn look(
        &self,
        recording: &Recording,
        at: u64,
        disks: &[RamDisk; 2],
        survivor: Option<usize>,
    ) -> Result<Covered, String> {
        self.write_disks(disks)?;
        let channels = [0, 1].map(|channel| match survivor {
            Some(survivor) if survivor != channel => Attached::Nothing,
            _ => Attached::Disk,
        });
        let mut machine = Machine::start_with(&self.options, channels)?;
        run::wait_ready(&mut machine, &self.signals)?.ok_or("interrupted")?;
        let mut covered = Covered::default();
        for (index, share) in self.product.shares().iter().enumerate() {
            let client = connect(&self.options, machine.ports.smb, &self.wanted.password, share)
                .map_err(|error| format!("{error}\n{}", machine.console_tail(30)))?;
            let mut files = Employee::new(client, || 0);
            let diaries: Vec<Diary> = recording
                .diaries
                .iter()
                .filter(|(on, _)| *on == index)
                .map(|(_, diary)| diary.clone())
                .collect();
            let mut found = Vec::new();
            for diary in &diaries {
                found.push(look_below(&mut files, &diary.root)?);
            }
            let more = oracle::judge(&diaries, &found, at, at.saturating_sub(SETTLED))?;
            covered.files += more.files;
            covered.promised_bytes += more.promised_bytes;
        }
        if self.product == Product::Mirror && survivor.is_none() {
            wait_for_resync(&machine)?;
        }
        console_is_calm(&machine)?;
        power_off(&mut machine)?;
        console_is_calm(&machine)?;
        self.disks_are_sound(survivor)?;
        Ok(covered)
    }

    /// The disks after an orderly power-off: fsck finds nothing.
    fn disks_are_sound(&self, survivor: Option<usize>) -> Result<(), String> {
        let disks = self.read_disks()?;
        if self.product == Product::Mirror && survivor.is_none() {
            mirror::equal_halves(&self.options)?;
        }
        for (channel, disk) in disks.into_iter().enumerate() {
            if survivor.is_some_and(|survivor| survivor != channel) {
                continue;
            }
            let disk = Arc::new(disk);
            let device: Arc<dyn BlockDevice> = disk.clone();
            let layout = Layout::read(&*device).map_err(|error| format!("disk {channel}: {error}"))?;
            let data = layout.data().ok_or_else(|| format!("disk {channel}: no volume"))?;
            let part = RamDisk::new(data.blocks, 512);
            disk.for_each_chunk(|offset, bytes| {
                // Chunks and partitions start at multiples of 64 KiB.
                if let Some(at) = offset.checked_sub(data.first * 512)
                    && at + bytes.len() as u64 <= part.bytes()
                {
                    part.poke(at, bytes);
                }
            });
            let fat = self.product == Product::Single && channel == 1;
            judge::fsck(&part, if fat { Kind::Fat32 } else { Kind::Exfat })
                .map_err(|text| format!("disk {channel}: {text}"))?;
        }
        Ok(())
    }

    /// Keeps what a finding is about.
    fn keep(
        &self,
        disks: &[RamDisk; 2],
        recording: &Recording,
        at: u64,
        reason: &str,
        tally: &Tally,
    ) -> Result<PathBuf, String> {
        let place = self.options.directory.join(format!("finding-{}", tally.cuts));
        crate::settings::make_directory(&place)?;
        for (channel, disk) in disks.iter().enumerate() {
            write_disk(&place.join(format!("disk{channel}.img")), disk)?;
        }
        let mut text = format!("{reason}\n\ncut at {at}");
        for (_, diary) in &recording.diaries {
            text.push_str(&format!("\n\n{}\n", diary.root));
            for (number, step) in diary.steps.iter().enumerate() {
                let refused = if step.refused { " refused" } else { "" };
                text.push_str(&format!(
                    "{number}: {:?}{refused} [{}..{:?}]\n",
                    step.action, step.begun, step.done
                ));
            }
        }
        let file = place.join("reason.txt");
        std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        let _ = std::fs::copy(self.options.directory.join("console.log"), place.join("console.log"));
        Ok(place)
    }
}

/// Waits until the mirror's disks are equal by its own word.
fn wait_for_resync(machine: &Machine) -> Result<(), String> {
    let limit = Duration::from_secs(20);
    let mut last = Ok(String::new());
    let done = process::wait_for(Duration::from_secs(60), || {
        last = machine.console_command("array", limit);
        match &last {
            Ok(text) if text.contains("resync") || text.contains("brought up to date") => None,
            _ => Some(()),
        }
    });
    let text = last?;
    if done.is_some() && text.matches("good").count() >= 2 {
        Ok(())
    } else {
        Err(format!("the array stays so:\n{text}"))
    }
}

/// What is below a client's directory; nothing, when that is not there yet.
fn look_below<F: storage::test_devices::workload::Files>(files: &mut F, root: &str) -> Result<Found, String> {
    let missing = |failure: &Failure| matches!(failure, Failure::Refused(status) if status == "0xc0000034");
    match files.list(root) {
        Err(failure) if missing(&failure) => return Ok(Found::new()),
        Err(failure) => return Err(format!("\"{root}\": {failure:?}")),
        Ok(_) => {}
    }
    oracle::look(files, root, &|_| true).map_err(|failure| format!("below \"{root}\": {failure:?}"))
}
