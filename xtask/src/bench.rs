//! `cargo xtask bench`: what each operation costs in guest instructions, and how long it takes.
//!
//! Instructions are counted by QEMU itself (`query-replay` of its machine protocol) under `-icount shift=0`: those that
//! the guest executed, without the time in which it was halted, the same to within a per cent on any host. `sleep=off`
//! would make the guest's clock jump to the next timer whenever it waits for the client, so that connections time out
//! between two requests; without it the clock follows the host's while the guest is halted.
//!
//! Wall rates are of a second run without `-icount`. They vary with the host: compare them within one run only.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use flash_layout::configuration::Policy;
use serde_json::json;

use crate::arguments::Arguments;
use crate::flash::Provision;
use crate::machine::{Machine, Options};
use crate::run::{self, Signals};
use crate::{flash, process, settings, tools};

/// Bytes of the file that streams move.
const STREAM: u64 = 64 << 20;

/// MiB/s that Linux 6.12 reads from the same emulated controller with O_DIRECT, one command at a time, on a quiet machine.
const LINUX_DISK: [(&str, f64); 3] =
    [("1024 KiB a command", 470.0), ("64 KiB a command", 280.0), ("4 KiB a command", 22.0)];

/// What is measured.
struct Item {
    /// In `bench.json` and in the client's marks.
    key: &'static str,
    /// For people.
    name: &'static str,
    /// Guest instructions that ksmbd takes on the same board with the 82559C.
    ksmbd: Option<f64>,
    /// Guest instructions that we want to take.
    goal: Option<f64>,
    /// Unit of the wall rate.
    rate: &'static str,
    /// ksmbd's wall rate on a quiet machine.
    ksmbd_rate: Option<f64>,
}

/// The rival's figures: Linux 6.12 ksmbd on the same emulated board, counted by a TCG plugin.
const ITEMS: [Item; 22] = [
    item("read-byte", "byte read, warm, unsigned", Some(5.3), Some(1.5), "MiB/s", Some(49.0)),
    item("write-byte", "byte overwritten, unsigned", Some(5.7), Some(2.0), "MiB/s", Some(64.0)),
    item("read-byte-signed", "byte read, signed", Some(56.0), Some(32.0), "MiB/s", Some(22.0)),
    item("write-byte-signed", "byte overwritten, signed", Some(57.0), Some(32.0), "MiB/s", Some(25.0)),
    item("read-byte-encrypted", "byte read, encrypted", Some(84.0), Some(60.0), "MiB/s", Some(15.0)),
    item("write-byte-encrypted", "byte overwritten, encrypted", Some(85.0), Some(60.0), "MiB/s", Some(18.0)),
    item("read-byte-cold", "byte read, cold, unsigned", Some(5.8), Some(2.0), "MiB/s", None),
    item("write-flush-byte", "byte overwritten and flushed", None, Some(2.0), "MiB/s", None),
    item("write-flush", "WRITE 4 KiB + FLUSH beside 64 MiB dirty", None, None, "/s", None),
    item("read-4k", "READ of 4 KiB", Some(44_300.0), Some(6_000.0), "/s", Some(3_700.0)),
    item("open-close", "open + close", None, None, "/s", None),
    item("open-read-close", "open + READ 4 KiB + close", Some(109_400.0), Some(15_000.0), "/s", Some(990.0)),
    item(
        "create-write-close",
        "create + write 1 KiB + close",
        Some(574_000.0),
        Some(45_000.0),
        "/s",
        Some(387.0),
    ),
    item("delete", "delete", Some(168_000.0), Some(20_000.0), "/s", None),
    item("list-entry", "directory entry listed", Some(4_600.0), Some(500.0), "/s", None),
    item("open-close-10000", "open + close among 10,000", None, None, "/s", None),
    item("create-write-close-10000", "create + write 1 KiB among 10,000", None, None, "/s", Some(54.0)),
    item("delete-10000", "delete among 10,000", None, None, "/s", None),
    item("read-4k-sequential", "READ of 4 KiB, 1 GiB in order", None, None, "/s", None),
    item("read-4k-random", "READ of 4 KiB, anywhere in 1 GiB", None, None, "/s", None),
    item("log-on", "connect + log on + list + leave", Some(1_350_000.0), Some(1_000_000.0), "/s", None),
    item("idle-second", "second at rest", Some(830_000.0), Some(100_000.0), "", None),
];

const fn item(
    key: &'static str,
    name: &'static str,
    ksmbd: Option<f64>,
    goal: Option<f64>,
    rate: &'static str,
    ksmbd_rate: Option<f64>,
) -> Item {
    Item { key, name, ksmbd, goal, rate, ksmbd_rate }
}

/// What one run of one item came to.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Guest instructions for one unit (byte, operation, second).
    instructions: f64,
    /// Seconds for one unit.
    seconds: f64,
}

/// All of a run, by [`Item::key`].
type Results = BTreeMap<&'static str, Measured>;

/// `cargo xtask bench`.
pub fn command(rest: Vec<String>) -> Result<ExitCode, String> {
    let mut arguments = Arguments::new(rest);
    let nic = arguments.value("--nic")?.unwrap_or_else(|| "i82559er".into());
    arguments.finish()?;
    let signals = Signals::watch()?;
    tools::require(&[tools::RUST_SRC, tools::QEMU, tools::SMBCLIENT])?;
    let python = tools::python()?;
    flash::build("", false)?;

    let counted = ["-icount", "shift=0"].map(String::from).to_vec();
    eprintln!("counting guest instructions");
    let (instructions, _) = one_run(&python, &nic, counted, true, &signals)?;
    eprintln!("measuring wall time");
    let (wall, disk) = one_run(&python, &nic, Vec::new(), false, &signals)?;

    println!(
        "{:<33}{:>12}{:>12}{:>8}{:>12}  wall",
        "guest instructions per", "here", "ksmbd", "ratio", "goal"
    );
    let mut rows = Vec::new();
    for item in &ITEMS {
        let Some(count) = instructions.get(item.key).map(|measured| measured.instructions) else { continue };
        let rate = wall.get(item.key).filter(|_| !item.rate.is_empty()).map(|measured| {
            let units = 1.0 / measured.seconds;
            if item.rate == "MiB/s" { units / f64::from(1 << 20) } else { units }
        });
        let ratio = item.ksmbd.map(|ksmbd| count / ksmbd);
        let rate_text = rate.map_or(String::new(), |rate| {
            let theirs = item.ksmbd_rate.map_or(String::new(), |ksmbd| format!(" (ksmbd {ksmbd:.0})"));
            format!("{} {}{theirs}", number(rate), item.rate)
        });
        println!(
            "{:<33}{:>12}{:>12}{:>8}{:>12}  {rate_text}",
            item.name,
            number(count),
            item.ksmbd.map_or("-".into(), number),
            ratio.map_or("-".into(), |ratio| format!("{ratio:.2}")),
            item.goal.map_or("-".into(), number),
        );
        rows.push(json!({
            "key": item.key, "name": item.name, "instructions": count, "ksmbd_instructions": item.ksmbd,
            "ratio": ratio, "goal": item.goal, "rate": rate, "rate_unit": item.rate, "ksmbd_rate": item.ksmbd_rate,
        }));
    }
    println!("\n{:<40}{:>12}{:>12}", "the disk read raw, MiB/s", "here", "Linux");
    for (way, rate) in &disk {
        let linux = LINUX_DISK.iter().find(|(theirs, _)| way.starts_with(theirs)).map(|(_, rate)| *rate);
        println!("{way:<40}{:>12}{:>12}", number(*rate), linux.map_or("-".into(), number));
    }
    let disk: Vec<_> = disk.iter().map(|(way, rate)| json!({ "way": way, "rate": rate })).collect();
    let document = json!({
        "disk_mebibytes_per_second": disk,
        "counted_by": "QEMU query-replay under -icount shift=0: instructions executed, halted time not included",
        "network_card": nic,
        "ksmbd": "Linux 6.12.117 ksmbd, 82559C, same emulated board; wall rates on a quiet machine",
        "items": rows,
    });
    let path = settings::output_directory()?.join("bench.json");
    let text = serde_json::to_string_pretty(&document).map_err(|error| error.to_string())?;
    std::fs::write(&path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    println!("\n{}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Three digits where that matters, groups of thousands where there are many.
fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Boots new disks and measures every item once.
fn one_run(
    python: &Path,
    nic: &str,
    qemu_arguments: Vec<String>,
    counted: bool,
    signals: &Signals,
) -> Result<(Results, Vec<(String, f64)>), String> {
    let directory = settings::output_directory()?.join("bench");
    let _ = std::fs::remove_dir_all(&directory);
    settings::make_directory(&directory)?;
    let options = Options { nic: nic.into(), qemu_arguments, ..Options::new(directory) };
    let wanted = run::wanted(&options.directory, None, None, "data".into())?;
    // Unsigned requests are part of what is measured.
    let wanted = Provision { signing: Some(Policy::Offered), ..wanted };
    run::prepare(&options, &flash::firmware()?, &wanted, 2 << 30)?;
    let mut machine = Machine::start(&options)?;
    run::wait_ready(&mut machine, signals)?.ok_or("interrupted")?;
    let mut meter = Meter { machine, options, wanted, counted, results: BTreeMap::new() };
    meter.streams()?;
    meter.operations(python)?;
    meter.rest()?;
    meter.cold(signals)?;
    let disk = if counted { Vec::new() } else { meter.disk()? };
    let end = meter.machine.power_off(Duration::from_secs(20));
    eprintln!("  the appliance: {end:?}");
    Ok((meter.results, disk))
}

/// A running appliance that is measured.
struct Meter {
    machine: Machine,
    options: Options,
    wanted: Provision,
    counted: bool,
    results: Results,
}

impl Meter {
    fn instructions(&mut self) -> Result<u64, String> {
        if self.counted { self.machine.qmp()?.instructions() } else { Ok(0) }
    }

    /// Keeps the better of two runs of an item; the difference between them is the host's.
    fn keep(&mut self, key: &str, instructions: u64, seconds: f64, units: f64) {
        let Some(item) = ITEMS.iter().find(|item| item.key == key) else { return };
        let new = Measured { instructions: instructions as f64 / units, seconds: seconds / units };
        let best = self.results.entry(item.key).or_insert(new);
        best.instructions = best.instructions.min(new.instructions);
        best.seconds = best.seconds.min(new.seconds);
    }

    /// Runs smbclient; instructions and seconds.
    fn smbclient(&mut self, commands: &str, protection: &str) -> Result<(u64, f64), String> {
        let mut command = Command::new("smbclient");
        command.args(["//127.0.0.1/data", "-p", &self.machine.ports.smb.to_string()]);
        command.args([
            "-U",
            &format!("nas%{}", self.wanted.password),
            &format!("--client-protection={protection}"),
        ]);
        command.args(["-c", commands]);
        let (before, start) = (self.instructions()?, Instant::now());
        let output = process::output(&mut command)?;
        let seconds = start.elapsed().as_secs_f64();
        if output.contains("NT_STATUS_") {
            return Err(format!("{}\n{output}", process::line(&command)));
        }
        // What is still under way after the client has left belongs to it, too.
        std::thread::sleep(Duration::from_millis(50));
        Ok((self.instructions()? - before, seconds))
    }

    /// Whole files by smbclient, as the rival was measured.
    fn streams(&mut self) -> Result<(), String> {
        let file: PathBuf = self.options.directory.join("stream");
        let words: Vec<u8> =
            (0..STREAM / 8).flat_map(|word| word.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()).collect();
        std::fs::write(&file, words).map_err(|error| format!("{}: {error}", file.display()))?;
        let put = format!("put {} stream", file.display());
        for _ in 0..3 {
            let (instructions, seconds) = self.smbclient("ls", "off")?;
            self.keep("log-on", instructions, seconds, 1.0);
        }
        let log_on =
            self.results.get("log-on").copied().unwrap_or(Measured { instructions: 0.0, seconds: 0.0 });
        self.smbclient(&put, "off")?;
        for (protection, suffix) in [("off", ""), ("sign", "-signed"), ("encrypt", "-encrypted")] {
            eprintln!("  streams, protection {protection}");
            for _ in 0..2 {
                for (commands, what) in [(put.as_str(), "write-byte"), ("get stream /dev/null", "read-byte")]
                {
                    let (instructions, seconds) = self.smbclient(commands, protection)?;
                    let instructions = (instructions as f64 - log_on.instructions).max(0.0) as u64;
                    let seconds = (seconds - log_on.seconds).max(0.001);
                    self.keep(&format!("{what}{suffix}"), instructions, seconds, STREAM as f64);
                }
            }
        }
        Ok(())
    }

    /// Single operations by a client that says when each kind begins and ends.
    fn operations(&mut self, python: &Path) -> Result<(), String> {
        eprintln!("  single operations");
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "400"]).arg(python);
        command.arg(settings::root().join("tests").join("clients").join("bench_client.py"));
        command.args(["--port", &self.machine.ports.smb.to_string(), "--password", &self.wanted.password]);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("bench client: {error}"))?;
        let mut input = child.stdin.take().ok_or("no input")?;
        let output = child.stdout.take().ok_or("no output")?;
        let (mut count, mut before, mut start) = (1.0, 0, Instant::now());
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["start", _, number] => {
                    count = number.parse().unwrap_or(1.0);
                    before = self.instructions()?;
                    start = Instant::now();
                }
                ["end", name] => {
                    let seconds = start.elapsed().as_secs_f64();
                    let instructions = self.instructions()? - before;
                    self.keep(name, instructions, seconds, count);
                }
                _ => {
                    eprintln!("  {line}");
                    continue;
                }
            }
            input.write_all(b"\n").map_err(|error| format!("bench client: {error}"))?;
        }
        let status = child.wait().map_err(|error| format!("bench client: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("bench client: {status}")) }
    }

    /// A file that nothing of is in memory.
    fn cold(&mut self, signals: &Signals) -> Result<(), String> {
        eprintln!("  a cold stream");
        self.machine.power_off(Duration::from_secs(20));
        self.machine = Machine::start(&self.options)?;
        run::wait_ready(&mut self.machine, signals)?.ok_or("interrupted")?;
        self.smbclient("ls", "off")?;
        let (log_on, log_on_seconds) = self.smbclient("ls", "off")?;
        let (instructions, seconds) = self.smbclient("get stream /dev/null", "off")?;
        let seconds = (seconds - log_on_seconds).max(0.001);
        self.keep("read-byte-cold", instructions.saturating_sub(log_on), seconds, STREAM as f64);
        Ok(())
    }

    /// Reads the raw disk, by the appliance's console; and its image by this machine, to compare with.
    fn disk(&mut self) -> Result<Vec<(String, f64)>, String> {
        eprintln!("  the disk");
        let text = self.machine.console_command("disks speed 0", Duration::from_secs(60))?;
        let mut rows: Vec<(String, f64)> = text
            .lines()
            .filter_map(|line| {
                let (way, rates) = line.split_once(": ")?;
                Some((way.to_string(), rates.split(' ').next()?.parse().ok()?))
            })
            .collect();
        if rows.is_empty() {
            return Err(format!("disks speed: {text}"));
        }
        let path = self.options.directory.join("disk0.img");
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut image = std::fs::File::open(&path).map_err(failed)?;
        let (mut buffer, mut bytes, start) = (vec![0; 1 << 20], 0, Instant::now());
        while start.elapsed() < Duration::from_millis(500) {
            match image.read(&mut buffer).map_err(failed)? {
                0 => image.rewind().map_err(failed)?,
                length => bytes += length,
            }
        }
        let rate = bytes as f64 / start.elapsed().as_secs_f64() / f64::from(1 << 20);
        rows.push(("this machine, 1024 KiB from its image".into(), rate));
        Ok(rows)
    }

    /// Nobody wants anything.
    fn rest(&mut self) -> Result<(), String> {
        std::thread::sleep(Duration::from_secs(3));
        let (before, start) = (self.instructions()?, Instant::now());
        std::thread::sleep(Duration::from_secs(5));
        let instructions = self.instructions()? - before;
        self.keep("idle-second", instructions, start.elapsed().as_secs_f64(), start.elapsed().as_secs_f64());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([1.456, 99.96, 100.4, 1_350_000.0].map(number), ["1.5", "100.0", "100", "1,350,000"]);
    }
}
