//! The mirror in QEMU under load: a disk fails, comes back with unreadable sectors, the other fails; clients notice
//! nothing, and in the end both disks hold the same.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::clients::{Target, suite};
use crate::machine::{Machine, Options};
use crate::process;
use crate::report::Report;

/// How long a change of the array's state may take to show.
const LIMIT: Duration = Duration::from_secs(90);
/// A console command's time.
const CONSOLE_LIMIT: Duration = Duration::from_secs(40);
/// How often a read of an injected sector fails: as often as the driver tries, once for the reader and once for the
/// repair.
const FAILURES: usize = 6;

/// Sectors of the disk in each place that cannot be read when it comes back.
const BAD: [[u64; 3]; 2] = [[120 << 11, 140 << 11, 300 << 11], [40 << 11, 44 << 11, 200 << 11]];

/// Runs clients against `machine` and lets its disks fail meanwhile.
pub fn run(report: &mut Report, machine: &mut Machine, options: &Options, python: &Path, target: &Target) {
    let stop = options.directory.join("stop");
    let _ = std::fs::remove_file(&stop);
    let directory = options.directory.display().to_string();
    let more = ["--directory", directory.as_str()];
    let outcomes = std::thread::scope(|scope| {
        let clients =
            scope.spawn(|| suite(report, python, "mirror", target, &more, Duration::from_secs(400)));
        std::thread::sleep(Duration::from_secs(2));
        let mut outcomes = Vec::new();
        for index in [1, 0] {
            let started = Instant::now();
            let result = fail_and_return(machine, options, index);
            let failed = result.is_err();
            outcomes.push((format!("disk {index} fails, comes back and is repaired"), started, result));
            if failed {
                break;
            }
        }
        let _ = std::fs::write(&stop, "");
        let _ = clients.join();
        outcomes
    });
    for (name, started, result) in outcomes {
        report.note(&name, started, result);
    }
}

/// Takes a disk away, puts it back with bad sectors, and has them found.
fn fail_and_return(machine: &mut Machine, options: &Options, index: usize) -> Result<(), String> {
    machine.pull_disk(options, index)?;
    wait_for(machine, "degraded")?;
    std::thread::sleep(Duration::from_secs(1));
    machine.return_disk(options, index, BAD.get(index).map_or(&[], |sectors| sectors), FAILURES)?;
    // A scrub ends early when a disk fails once more. That may be: a read that fails while others are in flight confuses
    // QEMU's chip, the driver ends that with a bus reset, and a disk that was reset may have lost its cache, so it is
    // resynced. Clients must not notice that either.
    let end = Instant::now() + LIMIT;
    loop {
        wait_for(machine, "array: good")?;
        machine.console_command("array scrub", CONSOLE_LIMIT)?;
        let ended = wait_until(machine, |text| !text.contains("% done"))?;
        if ended.contains("array: good") && repaired(&ended, index) > Some(0) {
            return Ok(());
        }
        if Instant::now() > end {
            let log = machine.console_command("log 40", CONSOLE_LIMIT)?;
            return Err(format!("nothing was repaired:\n{ended}\n{log}"));
        }
    }
}

/// The repaired blocks of a disk, from the table that `array` prints.
fn repaired(text: &str, index: usize) -> Option<u32> {
    let row = text.lines().find(|line| line.trim_start().starts_with(&format!("{index} ")))?;
    row.split_whitespace().last()?.parse().ok()
}

fn wait_for(machine: &Machine, state: &str) -> Result<String, String> {
    wait_until(machine, |text| text.contains(state)).map_err(|text| format!("never {state}:\n{text}"))
}

/// Asks `array` until what it prints satisfies `found`.
fn wait_until(machine: &Machine, found: impl Fn(&str) -> bool) -> Result<String, String> {
    let mut last = String::new();
    let end = process::wait_for(LIMIT, || match machine.console_command("array", CONSOLE_LIMIT) {
        Ok(text) => {
            last = text;
            found(&last).then_some(Ok(()))
        }
        Err(error) => Some(Err(error)),
    });
    match end {
        Some(Ok(())) => Ok(last),
        Some(Err(error)) => Err(error),
        None => Err(format!("{last}\n{}", machine.console_command("log 40", CONSOLE_LIMIT)?)),
    }
}

/// The two disks of a mirror hold the same from behind the records of each to the end of the data partition.
pub fn equal_halves(options: &Options) -> Result<(), String> {
    const MEBIBYTE: u64 = 1 << 20;
    let open = |path: PathBuf| {
        let name = path.display().to_string();
        let file = std::fs::File::open(path).map_err(|error| format!("{name}: {error}"))?;
        let length = file.metadata().map_err(|error| format!("{name}: {error}"))?.len();
        Ok::<_, String>((file, length))
    };
    let ((mut one, length), (mut two, other)) = (open(options.disk(0))?, open(options.disk(1))?);
    let text = |error: std::io::Error| format!("the disks' images: {error}");
    let (mut first, mut second) = (vec![0; MEBIBYTE as usize], vec![0; MEBIBYTE as usize]);
    // One MiB of table, one of records; a table's copy in the last.
    let mut offset = 2 * MEBIBYTE;
    one.seek(SeekFrom::Start(offset)).map_err(text)?;
    two.seek(SeekFrom::Start(offset)).map_err(text)?;
    let mut content = false;
    while offset + 2 * MEBIBYTE <= length.min(other) {
        one.read_exact(&mut first).map_err(text)?;
        two.read_exact(&mut second).map_err(text)?;
        if let Some(byte) = first.iter().zip(&second).position(|(left, right)| left != right) {
            return Err(format!("the halves differ at byte {}", offset + byte as u64));
        }
        content |= first.iter().any(|&byte| byte != 0);
        offset += MEBIBYTE;
    }
    if content { Ok(()) } else { Err("there is nothing on them".into()) }
}
