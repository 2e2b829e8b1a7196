//! What a start finds in the flash: configuration log, image headers, crash record, seed.
//!
//! Input: a byte of options, then patches to a sound flash: area, offset (three bytes), piece. Everything that a start does is
//! done; then the configuration is changed, power is cut in the middle of it, and what was saved before or is saved after must
//! be there.

use std::sync::LazyLock;

use flash_layout::area::AREAS;
use flash_layout::configuration::{Configuration, Share, User};
use flash_layout::log::Log;
use flash_layout::ram_flash::RamFlash;
use flash_layout::{CONFIGURATION, CRASH, SLOT_A, SLOT_B};

use crate::input::Input;

fn sample() -> Configuration {
    let mut configuration = Configuration::default();
    for number in 1..9 {
        configuration.users.push(User {
            number,
            name: format!("user{number}"),
            nt_hash: [number as u8; 16],
            administrator: number == 1,
            disabled: number == 2,
        });
    }
    configuration.shares.push(Share::new("data", 0));
    configuration.shares.push(Share::new("data2", 1));
    configuration
}

/// A flash as it is after some changes.
static SOUND: LazyLock<RamFlash> = LazyLock::new(|| {
    let mut flash = RamFlash::erased();
    let mut log = Log::open(&mut flash, CONFIGURATION).unwrap();
    let mut configuration = sample();
    configuration.save(&mut log).unwrap();
    for round in 0..20u8 {
        configuration.users[3].nt_hash = [round; 16];
        configuration.save(&mut log).unwrap();
    }
    drop(log);
    flash_layout::seed::store(&mut flash, &[7; flash_layout::seed::SEED_LENGTH]).unwrap();
    flash
});

/// The target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.byte();
    let mut flash = SOUND.clone();
    for _ in 0..32 {
        if input.is_empty() {
            break;
        }
        let area = AREAS[usize::from(input.byte()) % AREAS.len()];
        let offset = u32::from(input.short()) << 8 | u32::from(input.byte());
        let start = (area.offset + offset % area.length) as usize;
        let piece = input.piece();
        let end = (start + piece.len()).min(flash.bytes.len());
        flash.bytes[start..end].copy_from_slice(&piece[..end - start]);
    }
    for slot in [SLOT_A, SLOT_B] {
        let bytes = &flash.bytes[slot.offset as usize..(slot.offset + slot.length) as usize];
        if let Ok((header, image)) = flash_layout::image::check(bytes, slot) {
            assert!(image.len() < slot.length as usize);
            header.name();
            let mut target = vec![0; header.unpacked_length.min(1 << 16) as usize];
            let _ = flash_layout::image::unpack(&header, image, &mut target);
        }
    }
    let crash = &flash.bytes[CRASH.offset as usize..(CRASH.offset + CRASH.length) as usize];
    flash_layout::crash::parse(crash);
    let mut given = 0;
    let found =
        flash_layout::seed::renew(&mut flash, |_| given += 1, || [8; flash_layout::seed::SEED_LENGTH]);
    assert!(found.is_err() || found == Ok(given > 0));

    let Ok(mut log) = Log::open(&mut flash, CONFIGURATION) else { return };
    // Whatever was found: it is within bounds, or is put right.
    let Ok(found) = Configuration::load(&mut log) else { return };
    let mut changed = found.clone();
    changed.host_name = "OTHER".into();
    if changed.check().is_err() || changed.save(&mut log).is_err() {
        return;
    }
    let again = Configuration::load(&mut log).unwrap();
    assert_eq!(again.host_name, "OTHER");
    drop(log);
    // Power goes while it is changed again.
    flash.cut_after(u32::from(options));
    let mut third = again.clone();
    third.host_name = "THIRD".into();
    if let Ok(mut log) = Log::open(&mut flash, CONFIGURATION) {
        let _ = third.save(&mut log);
    }
    flash.restore();
    let mut log = Log::open(&mut flash, CONFIGURATION).unwrap();
    let last = Configuration::load(&mut log).unwrap();
    assert!(last.host_name == "OTHER" || last.host_name == "THIRD", "{}", last.host_name);
    assert_eq!(last.users.len(), again.users.len());
}
