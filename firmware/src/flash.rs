//! What the appliance keeps in its flash beside the configuration.

use alloc::string::String;
use alloc::vec;

use embedded_storage::nor_flash::NorFlash;
use flash_layout::{CRASH, crash, seed};

use crate::entropy::EntropyPool;

/// Reads the crash record, if the last run left one: the seconds it was up, and what was printed.
pub fn crash_record<F: NorFlash>(flash: &mut F) -> Option<(u32, String)> {
    let mut area = vec![0; CRASH.length as usize];
    flash.read(CRASH.offset, &mut area).ok()?;
    let record = crash::parse(&area)?;
    Some((record.uptime_seconds, String::from(record.text)))
}

/// Takes the seed that the last run left into the pool, and leaves another for the next one.
pub fn take_seed<F: NorFlash>(flash: &mut F, entropy: &EntropyPool) {
    match seed::renew(flash, |seed| entropy.seed(seed), || next_seed(entropy)) {
        Ok(true) => {}
        Ok(false) => log::warn!("entropy: no seed in flash, starting from jitter"),
        Err(_) => log::error!("entropy: the flash does not answer, or does not take the seed"),
    }
}

fn next_seed(entropy: &EntropyPool) -> [u8; seed::SEED_LENGTH] {
    let mut bytes = [0; seed::SEED_LENGTH];
    entropy.fill(&mut bytes);
    bytes
}

/// Leaves a seed for the next run.
pub fn store_seed<F: NorFlash>(flash: &mut F, entropy: &EntropyPool) {
    if seed::store(flash, &next_seed(entropy)).is_err() {
        log::error!("entropy: the flash does not take the seed");
    }
}
