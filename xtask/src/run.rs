//! `cargo xtask run`: builds the image, boots it in QEMU, says when it serves.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use flash_layout::configuration::BlankDisks;

use crate::arguments::{Arguments, size};
use crate::flash::{self, Installed, Provision};
use crate::machine::{End, Machine, Options, Ports, make_disk};
use crate::{negotiate, process, settings, tools};

/// How long the appliance may take to answer the first NEGOTIATE, formatting two disks included.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// `cargo xtask run`.
pub fn command(rest: Vec<String>) -> Result<ExitCode, String> {
    let mut arguments = Arguments::new(rest);
    let directory = match arguments.value("--dir")? {
        Some(directory) => PathBuf::from(directory),
        None => settings::output_directory()?,
    };
    let headless = arguments.flag("--headless");
    let options = Options {
        ports: Ports {
            smb: arguments.port("--smb-port", 4450)?,
            netbios: arguments.port("--netbios-port", 1390)?,
            smb2: arguments.port("--smb-port2", 4451)?,
        },
        nic: arguments.value("--nic")?.unwrap_or_else(|| "i82559er".into()),
        qemu_arguments: arguments.values("--qemu-arg")?,
        directory,
    };
    let disk_size = size(&arguments.value("--disk-size")?.unwrap_or_else(|| "4G".into()))?;
    let user = arguments.value("--user")?;
    let password = arguments.value("--password")?;
    let share = arguments.value("--share")?.unwrap_or_else(|| "data".into());
    let volumes = match arguments.value("--volumes")?.as_deref() {
        None | Some("mirror") => BlankDisks::Mirror,
        Some("single") => BlankDisks::Single,
        Some(other) => return Err(format!("--volumes {other}: mirror or single")),
    };
    arguments.finish()?;

    let signals = Signals::watch()?;
    tools::require(&[tools::RUST_SRC, tools::QEMU])?;
    tools::want(&[tools::SMBCLIENT]);
    settings::make_directory(&options.directory)?;
    let wanted = Provision { volumes, ..wanted(&options.directory, user, password, share)? };
    flash::build("", false)?;
    let built = flash::firmware()?;
    let password_known = prepare(&options, &built, &wanted, disk_size)?;

    eprintln!("starting QEMU");
    let mut machine = Machine::start(&options)?;
    machine.serve_console()?;
    let terminal = (!headless).then(|| Terminal::attach(&machine));
    let result = serve(&mut machine, &options.directory, &wanted, password_known, headless, &signals);
    drop(terminal);
    result
}

/// Waits for the first answer, says so, and waits for the end.
fn serve(
    machine: &mut Machine,
    directory: &Path,
    wanted: &Provision,
    password_known: bool,
    headless: bool,
    signals: &Signals,
) -> Result<ExitCode, String> {
    let Some(ready) = wait_ready(machine, signals)? else {
        return Ok(end(machine, signals));
    };
    let password = if password_known { wanted.password.as_str() } else { "(as set on the console)" };
    let (port, share, user) = (machine.ports.smb, &wanted.share, &wanted.user);
    let command = smbclient_line(port, share, user, password);
    let text =
        format!("ready smb=127.0.0.1:{port} share={share} user={user} password={password}\n{command}\n");
    // In one piece, and from the start of a row: the console may be printing too.
    let lead = if headless { "" } else { "\r" };
    let text = if headless { text } else { format!("\r\n{}", text.replace('\n', "\r\n")) };
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    drop(output);
    eprintln!("answered after {:.1} s{lead}", ready.as_secs_f32());
    if headless {
        eprintln!("the console is {}", directory.join("console.sock").display());
    }
    loop {
        if signals.count() > 0 {
            return Ok(end(machine, signals));
        }
        if machine.wait_end(Duration::from_millis(200)) {
            eprint!("the appliance has switched itself off\r\n");
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The command to try.
fn smbclient_line(port: u16, share: &str, user: &str, password: &str) -> String {
    let mut command = Command::new("smbclient");
    command.arg(format!("//127.0.0.1/{share}")).args([
        "-p",
        &port.to_string(),
        "-U",
        &format!("{user}%{password}"),
        "-c",
        "ls",
    ]);
    process::line(&command)
}

/// Ends the machine after a signal; a second signal makes it quick.
fn end(machine: &mut Machine, signals: &Signals) -> ExitCode {
    eprint!("\r\nswitching off\r\n");
    let patience = Duration::from_secs(10);
    let first = signals.count();
    let how = if machine.typist()(b"\x03poweroff now\r").is_ok() {
        let ended = process::wait_for(patience, || {
            if machine.wait_end(Duration::ZERO) {
                Some(true)
            } else {
                (signals.count() > first).then_some(false)
            }
        });
        if ended == Some(true) { End::PoweredOff } else { End::Quit }
    } else {
        End::Quit
    };
    if how == End::Quit {
        eprint!("the appliance did not switch itself off; ending QEMU\r\n");
        machine.quit();
    }
    ExitCode::SUCCESS
}

/// Waits until a NEGOTIATE is answered; how long that took since QEMU was started. `None` after a signal.
pub fn wait_ready(machine: &mut Machine, signals: &Signals) -> Result<Option<Duration>, String> {
    let port = machine.ports.smb;
    let mut last = String::new();
    let outcome = process::wait_for(READY_LIMIT, || {
        if signals.count() > 0 {
            return Some(Ok(None));
        }
        if !machine.is_running() {
            return Some(Err(machine.death()));
        }
        // QEMU accepts for the guest before that is up, and then says nothing: ask again soon.
        match negotiate::negotiate(port, Duration::from_millis(250)) {
            Ok(_) => Some(Ok(Some(machine.started.elapsed()))),
            Err(error) => {
                last = error;
                None
            }
        }
    });
    outcome.unwrap_or_else(|| {
        Err(format!(
            "no answer on port {port} after {} s ({last}). The console shows:\n{}",
            READY_LIMIT.as_secs(),
            machine.console_tail(20)
        ))
    })
}

/// Makes what is absent of the flash image and the disks, and provisions the configuration. False when the account's
/// password is not the one in `wanted`.
pub fn prepare(options: &Options, built: &[u8], wanted: &Provision, disk_size: u64) -> Result<bool, String> {
    let path = options.flash();
    match flash::update(&path, built)? {
        Installed::New => eprintln!("{} is new", path.display()),
        Installed::Same => {}
        Installed::Updated => eprintln!("{}: new firmware, configuration kept", path.display()),
        Installed::Foreign => eprintln!("{}: holds firmware from elsewhere, which is kept", path.display()),
    }
    let known = flash::provision(&path, wanted)?;
    for channel in 0..2 {
        let disk = options.disk(channel);
        if make_disk(&disk, disk_size)? {
            eprintln!("{} is new, {} MiB", disk.display(), disk_size >> 20);
        }
    }
    Ok(known)
}

/// The account and share; the password is the one given, else the one kept in `DIR/password`, else a new one.
pub fn wanted(
    directory: &Path,
    user: Option<String>,
    password: Option<String>,
    share: String,
) -> Result<Provision, String> {
    let kept = directory.join("password");
    let text = |error: std::io::Error| format!("{}: {error}", kept.display());
    let password_given = password.is_some();
    let password = match password {
        Some(password) => password,
        None if kept.exists() => std::fs::read_to_string(&kept).map_err(text)?.trim_end().to_string(),
        None => generated_password()?,
    };
    write_private(&kept, &format!("{password}\n")).map_err(text)?;
    Ok(Provision {
        user: user.unwrap_or_else(|| "nas".into()),
        password,
        password_given,
        share,
        volumes: BlankDisks::Mirror,
        signing: None,
        encryption: None,
        second_user: None,
        encrypted_share: None,
    })
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// 16 letters and digits that are not mistaken for each other: 5 bits each, 80 in all.
fn generated_password() -> Result<String, String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(|error| format!("/dev/urandom: {error}"))?;
    Ok(random.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}

/// Counts the signals that ask this process to end.
#[derive(Clone, Debug)]
pub struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// Takes over SIGINT, SIGTERM and SIGHUP from now on.
    pub fn watch() -> Result<Self, String> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let counter = Arc::new(AtomicUsize::new(0));
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|error| format!("signals: {error}"))?;
        let counted = Arc::clone(&counter);
        thread::spawn(move || {
            for _ in signals.forever() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(Self(counter))
    }

    /// How many have come.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// The terminal, lent to the console: keys go there one by one. Given back when dropped.
struct Terminal {
    settings: Option<String>,
}

impl Terminal {
    fn attach(machine: &Machine) -> Self {
        machine.show_console();
        let settings = std::io::stdin().is_terminal().then(|| {
            let saved = stty(&["-g"]).unwrap_or_default();
            // Control-C stays a signal: it ends QEMU. Everything else is the console's.
            let _ = stty(&["-icanon", "-echo", "-icrnl", "-ixon", "min", "1", "time", "0", "susp", "undef"]);
            saved.trim().to_string()
        });
        let typist = machine.typist();
        thread::spawn(move || {
            let mut buffer = [0; 256];
            while let Ok(length @ 1..) = std::io::stdin().read(&mut buffer) {
                if typist(buffer.get(..length).unwrap_or(&[])).is_err() {
                    break;
                }
            }
        });
        Self { settings }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(settings) = self.settings.as_deref().filter(|settings| !settings.is_empty()) {
            let _ = stty(&[settings]);
        }
    }
}

/// Runs `stty` on this process's terminal.
fn stty(arguments: &[&str]) -> Option<String> {
    let output = Command::new("stty").args(arguments).stdin(Stdio::inherit()).output().ok()?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_kept_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = std::env::temp_dir().join(format!("nas-xtask-{}-password", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let first = wanted(&directory, None, None, "data".into()).unwrap();
        assert_eq!((first.user.as_str(), first.password.len(), first.password_given), ("nas", 16, false));
        assert_eq!(wanted(&directory, None, None, "data".into()).unwrap().password, first.password);
        let given = wanted(&directory, Some("ada".into()), Some("pw".into()), "x".into()).unwrap();
        assert!(given.password_given && given.password == "pw");
        assert_eq!(wanted(&directory, None, None, "data".into()).unwrap().password, "pw");
        let mode = std::fs::metadata(directory.join("password")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_command_to_try_can_be_typed() {
        assert_eq!(
            smbclient_line(4450, "data", "nas", "a b"),
            "smbclient //127.0.0.1/data -p 4450 -U 'nas%a b' -c ls"
        );
    }
}
