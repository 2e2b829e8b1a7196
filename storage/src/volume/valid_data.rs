//! ValidDataLength, and what is written beyond it.
//!
//! A file has one ValidDataLength: up to there its clusters hold its content, behind it reads give zeros whatever the
//! clusters hold. Clients that set a file's size first and then write it in pieces that overtake each other write beyond
//! it all the time. The ranges written there are kept in memory, in whole sectors; when what lies before one of them is
//! written too, ValidDataLength moves to its end. Zeros are only written into a gap when the volume has to learn of what
//! lies behind it: at a flush of the file, with its last close, when a file has too many gaps, and when nobody has
//! written at ValidDataLength for a few rounds of the timer. All of it in steps, each of them written to the device
//! before the next, so that others get their turns.
//!
//! FAT has no such field: there a file's size on the volume is ValidDataLength until the file is flushed or closed, and
//! what is left up to its end is then written as zeros.

use alloc::vec::Vec;

use lock_api::RawMutex;

use super::engine::Engine;
use super::entry::Record;
use super::node::OpenNode;
use super::{Node, Volume, VolumeError};
use crate::hash_index::NONE;

/// Zeros written in one go while the volume is locked.
const ZERO_STEP: u64 = 1 << 20;
/// Ranges beyond ValidDataLength that a file has at most.
const MAXIMUM_BEYOND: usize = 64;
/// Rounds of the timer in which nobody wrote at ValidDataLength, after which the gap there is filled.
const PATIENCE: u8 = 3;
/// Steps that the timer takes in a round.
const STEPS_A_ROUND: usize = 16;

impl OpenNode {
    /// Whether bytes from `position` on are written, and up to where they are or are not.
    pub(super) fn written_at(&self, position: u64) -> (bool, u64) {
        let valid = self.record.valid;
        if position < valid { (true, valid) } else { self.beyond.at(position) }
    }

    /// The record as the volume may have it. Unless the file is `whole`, what was written behind gaps is not counted, nor
    /// what the file grew by it, or a power cut would leave a file that had this size, but never this content.
    pub(super) fn storable(&self, record: &Record, exfat: bool, whole: bool) -> Record {
        let size = match (exfat, self.beyond.is_empty()) {
            _ if whole || self.own != NONE => record.size,
            (true, true) => record.size,
            (true, false) => record.size.min(self.size_before).max(record.valid),
            (false, _) => record.valid,
        };
        Record { size, ..*record }
    }

    /// ValidDataLength has come to `valid`, and perhaps to what is written beyond.
    pub(super) fn advance(&mut self, valid: u64) {
        let valid = self.beyond.absorb(self.record.valid.max(valid));
        self.record.valid = valid.min(self.record.size);
    }

    /// Up to where the file has to be written before the volume may have it whole.
    fn goal(&self, exfat: bool) -> u64 {
        match self.beyond.as_slice().last() {
            _ if !exfat => self.record.size,
            Some(last) => last.1.min(self.record.size),
            None => 0,
        }
    }
}

impl<R: RawMutex> Engine<R> {
    /// Where the sector begins that byte `position` of a file is in.
    pub(super) fn sector_below(&self, position: u64) -> u64 {
        position & !u64::from(self.geometry.sector_size - 1)
    }

    /// Where the first sector begins that has nothing before byte `position` of a file.
    pub(super) fn sector_above(&self, position: u64) -> u64 {
        self.sector_below(position.saturating_add(u64::from(self.geometry.sector_size - 1)))
    }

    /// Writes zeros from ValidDataLength up to `end`, where it comes to be; nothing is written in between.
    pub(super) fn zero_range(&mut self, slot: u32, end: u64) -> Result<(), VolumeError> {
        self.ensure_allocated(slot, end, false)?;
        let valid = self.nodes.get(slot)?.record.valid;
        self.write_zeros(slot, valid, end)?;
        let node = self.nodes.get_mut(slot)?;
        node.record.size = node.record.size.max(end);
        node.advance(end);
        node.dirty = true;
        Ok(())
    }

    /// Writes zeros over bytes `start..end`, of which no sector but the first has content.
    fn write_zeros(&mut self, slot: u32, start: u64, end: u64) -> Result<(), VolumeError> {
        let mut position = start;
        while position < end {
            let (offset, room) = self.map_position(slot, position)?;
            let length = room.min(end - position).min(ZERO_STEP);
            self.cache.zero(self.device, offset, length as usize, offset)?;
            position += length;
        }
        self.nodes.get_mut(slot)?.note_written(start, end);
        Ok(())
    }

    /// Fills a file's gaps, at most so much that others need not wait for long; adds to `places` where. True when all is
    /// done.
    pub(super) fn fill_gaps(&mut self, slot: u32, places: &mut Vec<(u64, u64)>) -> Result<bool, VolumeError> {
        let exfat = self.geometry.kind.is_exfat();
        let mut left = ZERO_STEP;
        loop {
            let node = self.nodes.get(slot)?;
            let (valid, goal) = (node.record.valid, node.goal(exfat));
            let next = node.beyond.at(valid).1;
            if node.own != NONE || node.removed || valid >= goal {
                return Ok(true);
            }
            self.check_writable()?;
            if left == 0 {
                return Ok(false);
            }
            let end = goal.min(valid.saturating_add(left)).min(next);
            self.zero_range(slot, end)?;
            self.places(slot, valid, end, places)?;
            left = left.saturating_sub(end - valid);
        }
    }

    /// Fills all of a file's gaps in one go.
    pub(super) fn fill_all_gaps(&mut self, slot: u32) -> Result<(), VolumeError> {
        while !self.fill_gaps(slot, &mut Vec::new())? {}
        Ok(())
    }

    /// A step into the smallest of a file's gaps.
    fn fill_smallest_gap(&mut self, slot: u32, places: &mut Vec<(u64, u64)>) -> Result<(), VolumeError> {
        let node = self.nodes.get(slot)?;
        let valid = node.record.valid;
        let mut before = valid;
        let mut smallest = (0, u64::MAX);
        for &(start, end) in node.beyond.as_slice() {
            if start - before < smallest.1 - smallest.0 {
                smallest = (before, start);
            }
            before = end;
        }
        let (start, end) = (smallest.0, smallest.1.min(smallest.0.saturating_add(ZERO_STEP)));
        if start == valid {
            self.zero_range(slot, end)?;
        } else {
            self.write_zeros(slot, start, end)?;
            self.nodes.get_mut(slot)?.beyond.add(start, end, usize::MAX);
        }
        self.places(slot, start, end, places)
    }

    /// Writes `data` at `offset`, which lies beyond ValidDataLength. False: not yet, zeros were written at `places` (bytes
    /// of the volume), call again when they are on the device.
    pub(super) fn write_beyond(
        &mut self,
        slot: u32,
        offset: u64,
        data: &[u8],
        places: &mut Vec<(u64, u64)>,
    ) -> Result<bool, VolumeError> {
        let unit = u64::from(self.geometry.sector_size);
        let end = offset.saturating_add(data.len() as u64);
        let (start, stop) = (self.sector_below(offset), self.sector_above(end));
        let beyond = &self.nodes.get(slot)?.beyond;
        if beyond.as_slice().len() >= MAXIMUM_BEYOND && !beyond.touches(start, stop) {
            self.fill_smallest_gap(slot, places)?;
            return Ok(false);
        }
        // All of a range's sectors have content, the first and the last too.
        let last = stop - unit;
        for (sector, is_partial) in [(start, start < offset), (last, end < stop)] {
            if is_partial && !self.nodes.get(slot)?.beyond.at(sector).0 && (sector == start || last > start) {
                let (place, _) = self.map_position(slot, sector)?;
                self.cache.zero(self.device, place, unit as usize, place)?;
            }
        }
        self.write_pieces(slot, offset, data, u64::MAX)?;
        let node = self.nodes.get_mut(slot)?;
        if node.beyond.is_empty() {
            node.size_before = node.record.size;
            node.rounds = 0;
        }
        node.beyond.add(start, stop, usize::MAX);
        node.record.size = node.record.size.max(end);
        node.note_written(start, stop);
        Ok(true)
    }

    /// Writes `data` at `offset` of a file. Sectors at or behind byte `fresh` of the file have no content yet.
    pub(super) fn write_pieces(
        &mut self,
        slot: u32,
        offset: u64,
        data: &[u8],
        fresh: u64,
    ) -> Result<(), VolumeError> {
        let (mut position, mut rest) = (offset, data);
        while !rest.is_empty() {
            let (place, room) = self.map_position(slot, position)?;
            let (part, later) = rest.split_at(room.min(rest.len() as u64) as usize);
            let fresh_from = place.saturating_add(fresh.saturating_sub(position));
            self.cache.write(self.device, place, part, fresh_from)?;
            rest = later;
            position += part.len() as u64;
        }
        Ok(())
    }

    /// Forgets what is written beyond ValidDataLength at or behind byte `size`, where the file is to end.
    pub(super) fn cut_beyond(&mut self, slot: u32, size: u64) -> Result<(), VolumeError> {
        let end = self.sector_above(size);
        let node = self.nodes.get(slot)?;
        if end > size && node.beyond.at(size).0 {
            // A range has whole sectors: what is cut off is zeros, should the file grow again.
            let (place, _) = self.map_position(slot, size)?;
            self.cache.zero(self.device, place, (end - size) as usize, u64::MAX)?;
        }
        let node = self.nodes.get_mut(slot)?;
        node.beyond.cut(end);
        node.size_before = node.size_before.min(size);
        Ok(())
    }

    /// Counts a round of the timer.
    pub(super) fn count_round(&mut self, slot: u32) -> Result<(), VolumeError> {
        let node = self.nodes.get_mut(slot)?;
        node.rounds = if node.beyond.is_empty() { 0 } else { node.rounds.saturating_add(1) };
        Ok(())
    }

    /// A step into the gaps of a file that has waited for `rounds` rounds of the timer. True when there is none.
    fn fill_waiting(&mut self, rounds: u8, places: &mut Vec<(u64, u64)>) -> Result<bool, VolumeError> {
        if self.read_only {
            return Ok(true);
        }
        let slots: Vec<u32> = self.nodes.all().collect();
        for slot in slots {
            if self.nodes.get(slot)?.rounds >= rounds && !self.fill_gaps(slot, places)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<R: RawMutex> Volume<R> {
    /// Fills a file's gaps, and does `then` before anybody can make new ones. With `closing`, only if that is its last use.
    pub(super) fn when_whole<T>(
        &self,
        node: Node,
        closing: bool,
        then: impl Fn(&mut Engine<R>, u32) -> Result<T, VolumeError>,
    ) -> Result<T, VolumeError> {
        loop {
            let mut places = Vec::new();
            let done = self.with_node(node, |engine, slot| {
                let used = closing && engine.nodes.get(slot)?.uses > 1;
                if used || engine.fill_gaps(slot, &mut places)? {
                    then(engine, slot).map(Some)
                } else {
                    Ok(None)
                }
            })?;
            match done {
                Some(answer) => return Ok(answer),
                None => self.cache.write_back_ranges(self.device, &places)?,
            }
        }
    }

    /// Fills the gaps of files that have waited for some rounds of the timer, a bounded part of them.
    pub(super) fn fill_some_waiting(&self) -> Result<(), VolumeError> {
        for _ in 0..STEPS_A_ROUND {
            if self.fill_step(PATIENCE)? {
                break;
            }
        }
        Ok(())
    }

    /// Fills all gaps of all files.
    pub(super) fn fill_all(&self) -> Result<(), VolumeError> {
        while !self.fill_step(0)? {}
        Ok(())
    }

    fn fill_step(&self, rounds: u8) -> Result<bool, VolumeError> {
        let mut places = Vec::new();
        let done = self.with(|engine| engine.fill_waiting(rounds, &mut places))?;
        if !done {
            self.cache.write_back_ranges(self.device, &places)?;
        }
        Ok(done)
    }
}
