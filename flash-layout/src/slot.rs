//! Which of the two image slots is booted: the newest that is whole.
//!
//! An update writes the slot that is not running: erase, image, and the header last. Power may fail at any moment;
//! what the next reset then does:
//!
//! | state of the other slot | booted |
//! |---|---|
//! | being erased, or the image half written | the running slot: the other has no header |
//! | header half written | the running slot: the header's checksum fails |
//! | header whole, sequence number higher | the other slot, once the image's checksums hold too |
//! | later damaged | the running slot |

use crate::area::{Area, SLOT_A, SLOT_B};
use crate::image::{HEADER_LENGTH, ImageError, ImageHeader, check};

/// One of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Where it lies.
    #[must_use]
    pub const fn area(self) -> Area {
        match self {
            Self::A => SLOT_A,
            Self::B => SLOT_B,
        }
    }

    /// The one that an update writes while this one runs.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Whether the image with sequence number `one` replaces the one with `other`: their distance modulo 2^32 is positive.
#[must_use]
pub const fn newer(one: u32, other: u32) -> bool {
    let distance = one.wrapping_sub(other);
    distance != 0 && distance < 1 << 31
}

/// The order in which to try the slots, by what their headers say; a slot without a header that parses is left out.
#[must_use]
pub fn order(a: Option<&ImageHeader>, b: Option<&ImageHeader>) -> [Option<Slot>; 2] {
    match (a, b) {
        (Some(a), Some(b)) if newer(b.sequence, a.sequence) => [Some(Slot::B), Some(Slot::A)],
        (Some(_), Some(_)) => [Some(Slot::A), Some(Slot::B)],
        (Some(_), None) => [Some(Slot::A), None],
        (None, Some(_)) => [Some(Slot::B), None],
        (None, None) => [None, None],
    }
}

/// The newest whole image in `flash` (all 4 MiB of it) that `accept` makes something of, given its header and its bytes as
/// they are stored; or why each slot, A then B, cannot be booted.
pub fn choose<'f, T>(
    flash: &'f [u8],
    mut accept: impl FnMut(&ImageHeader, &'f [u8]) -> Result<T, ImageError>,
) -> Result<(Slot, ImageHeader, T), [ImageError; 2]> {
    let bytes = |slot: Slot| {
        let area = slot.area();
        flash.get(area.offset as usize..area.end() as usize).unwrap_or(&[])
    };
    let header = |slot: Slot| {
        let start = bytes(slot).first_chunk::<HEADER_LENGTH>().ok_or(ImageError::Bounds)?;
        ImageHeader::parse(start, slot.area())
    };
    let (a, b) = (header(Slot::A), header(Slot::B));
    let mut errors = [a.err().unwrap_or(ImageError::Absent), b.err().unwrap_or(ImageError::Absent)];
    for slot in order(a.as_ref().ok(), b.as_ref().ok()).into_iter().flatten() {
        let accepted = check(bytes(slot), slot.area())
            .and_then(|(header, stored)| accept(&header, stored).map(|made| (slot, header, made)));
        match (accepted, slot) {
            (Ok(accepted), _) => return Ok(accepted),
            (Err(error), Slot::A) => errors[0] = error,
            (Err(error), Slot::B) => errors[1] = error,
        }
    }
    Err(errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::area::FLASH_SIZE;
    use crate::image::NAME_LENGTH;

    fn header(image: &[u8], sequence: u32) -> ImageHeader {
        ImageHeader {
            load_address: 0x10000,
            entry: 0x10000,
            length: image.len() as u32,
            checksum: crate::bytes::crc32(image),
            sequence,
            memory_length: 4096,
            unpacked_length: 16,
            unpacked_checksum: 0,
            name: [0; NAME_LENGTH],
        }
    }

    fn slot_of(flash: &mut [u8], slot: Slot) -> &mut [u8] {
        &mut flash[slot.area().offset as usize..slot.area().end() as usize]
    }

    fn install(flash: &mut [u8], slot: Slot, image: &[u8], sequence: u32) {
        let target = slot_of(flash, slot);
        target[..HEADER_LENGTH].copy_from_slice(&header(image, sequence).emit());
        target[HEADER_LENGTH..HEADER_LENGTH + image.len()].copy_from_slice(image);
    }

    fn erased() -> Vec<u8> {
        vec![0xFF; FLASH_SIZE as usize]
    }

    fn chosen(flash: &[u8]) -> Result<Slot, [ImageError; 2]> {
        choose(flash, |_, _| Ok(())).map(|(slot, ..)| slot)
    }

    #[test]
    fn the_newest_whole_image_is_chosen() {
        let mut flash = erased();
        assert_eq!(chosen(&flash), Err([ImageError::Absent; 2]));
        assert_eq!(chosen(&[]), Err([ImageError::Bounds; 2]));
        install(&mut flash, Slot::B, b"second slot", 1);
        assert_eq!(chosen(&flash), Ok(Slot::B));
        install(&mut flash, Slot::A, b"first slot", 2);
        let image = choose(&flash, |_, stored| Ok(stored)).map(|(slot, _, image)| (slot, image));
        assert_eq!(image, Ok((Slot::A, &b"first slot"[..])));
        install(&mut flash, Slot::B, b"second slot", 3);
        assert_eq!(chosen(&flash), Ok(Slot::B));

        // What is whole and of no use falls back to the older one.
        let accept = |header: &ImageHeader, _: &[u8]| {
            if header.sequence == 3 { Err(ImageError::Compression) } else { Ok(()) }
        };
        assert_eq!(choose(&flash, accept).map(|(slot, ..)| slot), Ok(Slot::A));
        let none = choose(&flash, |_, _| Err::<(), _>(ImageError::Memory));
        assert_eq!(none.map(|(slot, ..)| slot), Err([ImageError::Memory; 2]));

        // A damaged image falls back to the older one; both damaged, both reasons are named.
        slot_of(&mut flash, Slot::B)[HEADER_LENGTH] ^= 1;
        assert_eq!(chosen(&flash), Ok(Slot::A));
        slot_of(&mut flash, Slot::A)[0] ^= 1;
        assert_eq!(chosen(&flash), Err([ImageError::Absent, ImageError::ImageChecksum]));
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut flash = erased();
        install(&mut flash, Slot::A, b"old", u32::MAX);
        install(&mut flash, Slot::B, b"new", 0);
        assert_eq!(chosen(&flash), Ok(Slot::B));
        assert!(!newer(5, 5));
    }

    #[test]
    fn an_update_cut_at_any_byte_leaves_a_bootable_image() {
        let mut flash = erased();
        install(&mut flash, Slot::A, b"running image", 1);
        install(&mut flash, Slot::B, b"the older image", 0);
        let update = b"the new image";
        let header = header(update, 2).emit();
        slot_of(&mut flash, Slot::B).fill(0xFF);
        assert_eq!(chosen(&flash), Ok(Slot::A));
        let steps = (HEADER_LENGTH..).zip(update.iter()).chain((0..).zip(header.iter()));
        let last = update.len() + header.len() - 1;
        for (step, (offset, byte)) in steps.enumerate() {
            slot_of(&mut flash, Slot::B)[offset] = *byte;
            let expected = if step == last { Slot::B } else { Slot::A };
            assert_eq!(chosen(&flash), Ok(expected), "after step {step}");
        }
    }
}
