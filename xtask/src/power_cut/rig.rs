//! The machine of the power cuts, and its disks between two runs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flash_layout::configuration::BlankDisks;
use storage::test_devices::RamDisk;

use crate::flash::{self, Provision};
use crate::machine::{End, Machine, Options};
use crate::run::{self, Signals};
use crate::{outside, settings};

/// Size of each disk: the journal is small enough to be filled several times in a run.
const DISK_SIZE: u64 = 160 << 20;

/// How long writing everything to the disks and switching off may take.
pub const POWER_OFF_LIMIT: Duration = Duration::from_secs(30);

/// What the two disks carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// One exFAT volume on both.
    Mirror,
    /// exFAT on the first, FAT32 on the second.
    Single,
}

impl Product {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Mirror, Self::Single];

    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mirror => "mirror",
            Self::Single => "single",
        }
    }

    /// The shares on it.
    pub fn shares(self) -> &'static [&'static str] {
        match self {
            Self::Mirror => &["data"],
            Self::Single => &["data", "data2"],
        }
    }
}

/// The machine, its disks as new, and who may log on.
pub struct Rig {
    /// What is tested.
    pub product: Product,
    /// QEMU's.
    pub options: Options,
    /// Account and shares.
    pub wanted: Provision,
    /// Control-C.
    pub signals: Signals,
    /// The disks, formatted and empty.
    pub base: [RamDisk; 2],
}

impl Rig {
    /// Makes the disks in `directory`, which is emptied.
    pub fn new(product: Product, directory: PathBuf, signals: Signals) -> Result<Self, String> {
        let _ = std::fs::remove_dir_all(&directory);
        settings::make_directory(&directory)?;
        let options = Options::new(directory);
        let volumes = match product {
            Product::Mirror => BlankDisks::Mirror,
            Product::Single => BlankDisks::Single,
        };
        let wanted = Provision { volumes, ..run::wanted(&options.directory, None, None, "data".into())? };
        run::prepare(&options, &flash::firmware()?, &wanted, DISK_SIZE)?;
        let mut machine = Machine::start(&options)?;
        run::wait_ready(&mut machine, &signals)?.ok_or("interrupted")?;
        if product == Product::Single {
            outside::format_fat32(&machine)?;
        }
        power_off(&mut machine)?;
        let base = [read_disk(&options.disk(0))?, read_disk(&options.disk(1))?];
        Ok(Self { product, options, wanted, signals, base })
    }

    /// Puts these contents on the disks.
    pub fn write_disks(&self, disks: &[RamDisk; 2]) -> Result<(), String> {
        for (channel, disk) in disks.iter().enumerate() {
            write_disk(&self.options.disk(channel), disk)?;
        }
        Ok(())
    }

    /// What the disks hold.
    pub fn read_disks(&self) -> Result<[RamDisk; 2], String> {
        Ok([read_disk(&self.options.disk(0))?, read_disk(&self.options.disk(1))?])
    }
}

/// Switches the appliance off in order.
pub fn power_off(machine: &mut Machine) -> Result<(), String> {
    match machine.power_off(POWER_OFF_LIMIT) {
        End::PoweredOff => Ok(()),
        End::Quit => {
            Err(format!("it does not switch itself off; the console shows:\n{}", machine.console_tail(20)))
        }
    }
}

fn read_disk(path: &Path) -> Result<RamDisk, String> {
    let text = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(text)?;
    let size = file.metadata().map_err(text)?.len();
    let disk = RamDisk::new(size / 512, 512);
    let mut buffer = vec![0; 64 << 10];
    for at in (0..size).step_by(buffer.len()) {
        let length = (size - at).min(buffer.len() as u64) as usize;
        let piece = buffer.get_mut(..length).unwrap_or(&mut []);
        file.read_exact_at(piece, at).map_err(text)?;
        if piece.iter().any(|&byte| byte != 0) {
            disk.poke(at, piece);
        }
    }
    Ok(disk)
}

/// Writes a disk to a file, which is made anew and sparse.
pub fn write_disk(path: &Path, disk: &RamDisk) -> Result<(), String> {
    let text = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::create(path).map_err(text)?;
    file.set_len(disk.bytes()).map_err(text)?;
    let mut result = Ok(());
    disk.for_each_chunk(|offset, bytes| {
        if result.is_ok() {
            result = file.write_all_at(bytes, offset).map_err(text);
        }
    });
    result
}
