//! The programs that xtask needs, and how they are installed where they are missing.

use std::path::PathBuf;
use std::process::Command;

use crate::process;

/// Something that must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// A program, and the Debian packages that bring it.
    Program(&'static str, &'static [&'static str]),
    /// A file or folder, and the Debian packages that bring it.
    File(&'static str, &'static [&'static str]),
    /// A component of the Rust toolchain, and a path below its system root that shows that it is there.
    Component(&'static str, &'static str),
    /// The standard library for a target.
    Target(&'static str),
}

/// The source of `core` and `alloc`, which are built for the board.
pub const RUST_SRC: Tool = Tool::Component("rust-src", "lib/rustlib/src/rust/library/core/Cargo.toml");
/// The formatter.
pub const RUSTFMT: Tool = Tool::Component("rustfmt", "bin/cargo-fmt");
/// The linter.
pub const CLIPPY: Tool = Tool::Component("clippy", "bin/cargo-clippy");
/// The emulator of the board.
pub const QEMU: Tool = Tool::Program("qemu-system-ppc", &["qemu-system-ppc"]);
/// Samba's client.
pub const SMBCLIENT: Tool = Tool::Program("smbclient", &["smbclient"]);
/// Samba's test suite.
pub const SMBTORTURE: Tool = Tool::Program("smbtorture", &["samba-testsuite"]);
/// exFAT's fsck.
pub const FSCK_EXFAT: Tool = Tool::Program("fsck.exfat", &["exfatprogs"]);
/// FAT's fsck.
pub const FSCK_FAT: Tool = Tool::Program("fsck.fat", &["dosfstools"]);
/// Reads FAT volumes.
pub const MTOOLS: Tool = Tool::Program("mcopy", &["mtools"]);
/// Runs big-endian host tests.
pub const QEMU_USER: Tool = Tool::Program("qemu-ppc", &["qemu-user"]);
/// Links big-endian host tests.
pub const POWERPC_GCC: Tool = Tool::Program("powerpc-linux-gnu-gcc", &["gcc-powerpc-linux-gnu"]);
/// The C library that they are linked with.
pub const POWERPC_LIBC: Tool =
    Tool::File("/usr/powerpc-linux-gnu/lib/libc.so.6", &["libc6-dev-powerpc-cross"]);
/// The target of big-endian host tests.
pub const POWERPC_STD: Tool = Tool::Target("powerpc-unknown-linux-gnu");
/// Python, for the client libraries.
pub const PYTHON: Tool = Tool::Program("python3", &["python3", "python3-venv"]);

impl Tool {
    fn present(self) -> bool {
        match self {
            Self::Program(name, _) => process::exists(name),
            Self::File(path, _) => std::path::Path::new(path).exists(),
            Self::Component(_, path) => sysroot().is_some_and(|root| root.join(path).exists()),
            Self::Target(target) => {
                sysroot().is_some_and(|root| root.join("lib/rustlib").join(target).join("lib").is_dir())
            }
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Program(_, packages) | Self::File(_, packages) => packages,
            _ => &[],
        }
    }
}

/// Where the Rust toolchain in use is installed.
fn sysroot() -> Option<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = process::output(Command::new(rustc).args(["--print", "sysroot"])).ok()?;
    Some(PathBuf::from(printed.lines().next()?.trim()))
}

/// Sees to it that all of `tools` are there: installs what is missing, after printing how.
pub fn require(tools: &[Tool]) -> Result<(), String> {
    let missing: Vec<Tool> = tools.iter().copied().filter(|tool| !tool.present()).collect();
    for tool in &missing {
        match tool {
            Tool::Component(name, _) => rustup(&["component", "add", name])?,
            Tool::Target(name) => rustup(&["target", "add", name])?,
            _ => {}
        }
    }
    let mut packages: Vec<&str> = missing.iter().flat_map(|tool| tool.packages()).copied().collect();
    packages.dedup();
    if !packages.is_empty() {
        apt_get(&packages)?;
    }
    match missing.iter().find(|tool| !tool.present()) {
        Some(tool) => Err(format!("{tool:?} is still missing after it was installed")),
        None => Ok(()),
    }
}

/// As [`require`], for what one can do without: failing is only said.
pub fn want(tools: &[Tool]) {
    if let Err(error) = require(tools) {
        eprintln!("{error}\n(going on without)");
    }
}

fn rustup(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("rustup");
    // The toolchain that runs now, also when rustup's default is another.
    let toolchain = std::env::var("RUSTUP_TOOLCHAIN").ok();
    command.args(arguments).args(toolchain.iter().flat_map(|toolchain| ["--toolchain", toolchain]));
    let typed = process::line(&command);
    eprintln!("installing: {typed}");
    process::run(&mut command)
        .map_err(|error| format!("{error}\nA part of the Rust toolchain is missing. Type, or install it as your system does: {typed}"))
}

fn apt_get(packages: &[&str]) -> Result<(), String> {
    let typed = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    let named = |reason: &str| {
        format!("{reason}\nPrograms are missing. Type: {typed}\n(or install what brings them on your system)")
    };
    if !process::exists("apt-get") {
        return Err(named("there is no apt-get"));
    }
    let root = process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    let apt_get = |words: &[&str]| {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.args(["-n", "apt-get"]);
        }
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        eprintln!("installing: {}", process::line(&command));
        process::output(&mut command)
    };
    let install: Vec<&str> =
        ["install", "-y", "--no-install-recommends"].into_iter().chain(packages.iter().copied()).collect();
    if apt_get(&install).is_ok() {
        return Ok(());
    }
    // Most often the lists are old, or absent as in a fresh container.
    apt_get(&["update"]).map_err(|error| named(&error))?;
    apt_get(&install).map(|_| ()).map_err(|error| named(&error))
}

/// What Python's client libraries are pinned to.
const PYTHON_PACKAGES: [&str; 5] =
    ["smbprotocol==1.17.0", "impacket==0.13.1", "pysmb==1.2.15", "pyspnego==0.12.4", "cryptography==50.0.2"];

/// What the tests that come with client libraries need beside those.
const PYTHON_SUITE_PACKAGES: [&str; 7] = [
    "pike-smb2==0.4.6",
    "attrs==26.1.0",
    "future==1.0.0",
    "pycryptodome==4.4.0",
    "six==1.17.0",
    "pytest==9.2.0",
    "pytest-mock==3.17.0",
];

/// Libraries whose tests are in their source packages only.
const PYTHON_SOURCES: [&str; 2] = ["smbprotocol", "impacket"];

/// A Python with the client libraries, in `target/python`: made when absent or when the pins changed.
pub fn python() -> Result<PathBuf, String> {
    make_python("python", &PYTHON_PACKAGES)
}

/// A Python with what runs the client libraries' own tests, and where the sources of those are that pip leaves out, a
/// folder each.
pub fn python_suites() -> Result<(PathBuf, PathBuf), String> {
    let packages: Vec<&str> = PYTHON_PACKAGES.into_iter().chain(PYTHON_SUITE_PACKAGES).collect();
    let python = make_python("python-suites", &packages)?;
    let sources = crate::settings::root().join("target").join("python-suites").join("sources");
    for name in PYTHON_SOURCES {
        let directory = sources.join(name);
        if directory.is_dir() {
            continue;
        }
        let pin =
            PYTHON_PACKAGES.into_iter().find(|pin| pin.starts_with(&format!("{name}=="))).unwrap_or(name);
        let fetched = sources.join(format!("{name}.fetched"));
        crate::settings::make_directory(&fetched)?;
        let mut download = Command::new(&python);
        download.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        download.args(["--no-binary", ":all:", "--dest"]).arg(&fetched).arg(pin);
        process::output(&mut download)?;
        let unpacked = sources.join(format!("{name}.unpacked"));
        crate::settings::make_directory(&unpacked)?;
        let archive = std::fs::read_dir(&fetched)
            .ok()
            .and_then(|mut entries| entries.next()?.ok())
            .ok_or_else(|| format!("{}: nothing was fetched", fetched.display()))?;
        let mut unpack = Command::new("tar");
        unpack.arg("xf").arg(archive.path()).args(["--strip-components=1", "-C"]).arg(&unpacked);
        process::output(&mut unpack)?;
        std::fs::rename(&unpacked, &directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    Ok((python, sources))
}

/// A Python with `packages`, in the folder `name` of `target`.
fn make_python(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    require(&[PYTHON])?;
    let directory = crate::settings::root().join("target").join(name);
    let python = directory.join("bin").join("python");
    let stamp = directory.join("installed");
    let pins = packages.join("\n");
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|text| text == pins) {
        return Ok(python);
    }
    eprintln!("installing into {}: {}", directory.display(), packages.join(" "));
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&directory);
    if process::output(&mut make).is_err() {
        // Debian splits the module off.
        apt_get(&["python3-venv"])?;
        process::output(&mut make)?;
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    process::output(&mut install)?;
    std::fs::write(&stamp, pins).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}
