//! The image in QEMU, seen from outside: real clients, foreign tools, power cycles, a pulled disk.

mod own_machine;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flash_layout::configuration::{BlankDisks, Policy};
use own_machine::OWN_MACHINES;

use crate::clients::{Target, suite};
use crate::flash::{self, Provision};
use crate::machine::{Attached, Machine, Options, Ports};
use crate::report::Report;
use crate::run::{self, Signals};
use crate::{conformance, disk_errors, mirror, negotiate, power_cut, process, settings, tools};

/// From QEMU's start to the first answer: the promise.
const BOOT_LIMIT: Duration = Duration::from_secs(3);

/// How long writing everything to the disks and switching off may take.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(30);

/// A console command's time.
const CONSOLE_LIMIT: Duration = Duration::from_secs(20);

/// Runs all of it; `only` names one client suite to run instead of all.
pub fn run(report: &mut Report, full: bool, only: Option<&str>) -> Result<(), String> {
    report.heading("the image in QEMU, driven by real clients");
    tools::require(&[
        tools::RUST_SRC,
        tools::QEMU,
        tools::SMBCLIENT,
        tools::FSCK_EXFAT,
        tools::FSCK_FAT,
        tools::MTOOLS,
    ])?;
    let python = tools::python()?;
    let signals = Signals::watch()?;
    let started = Instant::now();
    let built = flash::build("", false);
    report.note("the image fits into 1 MiB", started, built.map(|_| ()));

    let directory = settings::output_directory()?.join("test");
    let _ = std::fs::remove_dir_all(&directory);
    let (options, wanted) = new_machine(directory.clone())?;
    let only = only.map(str::to_string);
    let mut bench = Bench { python, full, only, signals, boots: Vec::new(), directory: directory.clone() };

    match bench.only.as_deref() {
        Some("mirror") => return bench.mirror_power_on(report, directory.join("mirror")),
        Some("single") => return bench.single_power_ons(report, directory.join("single")),
        Some(name) => {
            if let Some(own) = OWN_MACHINES.iter().find(|own| own.name == name) {
                return bench.own_machine(report, own);
            }
        }
        None => {}
    }
    bench.first_power_on(report, &options, &wanted)?;
    if bench.only.as_deref().is_none_or(|only| only == "secrecy") {
        bench.encrypted_power_on(report, &options, &wanted)?;
    }
    if bench.only.as_deref().is_none_or(|only| only == "disk_errors") {
        bench.disk_errors(report, &options, &wanted)?;
    }
    if bench.only.is_some() {
        return Ok(());
    }
    bench.second_power_on(report, &options, &wanted)?;
    bench.mirror_power_on(report, directory.join("mirror"))?;
    bench.single_power_ons(report, directory.join("single"))?;
    for own in &OWN_MACHINES {
        bench.own_machine(report, own)?;
    }
    bench.torture(report, &options)?;
    report.check("cargo xtask run keeps its contract", || contract(&options, &wanted));
    println!("       power cuts");
    power_cut::run(report, &bench.signals);
    let fastest = bench.boots.iter().min().copied().unwrap_or(Duration::MAX);
    let shown: Vec<String> = bench.boots.iter().map(|boot| format!("{:.1}", boot.as_secs_f32())).collect();
    report.check(
        &format!("first NEGOTIATE within {} s of power-on ({} s)", BOOT_LIMIT.as_secs(), shown.join(", ")),
        || {
            // The best of several: the promise is about the appliance, not about what else this machine does.
            if fastest <= BOOT_LIMIT {
                Ok(())
            } else {
                Err(format!("the fastest took {:.1} s", fastest.as_secs_f32()))
            }
        },
    );
    Ok(())
}

/// A machine without disks yet, which will be a mirror.
fn new_machine(directory: PathBuf) -> Result<(Options, Provision), String> {
    settings::make_directory(&directory)?;
    let options = Options::new(directory);
    let wanted = run::wanted(&options.directory, None, None, "data".into())?;
    Ok((options, wanted))
}

/// What the tests share.
struct Bench {
    python: std::path::PathBuf,
    full: bool,
    only: Option<String>,
    signals: Signals,
    /// Where the machines' files are.
    directory: PathBuf,
    /// From power-on to the first answer, for every boot.
    boots: Vec<Duration>,
}

impl Bench {
    fn target(&self, ports: Ports, wanted: &Provision) -> Target {
        Target {
            ports,
            password: wanted.password.clone(),
            size: if self.full { 1024 } else { 64 },
            files: if self.full { 2000 } else { 200 },
            folders: if self.full { 50 } else { 10 },
            share2: wanted.share.clone(),
            full: self.full,
        }
    }

    /// A machine that answers.
    fn boot(&mut self, options: &Options, wanted: &Provision) -> Result<Machine, String> {
        self.boot_with(options, wanted, if self.full { 8 << 30 } else { 2 << 30 })
    }

    /// A machine that answers, whose disks have `disk_size` bytes if they are new.
    fn boot_with(
        &mut self,
        options: &Options,
        wanted: &Provision,
        disk_size: u64,
    ) -> Result<Machine, String> {
        run::prepare(options, &flash::firmware()?, wanted, disk_size)?;
        let mut machine = Machine::start(options)?;
        machine.serve_console()?;
        let ready = run::wait_ready(&mut machine, &self.signals)?;
        let ready = ready.ok_or_else(|| "interrupted".to_string())?;
        println!("       first answer after {:.1} s", ready.as_secs_f32());
        self.boots.push(ready);
        Ok(machine)
    }

    /// New disks and a new flash: all the clients.
    fn first_power_on(
        &mut self,
        report: &mut Report,
        options: &Options,
        wanted: &Provision,
    ) -> Result<(), String> {
        let mut machine = self.boot(options, wanted)?;
        if self.only.is_none() {
            report.check("the console shows how everything stands", || console_shows(&machine));
            report.check("the console's socket", || console_socket(&options.directory));
            report.check("at rest QEMU takes under 10 % of a core", || at_rest(&machine));
        }
        let target = self.target(machine.ports, wanted);
        let minutes = |number: u64| Duration::from_secs(number * 60 * if self.full { 10 } else { 1 });
        for (name, limit) in [
            ("disks", 6),
            ("smbclient", 5),
            ("smbprotocol", 4),
            ("impacket", 3),
            ("pysmb", 2),
            ("rpc", 3),
            ("security", 4),
            ("parallel", 6),
            ("hostile", 8),
        ] {
            if self.signals.count() > 0 {
                return Err("interrupted".into());
            }
            if self.only.as_deref().is_some_and(|only| only != name) {
                continue;
            }
            println!("       {name}");
            let directory = options.directory.display().to_string();
            let more = ["--directory", directory.as_str()];
            suite(report, &self.python, name, &target, &more, minutes(limit));
            if !machine.is_running() {
                return Err(machine.death());
            }
        }
        if self.only.is_none() {
            report.check("the console checks a volume, and its shares come back", || check_volume(&machine));
            report.check("the disks are a mirror", || array_is_good(&machine));
        }
        power_off(report, &mut machine);
        if self.only.as_deref().is_none_or(|only| only == "disks") {
            report.check("both disks hold the same", || mirror::equal_halves(options));
            for disk in ["disk0.img", "disk1.img"] {
                self.offline(report, options, wanted, &["--image", disk, "--only", "exfat"]);
            }
        }
        Ok(())
    }

    /// Foreign tools on the disks.
    fn offline(&self, report: &mut Report, options: &Options, wanted: &Provision, more: &[&str]) {
        println!("       offline");
        let directory = options.directory.display().to_string();
        let target = self.target(Ports::default(), wanted);
        // The suite runs in an environment of its own; this tells it where the disks are.
        let more = [&["--directory", directory.as_str()], more].concat();
        suite(report, &self.python, "offline", &target, &more, Duration::from_secs(900));
    }

    /// A machine of its own, whose second disk gets bad sectors and flushes that fail, and is well again.
    fn disk_errors(
        &mut self,
        report: &mut Report,
        options: &Options,
        wanted: &Provision,
    ) -> Result<(), String> {
        println!("       a disk that fails");
        let directory = options.directory.join("disk_errors");
        settings::make_directory(&directory)?;
        let options = Options { directory, ..options.clone() };
        let wanted = Provision { volumes: BlankDisks::Single, ..wanted.clone() };
        run::prepare(&options, &flash::firmware()?, &wanted, 1 << 30)?;
        for part in ["before", "during", "after"] {
            let failing = if part == "during" { Attached::Failing } else { Attached::Disk };
            let mut machine = Machine::start_with(&options, [Attached::Disk, failing])?;
            machine.serve_console()?;
            run::wait_ready(&mut machine, &self.signals)?.ok_or("interrupted")?;
            let target = Target { share2: "data2".into(), ..self.target(machine.ports, &wanted) };
            let limit = Duration::from_secs(200);
            suite(report, &self.python, "disk_errors", &target, &["--only", part], limit);
            if part == "during" {
                report.check("the disk's errors are in the log", || {
                    let log = machine.console_command("log 100", CONSOLE_LIMIT)?;
                    contains(&log, &["channel 1", "read", "write", "flush"])
                });
            }
            report.check("nothing has panicked", || quiet(&machine));
            machine.power_off(POWER_OFF_LIMIT);
            if part == "before" {
                disk_errors::write_rules(&options, 1)?;
            }
        }
        let _ = std::fs::remove_dir_all(&options.directory);
        Ok(())
    }

    /// The same mirror: everything is still there; a reboot; a power-off.
    fn second_power_on(
        &mut self,
        report: &mut Report,
        options: &Options,
        wanted: &Provision,
    ) -> Result<(), String> {
        let mut machine = self.boot(options, wanted)?;
        let target = self.target(machine.ports, wanted);
        let limit = Duration::from_secs(if self.full { 1800 } else { 240 });
        suite(report, &self.python, "parallel", &target, &["--only", "what_is_there"], limit);
        report.check("reboot, and it answers again", || {
            let before = machine.console_text().len();
            let typed = machine.typist();
            typed(b"\x03reboot now\r")?;
            let rebooted =
                machine.console_wait(before, POWER_OFF_LIMIT, |text| text.contains("boot:").then_some(()));
            rebooted.ok_or_else(|| {
                format!("it does not boot; the console shows:\n{}", machine.console_tail(10))
            })?;
            answers(machine.ports.smb, Duration::from_secs(30))
        });
        suite(report, &self.python, "disks", &target, &["--only", "find"], limit);
        power_off(report, &mut machine);
        Ok(())
    }

    /// A mirror whose disks fail in turn.
    fn mirror_power_on(&mut self, report: &mut Report, directory: PathBuf) -> Result<(), String> {
        let (options, wanted) = new_machine(directory)?;
        // Small, so that its disks are soon compared.
        let mut machine = self.boot_with(&options, &wanted, 512 << 20)?;
        println!("       mirror");
        let target = self.target(machine.ports, &wanted);
        mirror::run(report, &mut machine, &options, &self.python, &target);
        power_off(report, &mut machine);
        report.check("both disks hold the same afterwards", || mirror::equal_halves(&options));
        self.offline(report, &options, &wanted, &["--only", "exfat_disk_passes"]);
        Ok(())
    }

    /// Two disks with a volume each, exFAT and FAT32: looked at by foreign tools; there after a reboot; one is pulled.
    fn single_power_ons(&mut self, report: &mut Report, directory: PathBuf) -> Result<(), String> {
        let (options, wanted) = new_machine(directory)?;
        let wanted = Provision { volumes: BlankDisks::Single, ..wanted };
        let mut machine = self.boot(&options, &wanted)?;
        println!("       single volumes");
        report.check("the second disk becomes FAT32 by the console", || format_fat32(&machine));
        let limit = Duration::from_secs(if self.full { 1800 } else { 240 });
        let target =
            |machine: &Machine| Target { share2: "data2".into(), ..self.target(machine.ports, &wanted) };
        suite(report, &self.python, "disks", &target(&machine), &["--only", "leave"], limit);
        power_off(report, &mut machine);
        self.offline(report, &options, &wanted, &[]);
        let mut machine = self.boot(&options, &wanted)?;
        let target = Target { share2: "data2".into(), ..self.target(machine.ports, &wanted) };
        suite(report, &self.python, "disks", &target, &["--only", "find"], limit);

        machine.pull_disk(&options, 1)?;
        println!("       the second disk is pulled");
        suite(report, &self.python, "pulled", &target, &[], Duration::from_secs(200));
        report.check("the log names the disk", || {
            let log = machine.console_command("log 60", CONSOLE_LIMIT)?;
            let named = log.lines().any(|line| {
                let line = line.to_lowercase();
                line.contains("disk 1")
                    || line.contains("channel 1")
                    || line.contains("scsi1")
                    || line.contains("volume 1")
            });
            if named { Ok(()) } else { Err(log) }
        });
        report.check("nothing has panicked", || quiet(&machine));
        machine.quit();
        Ok(())
    }
}

impl Bench {
    /// Encryption is required: what somebody learns who listens.
    fn encrypted_power_on(
        &mut self,
        report: &mut Report,
        options: &Options,
        wanted: &Provision,
    ) -> Result<(), String> {
        let required = Provision { encryption: Some(Policy::Required), ..wanted.clone() };
        let mut machine = self.boot(options, &required)?;
        println!("       secrecy");
        let target = self.target(machine.ports, wanted);
        suite(report, &self.python, "secrecy", &target, &[], Duration::from_secs(240));
        report.check("nothing has panicked", || quiet(&machine));
        machine.power_off(POWER_OFF_LIMIT);
        let offered = Provision { encryption: Some(Policy::Offered), ..wanted.clone() };
        flash::provision(&options.flash(), &offered).map(|_| ())
    }

    /// smbtorture's cases that have passed before, on machines of their own.
    fn torture(&self, report: &mut Report, options: &Options) -> Result<(), String> {
        println!("       smbtorture");
        conformance::regressions(report, &options.directory.join("conformance"), &self.signals)
    }
}

/// Waits until a NEGOTIATE is answered.
fn answers(port: u16, limit: Duration) -> Result<(), String> {
    let mut last = String::new();
    let found = process::wait_for(limit, || match negotiate::negotiate(port, Duration::from_millis(500)) {
        Ok(_) => Some(()),
        Err(error) => {
            last = error;
            None
        }
    });
    found.ok_or(last)
}

/// `text` has all of `parts`.
fn contains(text: &str, parts: &[&str]) -> Result<(), String> {
    match parts.iter().find(|part| !text.contains(**part)) {
        Some(part) => Err(format!("{part:?} is not in:\n{text}")),
        None => Ok(()),
    }
}

fn console_shows(machine: &Machine) -> Result<(), String> {
    let run = |line: &str| machine.console_command(line, CONSOLE_LIMIT);
    contains(&run("help")?, &["status", "disks", "net", "log", "format", "reboot"])?;
    let status = run("status -v")?;
    contains(
        &status,
        &["up ", "memory", "workers", "connections", "sizes", "session ", "open file ", "handle "],
    )?;
    contains(&run("disks")?, &["QEMU", "exFAT"])?;
    // The first answer may come by one port while the other still asks for its address.
    let mut net = Err(String::new());
    let addresses = process::wait_for(CONSOLE_LIMIT, || {
        net = run("net")
            .and_then(|text| contains(&text, &["port 0", "port 1", "10.0.2.15", "10.0.3.15", "link up"]));
        net.is_ok().then_some(())
    });
    if addresses.is_none() {
        return net;
    }
    if run("log")?.lines().count() < 3 {
        return Err("the log is empty".into());
    }
    Ok(())
}

fn console_socket(directory: &Path) -> Result<(), String> {
    let path = directory.join("console.sock");
    let text = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut stream = UnixStream::connect(&path).map_err(text)?;
    stream.set_read_timeout(Some(CONSOLE_LIMIT)).map_err(text)?;
    stream.write_all(b"help\r").map_err(text)?;
    let mut seen = String::new();
    let mut buffer = [0; 512];
    while !seen.contains("Commands") {
        match stream.read(&mut buffer).map_err(text)? {
            0 => return Err(format!("closed after:\n{seen}")),
            length => seen.push_str(&String::from_utf8_lossy(buffer.get(..length).unwrap_or(&[]))),
        }
    }
    Ok(())
}

/// Runs a console command that asks for `yes` first, and what it says then.
fn confirmed(machine: &Machine, command: &str, limit: Duration) -> Result<String, String> {
    let before = machine.console_text().len();
    machine.typist()(format!("{command}\r").as_bytes())?;
    machine
        .console_wait(before, CONSOLE_LIMIT, |text| text.contains("Type yes").then_some(()))
        .ok_or_else(|| format!("it does not ask first:\n{}", machine.console_tail(10)))?;
    machine.console_command("yes", limit)
}

/// Makes the second disk a FAT32 volume.
pub fn format_fat32(machine: &Machine) -> Result<(), String> {
    contains(&confirmed(machine, "format 1 fat32", Duration::from_secs(60))?, &["is formatted"])?;
    contains(&machine.console_command("disks", CONSOLE_LIMIT)?, &["FAT32"])
}

/// `check 0` finds nothing wrong on a volume that all the clients have used.
fn check_volume(machine: &Machine) -> Result<(), String> {
    contains(&confirmed(machine, "check 0", Duration::from_secs(120))?, &["Nothing is wrong."])?;
    contains(&machine.console_command("disks", CONSOLE_LIMIT)?, &["exFAT"])?;
    answers(machine.ports.smb, CONSOLE_LIMIT)
}

/// Seconds of processor time that a process has used.
fn processor_time(process: u32) -> Result<f64, String> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // The name in brackets may have spaces; user and system time are fields 14 and 15, in hundredths of a second.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}

fn at_rest(machine: &Machine) -> Result<(), String> {
    // What the boot left to do is done after a few seconds.
    std::thread::sleep(Duration::from_secs(3));
    let (before, start) = (processor_time(machine.process_id())?, Instant::now());
    std::thread::sleep(Duration::from_secs(4));
    let share = (processor_time(machine.process_id())? - before) / start.elapsed().as_secs_f64();
    println!("       {:.1} % of a core at rest", share * 100.0);
    if share < 0.10 { Ok(()) } else { Err(format!("{:.0} % of a core", share * 100.0)) }
}

/// Switches off in order.
fn power_off(report: &mut Report, machine: &mut Machine) {
    report.check("nothing has panicked", || quiet(machine));
    let end = Instant::now();
    let result = match machine.power_off(POWER_OFF_LIMIT) {
        crate::machine::End::PoweredOff => Ok(()),
        crate::machine::End::Quit => {
            Err(format!("it did not; the console shows:\n{}", machine.console_tail(10)))
        }
    };
    report.note("poweroff switches off", end, result);
}

/// The console says that there is a mirror with two good disks.
fn array_is_good(machine: &Machine) -> Result<(), String> {
    let text = machine.console_command("array", CONSOLE_LIMIT)?;
    contains(&text, &["array: good", "0  good", "1  good"])
}

/// The console shows no sign of a crash.
pub fn quiet(machine: &Machine) -> Result<(), String> {
    let text = machine.console_text();
    let signs = ["panicked", "panic:", "exception", "backtrace"];
    match text.lines().position(|line| signs.iter().any(|sign| line.to_lowercase().contains(sign))) {
        Some(index) => Err(text.lines().skip(index).take(40).collect::<Vec<_>>().join("\n")),
        None => Ok(()),
    }
}

/// `cargo xtask run --headless` as others script against it.
fn contract(options: &Options, wanted: &Provision) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let mut command = Command::new(program);
    command.args(["run", "--headless", "--dir"]).arg(&options.directory);
    for name in ["--smb-port", "--netbios-port", "--smb-port2"] {
        command.args([name, "0"]);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("xtask run: {error}"))?;
    let output = child.stdout.take().ok_or("no output")?;
    let errors = child.stderr.take().ok_or("no output")?;
    let process = child.id().to_string();
    // Bounded in any case: a run that never gets ready is ended.
    let watchdog_process = process.clone();
    let (finished, watchdog) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if watchdog.recv_timeout(Duration::from_secs(240)).is_err() {
            let _ = Command::new("kill").args(["-TERM", &watchdog_process]).status();
        }
    });
    let errors =
        std::thread::spawn(move || BufReader::new(errors).lines().map_while(Result::ok).collect::<Vec<_>>());
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let mut printed: Vec<String> = Vec::new();
    let mut ready = String::new();
    let mut result = Err("it never got ready".to_string());
    while let Some(line) = lines.next() {
        let port = line.strip_prefix("ready smb=127.0.0.1:").and_then(|rest| rest.split(' ').next());
        let port = port.map(str::to_string);
        printed.push(line);
        if let Some(port) = port {
            ready = format!("ready smb=127.0.0.1:{port} share=data user=nas password={}", wanted.password);
            printed.extend(lines.next());
            let mut client = Command::new("smbclient");
            client.args(["//127.0.0.1/data", "-p", &port]);
            client.args(["-U", &format!("nas%{}", wanted.password), "-c", "ls"]);
            result = process::output(&mut client).map(|_| ());
            break;
        }
    }
    let ended = Instant::now();
    let _ = Command::new("kill").args(["-TERM", &process]).status();
    printed.extend(lines);
    let status = child.wait().map_err(|error| format!("xtask run: {error}"))?;
    let taken = ended.elapsed();
    let _ = finished.send(());
    let _ = watch.join();
    let errors = errors.join().unwrap_or_default().join("\n");
    result.map_err(|error| format!("{error}\n{}\n{errors}", printed.join("\n")))?;
    if printed.iter().filter(|line| line.starts_with("ready")).count() != 1 || !printed.contains(&ready) {
        return Err(format!("not exactly one line `{ready}`:\n{}", printed.join("\n")));
    }
    if !printed.iter().any(|line| line.starts_with("smbclient //127.0.0.1/data")) {
        return Err(format!("no smbclient command to try:\n{}", printed.join("\n")));
    }
    if !status.success() || taken > Duration::from_secs(20) {
        return Err(format!("SIGTERM: {status} after {:.1} s\n{errors}", taken.as_secs_f32()));
    }
    if errors.contains("did not switch itself off") {
        return Err("after SIGTERM the appliance did not switch itself off".into());
    }
    if options.directory.join("console.sock").exists() {
        return Err("console.sock is still there".into());
    }
    Ok(())
}
