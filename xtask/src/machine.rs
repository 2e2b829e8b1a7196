//! The board in QEMU: its command line, its console, its end.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process;
use crate::qmp::Qmp;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Holds the flash image, the disks, the console's socket and logs.
    pub directory: PathBuf,
    /// How it is reached.
    pub ports: Ports,
    /// QEMU's network device.
    pub nic: String,
    /// More arguments for QEMU.
    pub qemu_arguments: Vec<String>,
}

/// TCP ports of 127.0.0.1 that lead to the machine. 0 stands for any that is free: the host picks it when QEMU binds it,
/// so that nobody else can take it in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Port 445 by the first Ethernet port.
    pub smb: u16,
    /// Port 139 by the first Ethernet port.
    pub netbios: u16,
    /// Port 445 by the second Ethernet port.
    pub smb2: u16,
}

impl Ports {
    /// Those that are in use, from what QEMU's monitor says to `info usernet`.
    fn in_use(text: &str) -> Option<Self> {
        // TCP[HOST_FORWARD]   8       127.0.0.1 36285       10.0.2.15   445     0     0
        let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let forwards: Vec<Vec<&str>> = rows.filter(|row| row.first() == Some(&"TCP[HOST_FORWARD]")).collect();
        let port = |network: &str, service: &str| {
            let mut rows = forwards.iter();
            rows.find_map(|row| match row.as_slice() {
                [_, _, _, port, guest, found, ..] if guest.starts_with(network) && *found == service => {
                    port.parse().ok()
                }
                _ => None,
            })
        };
        let (smb, netbios) = (port("10.0.2.", "445")?, port("10.0.2.", "139")?);
        Some(Self { smb, netbios, smb2: port("10.0.3.", "445")? })
    }
}

impl Options {
    /// The usual board, with its files in `directory`, on ports that are free.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, ports: Ports::default(), nic: "i82559er".into(), qemu_arguments: Vec::new() }
    }

    /// The flash's file.
    pub fn flash(&self) -> PathBuf {
        self.directory.join("flash.img")
    }

    /// The file of the disk on a channel.
    pub fn disk(&self, channel: usize) -> PathBuf {
        self.directory.join(format!("disk{channel}.img"))
    }

    /// The record of what was written to the disk on a channel.
    pub fn log(&self, channel: usize) -> PathBuf {
        self.directory.join(format!("disk{channel}.log"))
    }

    /// The rules by which the disk on a channel fails.
    pub fn rules(&self, channel: usize) -> PathBuf {
        self.directory.join(format!("disk{channel}.rules"))
    }
}

/// O_DIRECT, where its value is known.
const DIRECT: i32 = if cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
    0o40_000
} else if cfg!(any(target_arch = "aarch64", target_arch = "arm")) {
    0o200_000
} else {
    0
};

/// Whether a disk's file can be read past the host's page cache: not all file systems can do that (tmpfs cannot).
fn reads_directly(disk: &Path) -> bool {
    DIRECT != 0 && OpenOptions::new().read(true).custom_flags(DIRECT).open(disk).is_ok()
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// QEMU takes a comma in a value as two.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// What a channel of the board has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attached {
    /// Its disk.
    #[default]
    Disk,
    /// Its disk, and everything written to it goes to [`Options::log`] too (QEMU's blklogwrites).
    Recorded,
    /// Its disk, which fails by [`Options::rules`] (QEMU's blkdebug).
    Failing,
    /// Nothing.
    Nothing,
}

/// The command that starts QEMU. The console is on its standard input and output.
fn command(options: &Options, channels: [Attached; 2], qmp: &Path) -> Command {
    let flash = escaped(&options.flash());
    let mut nic = options.nic.clone();
    if nic.starts_with("i82") && !nic.contains("romfile") {
        // The boot ROMs of Intel's cards are for other machines, and may not be installed.
        nic.push_str(",romfile=");
    }
    let mut words: Vec<String> =
        ["-M", "g3beige", "-cpu", "750", "-m", "512", "-nodefaults", "-display", "none", "-vga", "none"]
            .map(String::from)
            .to_vec();
    let mut add = |option: &str, value: String| words.extend([option.to_string(), value]);
    add("-bios", options.flash().display().to_string());
    add("-object", format!("memory-backend-file,id=flash,size=4M,mem-path={flash},share=on"));
    add("-device", "ivshmem-plain,memdev=flash".into());
    for (channel, attached) in channels.into_iter().enumerate() {
        let path = options.disk(channel);
        let file = escaped(&path);
        add("-device", format!("lsi53c895a,id=scsi{channel}"));
        match attached {
            Attached::Disk => {
                let how = format!("cache.direct={},discard=unmap", on_or_off(reads_directly(&path)));
                add("-blockdev", format!("driver=file,node-name=f{channel},filename={file},{how}"));
                add("-blockdev", format!("driver=raw,node-name=d{channel},file=f{channel},{how}"));
            }
            Attached::Recorded => {
                let log = escaped(&options.log(channel));
                let (disk, log) = (
                    format!("file.driver=file,file.filename={file}"),
                    format!("log.driver=file,log.filename={log}"),
                );
                add("-blockdev", format!("driver=blklogwrites,node-name=d{channel},{disk},{log}"));
            }
            Attached::Failing => {
                let rules = escaped(&options.rules(channel));
                let disk = format!("file.driver=blkdebug,file.config={rules},file.image.driver=file");
                let drive = format!("if=none,id=d{channel},driver=raw,{disk}");
                add("-drive", format!("{drive},file.image.filename={file},cache=writeback"));
            }
            Attached::Nothing => continue,
        }
        add("-device", format!("scsi-hd,id=disk{channel},bus=scsi{channel}.0,scsi-id=0,drive=d{channel}"));
    }
    let Ports { smb, netbios, smb2 } = options.ports;
    let first = format!("hostfwd=tcp:127.0.0.1:{smb}-:445,hostfwd=tcp:127.0.0.1:{netbios}-:139");
    add("-netdev", format!("user,id=n0,net=10.0.2.0/24,{first}"));
    add("-device", format!("{nic},netdev=n0"));
    add("-netdev", format!("user,id=n1,net=10.0.3.0/24,hostfwd=tcp:127.0.0.1:{smb2}-:445"));
    add("-device", format!("{nic},netdev=n1"));
    add("-rtc", "base=utc".into());
    // Control-C belongs to the console when a terminal is behind it, not to QEMU.
    add("-chardev", "stdio,id=console,signal=off".into());
    add("-serial", "chardev:console".into());
    add("-monitor", "none".into());
    add("-qmp", format!("unix:{},server=on,wait=off", escaped(qmp)));
    words.extend(options.qemu_arguments.iter().cloned());
    // QEMU must not outlive this process, however that ends.
    if process::exists("setpriv") {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "qemu-system-ppc"]).args(words);
        command
    } else {
        let mut command = Command::new("qemu-system-ppc");
        command.args(words);
        command
    }
}

/// What the console has printed, and who else wants to see it.
#[derive(Debug, Default)]
struct ConsoleOutput {
    text: Vec<u8>,
    viewers: Vec<UnixStream>,
    /// Copied to standard output as well.
    shown: bool,
    closed: bool,
}

#[derive(Debug)]
struct Console {
    output: Mutex<ConsoleOutput>,
    arrived: Condvar,
    input: Mutex<ChildStdin>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Console {
    fn send(&self, bytes: &[u8]) -> Result<(), String> {
        let mut input = lock(&self.input);
        input.write_all(bytes).and_then(|()| input.flush()).map_err(|error| format!("console: {error}"))
    }

    /// Copies what QEMU prints to all who look, and keeps it.
    fn pump(&self, mut from: impl Read, mut log: File) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or(&[]);
            let _ = log.write_all(bytes);
            let mut output = lock(&self.output);
            output.text.extend(bytes);
            output.viewers.retain_mut(|viewer| viewer.write_all(bytes).is_ok());
            if output.shown {
                let mut terminal = std::io::stdout().lock();
                let _ = terminal.write_all(bytes).and_then(|()| terminal.flush());
            }
            self.arrived.notify_all();
        }
        lock(&self.output).closed = true;
        self.arrived.notify_all();
    }

    /// Serves the console to whoever connects.
    fn serve(self: Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming().flatten() {
            // Somebody who connects and does not read must not hold up the others.
            let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
            let Ok(mut reader) = stream.try_clone() else { continue };
            lock(&self.output).viewers.push(stream);
            let console = Arc::clone(&self);
            thread::spawn(move || {
                let mut buffer = [0; 256];
                while let Ok(length @ 1..) = reader.read(&mut buffer) {
                    if console.send(buffer.get(..length).unwrap_or(&[])).is_err() {
                        break;
                    }
                }
            });
        }
    }
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The appliance switched itself off after writing everything.
    PoweredOff,
    /// It did not do so in time; QEMU was told to quit.
    Quit,
}

/// A running QEMU. It ends with this value.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    console: Arc<Console>,
    temporary: PathBuf,
    socket: PathBuf,
    directory: PathBuf,
    qmp: Option<Qmp>,
    /// How it is reached.
    pub ports: Ports,
    /// When QEMU was started.
    pub started: Instant,
    ended: bool,
}

impl Machine {
    /// Starts QEMU. Call it from a thread that lives as long as the machine: QEMU ends with the thread.
    pub fn start(options: &Options) -> Result<Self, String> {
        Self::start_with(options, [Attached::Disk; 2])
    }

    /// As [`start`](Self::start), with something else than the disks on the channels.
    pub fn start_with(options: &Options, channels: [Attached; 2]) -> Result<Self, String> {
        // A socket's path has about 100 bytes; the directory's may have more.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temporary = std::env::temp_dir().join(format!("nas-qemu-{}-{number}", std::process::id()));
        crate::settings::make_directory(&temporary)?;
        let qmp_path = temporary.join("qmp");
        let _ = std::fs::remove_file(&qmp_path);
        let create = |name: &str| {
            let path = options.directory.join(name);
            File::create(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let errors = create("qemu.log")?;
        let console_log = create("console.log")?;
        let mut command = command(options, channels, &qmp_path);
        use std::os::unix::process::CommandExt;
        // A group of its own: control-C at the terminal is for this process, which then ends QEMU in order.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let started = Instant::now();
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", process::line(&command)))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("QEMU without pipes".into());
        };
        let console = Arc::new(Console {
            output: Mutex::new(ConsoleOutput::default()),
            arrived: Condvar::new(),
            input: Mutex::new(stdin),
        });
        let pump = Arc::clone(&console);
        thread::spawn(move || pump.pump(stdout, console_log));

        let socket = options.directory.join("console.sock");
        let mut machine = Self {
            child,
            console,
            temporary,
            socket,
            directory: options.directory.clone(),
            qmp: None,
            ports: options.ports,
            started,
            ended: false,
        };
        let connected = process::wait_for(Duration::from_secs(20), || {
            if !machine.is_running() {
                return Some(Err(machine.death()));
            }
            Qmp::connect(&qmp_path).ok().map(Ok)
        });
        let mut qmp = connected.unwrap_or_else(|| Err("QEMU does not answer on its monitor".into()))?;
        let forwards = qmp.monitor("info usernet")?;
        machine.qmp = Some(qmp);
        machine.ports = Ports::in_use(&forwards)
            .ok_or_else(|| format!("QEMU does not say how the machine is reached:\n{forwards}"))?;
        Ok(machine)
    }

    /// Makes the console reachable at `DIR/console.sock`.
    pub fn serve_console(&self) -> Result<(), String> {
        let _ = std::fs::remove_file(&self.socket);
        let listener = match UnixListener::bind(&self.socket) {
            Ok(listener) => listener,
            Err(error) => return Err(format!("{}: {error}", self.socket.display())),
        };
        let console = Arc::clone(&self.console);
        thread::spawn(move || console.serve(&listener));
        Ok(())
    }

    /// Copies the console to standard output from now on.
    pub fn show_console(&self) {
        let mut output = lock(&self.console.output);
        let mut terminal = std::io::stdout().lock();
        let _ = terminal.write_all(&output.text).and_then(|()| terminal.flush());
        output.shown = true;
    }

    /// A function that types bytes on the console, for another thread.
    pub fn typist(&self) -> impl Fn(&[u8]) -> Result<(), String> + Send + use<> {
        let console = Arc::clone(&self.console);
        move |bytes| console.send(bytes)
    }

    /// QEMU's monitor.
    pub fn qmp(&mut self) -> Result<&mut Qmp, String> {
        self.qmp.as_mut().ok_or_else(|| "no monitor".to_string())
    }

    /// From now on the disk on a channel, which is [`Attached::Disk`], answers everything with NOT READY, MEDIUM NOT
    /// PRESENT, as if it were pulled. (`drive_del` does that too, but QEMU 7.2 crashes if a request comes meanwhile.)
    pub fn pull_disk(&mut self, options: &Options, channel: usize) -> Result<(), String> {
        /// ENOMEDIUM, which QEMU tells the guest as this.
        const NO_MEDIUM: u32 = 123;
        let path = options.disk(channel);
        let length = std::fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?.len();
        let qmp = self.qmp()?;
        let rules = ["read_aio", "write_aio", "flush_to_disk"]
            .map(|event| json!({ "event": event, "errno": NO_MEDIUM }));
        let (disk, file, pulled) = (format!("d{channel}"), format!("f{channel}"), format!("pulled{channel}"));
        let nothing = json!({ "driver": "null-co", "size": length });
        let failing =
            json!({ "driver": "blkdebug", "node-name": pulled, "image": nothing, "inject-error": rules });
        qmp.execute("blockdev-add", failing)?;
        let instead = json!({ "driver": "raw", "node-name": disk, "file": pulled });
        qmp.execute("blockdev-reopen", json!({ "options": [instead] }))?;
        qmp.execute("blockdev-del", json!({ "node-name": file }))?;
        Ok(())
    }

    /// Takes a pulled disk away and puts it back, with sectors that cannot be read for so many times.
    pub fn return_disk(
        &mut self,
        options: &Options,
        channel: usize,
        bad_sectors: &[u64],
        times: usize,
    ) -> Result<(), String> {
        /// ENODATA: what the kernel says of a bad sector, which QEMU tells the guest as MEDIUM ERROR.
        const MEDIUM_ERROR: u32 = 61;
        let qmp = self.qmp()?;
        let (disk, node) = (format!("disk{channel}"), format!("returned{channel}"));
        qmp.execute("device_del", json!({ "id": disk }))?;
        let rules: Vec<Value> = bad_sectors
            .iter()
            .flat_map(|sector| std::iter::repeat_n(*sector, times))
            .map(|sector| json!({ "event": "read_aio", "errno": MEDIUM_ERROR, "sector": sector, "iotype": "read", "once": true }))
            .collect();
        let image = json!({ "driver": "file", "filename": options.disk(channel) });
        let faulty = json!({ "driver": "blkdebug", "image": image, "inject-error": rules });
        qmp.execute("blockdev-add", json!({ "driver": "raw", "node-name": node, "file": faulty }))?;
        let bus = format!("scsi{channel}.0");
        let device = json!({ "driver": "scsi-hd", "id": disk, "bus": bus, "scsi-id": 0, "drive": node });
        qmp.execute("device_add", device)?;
        Ok(())
    }

    /// QEMU's process, or that of the program that became it.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Whether QEMU runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What to say about a QEMU that has ended by itself.
    pub fn death(&mut self) -> String {
        let status =
            self.child.try_wait().ok().flatten().map(|status| status.to_string()).unwrap_or_default();
        let errors = std::fs::read_to_string(self.directory.join("qemu.log")).unwrap_or_default();
        // The user network repeats itself for every packet that comes before the guest listens.
        let mut lines: Vec<&str> =
            errors.lines().filter(|line| !line.contains("Slirp: Failed to send packet")).collect();
        lines.dedup();
        format!("QEMU ended ({status})\n{}\n{}", lines.join("\n"), self.console_tail(15))
            .trim_end()
            .to_string()
    }

    /// The last lines that the console printed.
    pub fn console_tail(&self, lines: usize) -> String {
        let text = self.console_text();
        let all: Vec<&str> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or(&[]).join("\n")
    }

    /// Everything the console has printed.
    pub fn console_text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.console.output).text).replace('\r', "")
    }

    /// Types a line on the console and returns what is printed up to the next prompt.
    pub fn console_command(&self, line: &str, limit: Duration) -> Result<String, String> {
        let start = lock(&self.console.output).text.len();
        self.console.send(format!("{line}\r").as_bytes())?;
        let text = self.console_wait(start, limit, |text| {
            // The echo of the line comes first, whatever the log prints meanwhile; the prompt is at the start of a row.
            let after = text.split_once(&format!("{line}\n"))?.1;
            after.ends_with("nas> ").then(|| after.trim_end_matches("nas> ").to_string())
        });
        text.ok_or_else(|| {
            format!("the console did not finish `{line}` in time; it shows:\n{}", self.console_tail(10))
        })
    }

    /// Waits until what the console printed from byte `start` on satisfies `found`.
    pub fn console_wait<T>(
        &self,
        start: usize,
        limit: Duration,
        found: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + limit;
        let mut output = lock(&self.console.output);
        loop {
            let text = String::from_utf8_lossy(output.text.get(start..).unwrap_or(&[])).replace('\r', "");
            if let Some(result) = found(&text) {
                return Some(result);
            }
            let left = end.checked_duration_since(Instant::now()).filter(|_| !output.closed)?;
            output =
                self.console.arrived.wait_timeout(output, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for QEMU to end by itself.
    pub fn wait_end(&mut self, limit: Duration) -> bool {
        let ended = process::wait_for(limit, || (!self.is_running()).then_some(())).is_some();
        self.ended |= ended;
        ended
    }

    /// Ends the machine in order: the appliance is asked to write everything and switch off; if it does not, QEMU is
    /// told to quit.
    pub fn power_off(&mut self, limit: Duration) -> End {
        // Control-C gives up whatever is half typed.
        if self.console.send(b"\x03poweroff now\r").is_ok() && self.wait_end(limit) {
            return End::PoweredOff;
        }
        self.quit();
        End::Quit
    }

    /// Ends QEMU at once, wherever it is.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.ended = true;
    }

    /// Ends QEMU without asking the appliance.
    pub fn quit(&mut self) {
        if let Some(qmp) = &mut self.qmp {
            let _ = qmp.execute("quit", serde_json::json!({}));
        }
        if !self.wait_end(Duration::from_secs(3)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.ended = true;
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !self.ended && self.is_running() {
            self.quit();
        }
        let _ = std::fs::remove_file(&self.socket);
        let _ = std::fs::remove_dir_all(&self.temporary);
    }
}

/// Makes the disk image at `path` unless it is there. It takes no room on the host until it is written to.
pub fn make_disk(path: &Path, size: u64) -> Result<bool, String> {
    if path.exists() {
        return Ok(false);
    }
    let text = |error: std::io::Error| format!("{}: {error}", path.display());
    File::create(path).and_then(|file| file.set_len(size)).map_err(text)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_the_whole_board() {
        let options = Options {
            ports: Ports { smb: 4450, netbios: 1390, smb2: 4451 },
            qemu_arguments: vec!["-S".into()],
            ..Options::new("/tmp/a,b".into())
        };
        let line = process::line(&command(&options, [Attached::Disk; 2], Path::new("/tmp/qmp")));
        for part in [
            "-M g3beige -cpu 750 -m 512",
            "-bios /tmp/a,b/flash.img",
            "mem-path=/tmp/a,,b/flash.img,share=on",
            "lsi53c895a,id=scsi0",
            "scsi-hd,id=disk1,bus=scsi1.0,scsi-id=0,drive=d1",
            "hostfwd=tcp:127.0.0.1:4450-:445,hostfwd=tcp:127.0.0.1:1390-:139",
            "hostfwd=tcp:127.0.0.1:4451-:445",
            "i82559er,romfile=,netdev=n1",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(line.ends_with(" -S"));
        assert_eq!(
            line.matches("hostfwd=").count(),
            line.matches("hostfwd=tcp:127.0.0.1:").count(),
            "loopback only"
        );
    }

    #[test]
    fn ports_that_the_host_picked_are_found() {
        let text = "Hub -1 (n0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
            TCP[ESTABLISHED]    9       127.0.0.1 4450        10.0.2.15   445     0     0\r\n  \
            TCP[HOST_FORWARD]   8       127.0.0.1 36285       10.0.2.15   445     0     0\r\n  \
            TCP[HOST_FORWARD]   3       127.0.0.1 39279       10.0.2.15   139     0     0\r\nHub -1 (n1):\r\n  \
            TCP[HOST_FORWARD]   9       127.0.0.1 44221       10.0.3.15   445     0     0\r\n";
        let found = Ports::in_use(text);
        assert_eq!(found, Some(Ports { smb: 36285, netbios: 39279, smb2: 44221 }));
        assert_eq!(Ports::in_use(text.split_at(300).0), None);
    }
}
