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

/// Takes the seed that the last run left into the pool, and leaves another for the next one at once: a power cut must
/// not leave none.
pub fn take_seed<F: NorFlash>(flash: &mut F, entropy: &EntropyPool) {
    match seed::take(flash) {
        Ok(Some(bytes)) => entropy.seed(&bytes),
        Ok(None) => log::warn!("entropy: no seed in flash, starting from jitter"),
        Err(_) => log::error!("entropy: the flash does not answer"),
    }
    store_seed(flash, entropy);
}

/// Leaves a seed for the next run.
pub fn store_seed<F: NorFlash>(flash: &mut F, entropy: &EntropyPool) {
    let mut bytes = [0; seed::SEED_LENGTH];
    entropy.fill(&mut bytes);
    if seed::store(flash, &bytes).is_err() {
        log::error!("entropy: the flash does not take the seed");
    }
}
