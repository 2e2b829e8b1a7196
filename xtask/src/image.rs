//! Builds the boot block and the firmware image, and lays them into the 4 MiB flash.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use flash_layout::area::{AREAS, Area, BOOT_BLOCK, FLASH_SIZE};
use flash_layout::image::{self, HEADER_LENGTH, ImageHeader, NAME_LENGTH};
use flash_layout::slot::{self, Slot};

use crate::elf;

/// The target's description, from the workspace's root; its stem is the name of the build directory.
const TARGET: &str = "boards/ppc750-nas/powerpc750-none.json";
const TARGET_NAME: &str = "powerpc750-none";
/// What the firmware, compressed, and the boot block may fill without the flash's padding.
const BUDGET: usize = 1 << 20;
/// The compressor's level: its best.
const COMPRESSION: u8 = 10;

/// What to build and where to.
#[derive(Clone, Debug)]
pub struct Options {
    /// The workspace's root.
    pub workspace: PathBuf,
    /// The flash image: made when absent. When it is there, its configuration, crash and seed areas are kept.
    pub flash: PathBuf,
    /// Cargo features of the firmware, separated by commas; usually none.
    pub features: String,
    /// Whether cargo prints what it compiles.
    pub verbose: bool,
}

/// What fills the flash.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Sections of the firmware image: name and bytes.
    pub sections: Vec<(String, usize)>,
    /// Bytes of the firmware image as it lies in its slot, without header.
    pub image: usize,
    /// Bytes of it when it is unpacked.
    pub unpacked: usize,
    /// Bytes of memory that the image needs, zeroed data included.
    pub memory: usize,
    /// Bytes of the boot block.
    pub boot_block: usize,
    /// The slot the image was written to.
    pub slot: Slot,
    /// Its sequence number.
    pub sequence: u32,
    /// Bytes that are not 0xFF in each area.
    pub used: Vec<(Area, usize)>,
    /// Where the flash image is.
    pub flash: PathBuf,
    /// The firmware with its symbols: what `addr2line` wants for a backtrace.
    pub elf: PathBuf,
}

/// Builds everything and writes the flash image.
pub fn build(options: &Options) -> Result<Summary, String> {
    let boot_path = compile(options, "ppc750-nas", "boot-block", "")?;
    let firmware_path = compile(options, "firmware", "firmware", &options.features)?;
    let boot_elf = read(&boot_path)?;
    let firmware_elf = read(&firmware_path)?;

    let boot = elf::flatten(&boot_elf).map_err(|error| format!("{}: {error}", boot_path.display()))?;
    let boot_address = u64::from(flash_address(BOOT_BLOCK.offset));
    if u64::from(boot.address) != boot_address || boot.bytes.len() > BOOT_BLOCK.length as usize {
        return Err(format!(
            "the boot block is linked at {:#x} and has {} bytes; it belongs at {boot_address:#x} and may have {}",
            boot.address,
            boot.bytes.len(),
            BOOT_BLOCK.length
        ));
    }
    let firmware =
        elf::flatten(&firmware_elf).map_err(|error| format!("{}: {error}", firmware_path.display()))?;

    let mut flash = match fs::read(&options.flash) {
        Ok(flash) if flash.len() == FLASH_SIZE as usize => flash,
        Ok(flash) => {
            return Err(format!(
                "{} has {} bytes and is no flash image; remove it",
                options.flash.display(),
                flash.len()
            ));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![0xFF; FLASH_SIZE as usize],
        Err(error) => return Err(format!("{}: {error}", options.flash.display())),
    };

    // The image goes to slot A, with a higher number than whatever else is there, and slot B keeps what it has: as the
    // appliance's own update would leave the flash.
    let sequence = match slot::choose(&flash, |_, _| Ok(())) {
        Ok((_, header, _)) => header.sequence.wrapping_add(1),
        Err(_) => 1,
    };
    let stored = miniz_oxide::deflate::compress_to_vec(&firmware.bytes, COMPRESSION);
    let header = ImageHeader {
        load_address: firmware.address,
        entry: firmware.entry,
        length: length(stored.len())?,
        checksum: crc32(&stored),
        sequence,
        memory_length: length(firmware.memory_length)?,
        unpacked_length: length(firmware.bytes.len())?,
        unpacked_checksum: crc32(&firmware.bytes),
        name: build_name(&options.workspace),
    };
    let area = Slot::A.area();
    if stored.len() + HEADER_LENGTH > area.length as usize {
        return Err(format!("the image has {} bytes, more than its slot", stored.len()));
    }
    let filled = stored.len() + boot.bytes.len();
    if filled > BUDGET {
        return Err(format!("image and boot block have {filled} bytes, more than the budget of {BUDGET}"));
    }
    place(&mut flash, area, &[&header.emit(), &stored])?;
    place(&mut flash, BOOT_BLOCK, &[&boot.bytes])?;
    let unpack = |header: &ImageHeader, stored: &[u8]| {
        let mut target = vec![0; header.unpacked_length as usize];
        image::unpack(header, stored, &mut target).map(|()| target)
    };
    let (.., booted) = slot::choose(&flash, unpack)
        .map_err(|[error, _]| format!("the slot just written does not check: {error}"))?;
    if booted != firmware.bytes {
        return Err("the slot just written is not the one that would be booted".into());
    }
    write_whole(&options.flash, &flash)?;

    let used = AREAS
        .iter()
        .map(|&area| {
            let bytes = flash.get(area.offset as usize..area.end() as usize).unwrap_or(&[]);
            (area, bytes.iter().filter(|&&byte| byte != 0xFF).count())
        })
        .collect();
    Ok(Summary {
        sections: elf::sections(&firmware_elf)?,
        image: stored.len(),
        unpacked: firmware.bytes.len(),
        memory: firmware.memory_length,
        boot_block: boot.bytes.len(),
        slot: Slot::A,
        sequence,
        used,
        flash: options.flash.clone(),
        elf: firmware_path,
    })
}

/// Where the CPU sees an offset of the flash.
fn flash_address(offset: u32) -> u32 {
    0xFFC0_0000 + offset
}

fn length(bytes: usize) -> Result<u32, String> {
    u32::try_from(bytes).map_err(|_| format!("{bytes} bytes are beyond 32 bits"))
}

fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Runs cargo for one binary of the board and returns the path of its ELF.
fn compile(options: &Options, package: &str, binary: &str, features: &str) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target_directory = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| options.workspace.join("target"), |directory| options.workspace.join(directory));
    let mut command = Command::new(cargo);
    command
        .current_dir(&options.workspace)
        // The flags below are those of an unstable cargo; the code itself is stable Rust.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &target_directory)
        // Flags for the host (coverage, native CPU) do not fit the board.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args(["build", "--release", "--package", package, "--bin", binary, "--target", TARGET])
        .args([
            "-Zbuild-std=core,alloc",
            "-Zbuild-std-features=compiler-builtins-mem,optimize_for_size",
            "-Zjson-target-spec",
        ]);
    if !features.is_empty() {
        command.args(["--features", features]);
    }
    if !options.verbose {
        command.arg("--quiet");
    }
    let status = command.status().map_err(|error| format!("cargo does not start: {error}"))?;
    if !status.success() {
        return Err(format!("{binary} does not build"));
    }
    Ok(target_directory.join(TARGET_NAME).join("release").join(binary))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Erases an area and puts `parts` one after the other at its start.
fn place(flash: &mut [u8], area: Area, parts: &[&[u8]]) -> Result<(), String> {
    let target = flash
        .get_mut(area.offset as usize..area.end() as usize)
        .ok_or_else(|| "the area lies outside the flash".to_string())?;
    target.fill(0xFF);
    let mut offset = 0;
    for part in parts {
        let end = offset + part.len();
        target
            .get_mut(offset..end)
            .ok_or_else(|| "too large for its area".to_string())?
            .copy_from_slice(part);
        offset = end;
    }
    Ok(())
}

/// Replaces a file in one step, so that an interrupted build leaves the old one. The file keeps its identity only
/// between builds, never during a run: QEMU maps it.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(fail)?;
    }
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes).map_err(fail)?;
    fs::rename(&temporary, path).map_err(fail)
}

/// Version and commit, for the boot message.
fn build_name(workspace: &Path) -> [u8; NAME_LENGTH] {
    let commit = Command::new("git")
        .current_dir(workspace)
        .args(["rev-parse", "--short=10", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok());
    let text = format!("{} {}", env!("CARGO_PKG_VERSION"), commit.as_deref().unwrap_or("").trim());
    let mut name = [0; NAME_LENGTH];
    for (place, byte) in name.iter_mut().zip(text.trim().bytes()) {
        *place = byte;
    }
    name
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kibibytes = |bytes: usize| format!("{:7.1} KiB", bytes as f64 / 1024.0);
        writeln!(formatter, "{}", self.flash.display())?;
        writeln!(formatter, "  area                  offset      holds         of")?;
        for (area, used) in &self.used {
            let name = match area.offset {
                0 => "slot A",
                0x18_0000 => "slot B",
                0x30_0000 => "boot block",
                0x31_0000 => "configuration",
                0x35_0000 => "crash record",
                _ => "entropy seed",
            };
            let holds = match (name, self.slot) {
                ("slot A", Slot::A) | ("slot B", Slot::B) => self.image + HEADER_LENGTH,
                ("boot block", _) => self.boot_block,
                _ => *used,
            };
            writeln!(
                formatter,
                "  {name:20} {:#08x} {} {}",
                area.offset,
                kibibytes(holds),
                kibibytes(area.length as usize)
            )?;
        }
        writeln!(
            formatter,
            "  image {}, unpacked, and its sections: {}",
            self.sequence,
            kibibytes(self.unpacked).trim()
        )?;
        for (name, bytes) in &self.sections {
            writeln!(formatter, "    {name:18}          {}", kibibytes(*bytes))?;
        }
        let filled = self.image + self.boot_block;
        writeln!(
            formatter,
            "  image and boot block {}, {} % of the budget of 1 MiB; {} of memory",
            kibibytes(filled).trim(),
            filled * 100 / BUDGET,
            kibibytes(self.memory).trim()
        )?;
        writeln!(formatter, "  symbols for backtraces: {}", self.elf.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placing_erases_the_area_and_nothing_else() {
        let mut flash = vec![0; 64];
        place(&mut flash, Area { offset: 16, length: 16 }, &[&[1, 2], &[3]]).unwrap();
        assert_eq!(flash[15..20], [0, 1, 2, 3, 0xFF]);
        assert_eq!(flash[31..33], [0xFF, 0]);
        assert!(place(&mut flash, Area { offset: 16, length: 2 }, &[&[1, 2], &[3]]).is_err());
        assert!(place(&mut flash, Area { offset: 60, length: 16 }, &[]).is_err());
    }
}
