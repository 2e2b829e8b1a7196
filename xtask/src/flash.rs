//! The flash image as a file: the firmware goes in, the configuration stays; what is new is provisioned.

use std::path::{Path, PathBuf};

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use flash_layout::configuration::{BlankDisks, Configuration, Policy, Share, User};
use flash_layout::log::Log;
use flash_layout::{BOOT_BLOCK, CONFIGURATION, ERASE_BLOCK, FLASH_SIZE, SLOT_A, SLOT_B};

use crate::{image, settings};

/// The flash's bytes, behaving as NOR flash.
#[derive(Debug)]
pub struct FlashImage(pub Vec<u8>);

/// Why an operation on the image failed: only a mistake in this program leads here.
#[derive(Clone, Copy, Debug)]
pub struct OutOfBounds;

impl NorFlashError for OutOfBounds {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::OutOfBounds
    }
}

impl ErrorType for FlashImage {
    type Error = OutOfBounds;
}

impl ReadNorFlash for FlashImage {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        let start = offset as usize;
        bytes.copy_from_slice(self.0.get(start..start + bytes.len()).ok_or(OutOfBounds)?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl NorFlash for FlashImage {
    const WRITE_SIZE: usize = 1;
    const ERASE_SIZE: usize = ERASE_BLOCK as usize;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), OutOfBounds> {
        self.0.get_mut(from as usize..to as usize).ok_or(OutOfBounds)?.fill(0xFF);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let start = offset as usize;
        let target = self.0.get_mut(start..start + bytes.len()).ok_or(OutOfBounds)?;
        target.iter_mut().zip(bytes).for_each(|(cell, bits)| *cell &= bits);
        Ok(())
    }
}

/// The file that holds the firmware as built last, without any state.
fn built_path() -> Result<PathBuf, String> {
    Ok(settings::output_directory()?.join("firmware.img"))
}

/// Builds the firmware.
pub fn build(features: &str, verbose: bool) -> Result<image::Summary, String> {
    let flash = built_path()?;
    // Afresh each time, so that the sequence number is the same and equal sources give equal images.
    let _ = std::fs::remove_file(&flash);
    eprintln!("building the image");
    image::build(&image::Options {
        workspace: settings::root(),
        flash,
        features: features.to_string(),
        verbose,
    })
}

/// The flash as built last.
pub fn firmware() -> Result<Vec<u8>, String> {
    read(&built_path()?)
}

/// The areas that hold firmware rather than state.
const FIRMWARE: [flash_layout::Area; 3] = [SLOT_A, SLOT_B, BOOT_BLOCK];

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if bytes.len() == FLASH_SIZE as usize {
        Ok(bytes)
    } else {
        Err(format!("{} has {} bytes, not 4 MiB: it is no flash image", path.display(), bytes.len()))
    }
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let text = |error: std::io::Error| format!("{}: {error}", path.display());
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).map_err(text)?;
    std::fs::rename(&new, path).map_err(text)
}

/// The CRC-32 of what is in the firmware's areas.
fn firmware_checksum(flash: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for area in FIRMWARE {
        hasher.update(flash.get(area.offset as usize..area.end() as usize).unwrap_or(&[]));
    }
    hasher.finalize()
}

/// What [`update`] did to a flash file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// There was none: it is new.
    New,
    /// It held this firmware.
    Same,
    /// It held an older build that xtask had put there: the firmware was replaced.
    Updated,
    /// It holds firmware that xtask did not put there: left as it is.
    Foreign,
}

/// Where xtask notes the checksum of the firmware that it put into `path`.
fn note(path: &Path) -> std::path::PathBuf {
    path.with_extension("installed")
}

/// Puts the firmware of `built` (a whole flash image) into the file `path`; the configuration and the other state
/// in it stay as they are.
pub fn install(path: &Path, built: &[u8]) -> Result<(), String> {
    let mut flash = if path.exists() { read(path)? } else { vec![0xFF; FLASH_SIZE as usize] };
    for area in FIRMWARE {
        let range = area.offset as usize..area.end() as usize;
        if let (Some(target), Some(source)) = (flash.get_mut(range.clone()), built.get(range)) {
            target.copy_from_slice(source);
        }
    }
    write(path, &flash)?;
    write(&note(path), format!("{:08x}\n", firmware_checksum(&flash)).as_bytes())
}

/// Brings the file `path` up to date with `built`, unless somebody else has put other firmware there.
pub fn update(path: &Path, built: &[u8]) -> Result<Installed, String> {
    if !path.exists() {
        install(path, built)?;
        return Ok(Installed::New);
    }
    let found = firmware_checksum(&read(path)?);
    if found == firmware_checksum(built) {
        return Ok(Installed::Same);
    }
    let noted =
        std::fs::read_to_string(note(path)).ok().and_then(|text| u32::from_str_radix(text.trim(), 16).ok());
    if noted == Some(found) {
        install(path, built)?;
        Ok(Installed::Updated)
    } else {
        Ok(Installed::Foreign)
    }
}

/// What `xtask run` wants to be in the configuration.
#[derive(Clone, Debug)]
pub struct Provision {
    /// The account.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Whether the password was asked for, rather than read from the file that keeps it.
    pub password_given: bool,
    /// The share on volume 0; where each disk is a volume of its own, another, with a 2 behind its name, is on volume 1.
    pub share: String,
    /// What the first start makes of new disks.
    pub volumes: BlankDisks,
    /// Whether requests must be signed, when that is not to stay as it is.
    pub signing: Option<Policy>,
    /// Whether sessions must be encrypted, when that is not to stay as it is.
    pub encryption: Option<Policy>,
    /// One more account, with the same password.
    pub second_user: Option<String>,
    /// One more share on volume 0, for encrypted sessions only.
    pub encrypted_share: Option<String>,
}

/// Sees to it that the configuration in the flash file `path` has what `wanted` says. False when the account has
/// another password (set on the console since), which then stays.
pub fn provision(path: &Path, wanted: &Provision) -> Result<bool, String> {
    let mut flash = FlashImage(read(path)?);
    let before = flash.0.clone();
    let mut log =
        Log::open(&mut flash, CONFIGURATION).map_err(|error| format!("configuration log: {error:?}"))?;
    let mut configuration =
        Configuration::load(&mut log).map_err(|error| format!("configuration log: {error:?}"))?;
    let fresh = configuration.users.is_empty();
    let nt_hash = auth::nt_hash(&wanted.password);
    let mut known = true;
    let next_number = configuration.next_user_number();
    let same = |user: &&mut User| flash_layout::configuration::same_name(&user.name, &wanted.user);
    match configuration.users.iter_mut().find(same) {
        Some(user) if wanted.password_given => user.nt_hash = nt_hash,
        Some(user) => known = user.nt_hash == nt_hash,
        None => configuration.users.push(User {
            number: next_number,
            name: wanted.user.clone(),
            nt_hash,
            administrator: true,
            disabled: false,
        }),
    }
    if let Some(name) = &wanted.second_user
        && !configuration.users.iter().any(|user| flash_layout::configuration::same_name(&user.name, name))
    {
        configuration.users.push(User {
            number: configuration.next_user_number(),
            name: name.clone(),
            nt_hash: auth::nt_hash(&wanted.password),
            administrator: false,
            disabled: false,
        });
    }
    if let Some(name) = wanted.encrypted_share.as_ref().filter(|name| configuration.share(name).is_none()) {
        configuration.shares.push(Share { encrypted: true, ..Share::new(name, 0) });
    }
    let count = if wanted.volumes == BlankDisks::Single { 2 } else { 1 };
    for (name, volume) in
        [(wanted.share.clone(), 0), (format!("{}2", wanted.share), 1)].into_iter().take(count)
    {
        if configuration.share(&name).is_none() {
            configuration.shares.push(Share::new(&name, volume));
        }
    }
    if let Some(signing) = wanted.signing {
        configuration.signing = signing;
    }
    if let Some(encryption) = wanted.encryption {
        configuration.encryption = encryption;
    }
    if fresh {
        // The disks that come with a new flash are new too; others are never formatted by this.
        configuration.blank_disks = wanted.volumes;
    }
    configuration.check().map_err(|reason| format!("--user, --share: {reason}"))?;
    configuration.save(&mut log).map_err(|error| format!("configuration log: {error:?}"))?;
    if flash.0 != before {
        write(path, &flash.0)?;
    }
    Ok(known)
}

/// Reads the configuration back, for tests.
#[cfg(test)]
fn configuration(path: &Path) -> Configuration {
    let mut flash = FlashImage(read(path).unwrap());
    Configuration::load(&mut Log::open(&mut flash, CONFIGURATION).unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("nas-xtask-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn wanted(password: &str, given: bool) -> Provision {
        Provision {
            user: "nas".into(),
            password: password.into(),
            password_given: given,
            share: "data".into(),
            volumes: BlankDisks::Mirror,
            signing: None,
            encryption: None,
            second_user: None,
            encrypted_share: None,
        }
    }

    #[test]
    fn firmware_is_updated_and_state_stays() {
        let directory = directory("update");
        let path = directory.join("flash.img");
        let mut built = vec![0xFF; FLASH_SIZE as usize];
        built[0] = 1;
        assert_eq!(update(&path, &built), Ok(Installed::New));
        assert!(provision(&path, &wanted("one", false)).unwrap());
        assert_eq!(update(&path, &built), Ok(Installed::Same));
        built[0] = 2;
        assert_eq!(update(&path, &built), Ok(Installed::Updated));
        assert_eq!(configuration(&path).users.len(), 1);
        let mut changed = read(&path).unwrap();
        changed[5] = 0;
        std::fs::write(&path, &changed).unwrap();
        assert_eq!(update(&path, &built), Ok(Installed::Foreign));
        assert!(read(&path).unwrap() == changed);
        std::fs::write(&path, "short").unwrap();
        assert!(update(&path, &built).is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn provisioning_is_done_once_and_respects_the_console() {
        let directory = directory("provision");
        let path = directory.join("flash.img");
        install(&path, &vec![0xFF; FLASH_SIZE as usize]).unwrap();
        assert_eq!(provision(&path, &wanted("one", false)), Ok(true));
        let first = configuration(&path);
        assert_eq!(first.users[0].nt_hash, auth::nt_hash("one"));
        assert!(first.blank_disks == BlankDisks::Mirror && first.users[0].administrator);
        let shares: Vec<(&str, u8)> =
            first.shares.iter().map(|share| (share.name.as_str(), share.volume)).collect();
        assert_eq!(shares, [("data", 0)]);
        let bytes = read(&path).unwrap();
        assert_eq!(provision(&path, &wanted("one", false)), Ok(true));
        assert!(read(&path).unwrap() == bytes, "nothing to do, nothing done");
        // Another password in the flash stays, unless one is asked for.
        assert_eq!(provision(&path, &wanted("two", false)), Ok(false));
        assert_eq!(configuration(&path).users[0].nt_hash, auth::nt_hash("one"));
        assert_eq!(provision(&path, &wanted("two", true)), Ok(true));
        assert_eq!(configuration(&path).users[0].nt_hash, auth::nt_hash("two"));
        let single = Provision { volumes: BlankDisks::Single, ..wanted("two", false) };
        assert_eq!(provision(&path, &single), Ok(true));
        assert!(configuration(&path).share("data2").is_some_and(|share| share.volume == 1));
        assert_eq!(configuration(&path).blank_disks, BlankDisks::Mirror, "said once, with the new flash");
        let bad = Provision { share: "a/b".into(), ..wanted("two", false) };
        assert!(provision(&path, &bad).is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
