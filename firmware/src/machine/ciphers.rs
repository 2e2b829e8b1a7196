//! The engine's hash and cipher, as the board does them best.

use alloc::alloc::{Layout, alloc_zeroed};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicUsize, Ordering};

use ppc750_nas::gcm::Key;
use smb::crypto::GcmKey;

/// Keys worked in at most, 25 KiB each; beyond them the engine's portable code serves.
const MAXIMUM_KEYS: usize = 128;

static KEYS: AtomicUsize = AtomicUsize::new(0);

/// Names them to the engine.
pub fn bring() {
    smb::crypto::use_sha256(ppc750_nas::sha256::compress);
    smb::crypto::use_aes_gcm(work_in);
}

struct Prepared(Key);

impl Drop for Prepared {
    fn drop(&mut self) {
        KEYS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl GcmKey for Prepared {
    fn seal(&self, nonce: &[u8; 12], data: &[u8; 32], text: &mut [u8]) -> [u8; 16] {
        self.0.seal(nonce, data, text)
    }

    fn open(&self, nonce: &[u8; 12], data: &[u8; 32], text: &mut [u8]) -> [u8; 16] {
        self.0.open(nonce, data, text)
    }
}

fn work_in(key: &[u8]) -> Option<Box<dyn GcmKey>> {
    if KEYS.load(Ordering::Relaxed) >= MAXIMUM_KEYS {
        return None;
    }
    let layout = Layout::new::<Prepared>();
    // SAFETY: the layout is not empty.
    let memory = unsafe { alloc_zeroed(layout) }.cast::<Prepared>();
    if memory.is_null() {
        return None;
    }
    // SAFETY: from the global allocator with this layout; a `Key` consists of numbers, so zeros are one.
    let mut place = unsafe { Box::from_raw(memory) };
    KEYS.fetch_add(1, Ordering::Relaxed);
    if place.0.prepare(key) { Some(place) } else { None }
}
