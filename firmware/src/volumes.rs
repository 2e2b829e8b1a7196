//! The disks and the volumes on them: found, formatted when told so, mounted, synchronised, unmounted.
//!
//! The array's volume is volume 0 (`array.rs`). A disk of its own on channel `n` carries volume `n`, but for volume 0
//! beside an array: that is volume 1 then.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use console::FileSystem;
use flash_layout::configuration::BlankDisks;
use storage::cache::PAGE_SIZE;
use storage::format::{FormatError, Kind, Options};
use storage::mirror::Member;
use storage::partition::{Layout, Partition, Role};
use storage::volume::{GrowError, Grown};
use storage::{BlockDevice, Cache, Volume};

use crate::array::{Array, Chances};
use crate::board::Disk;
use crate::clock::{Clock, VolumeClock};
use crate::entropy::EntropyPool;
use crate::scheduler::{Event, Mutex, RawMutex, WaitQueue};
use crate::share_volume::ShareVolume;
use crate::volume_check;

/// A volume in use.
struct Mounted {
    volume: Arc<Volume<RawMutex>>,
    shared: Arc<ShareVolume>,
}

/// What is on one channel.
#[derive(Default)]
struct Channel {
    disk: Option<Disk>,
    /// What to say of the disk unless it is in the array.
    state: &'static str,
}

/// One of the volumes there can be.
#[derive(Default)]
struct Slot {
    mounted: Option<Mounted>,
    /// The last synchronisation failed.
    failing: bool,
}

/// What a change of the volumes needs: time, chance, and shares that come and go with a volume's number.
pub struct Surroundings<'a> {
    /// For the volumes' time stamps.
    pub clock: &'static Clock,
    /// For identifiers.
    pub entropy: &'a EntropyPool,
    /// A volume is about to go.
    pub withdraw: &'a dyn Fn(usize),
    /// A volume is there.
    pub publish: &'a dyn Fn(usize),
}

impl Surroundings<'_> {
    pub(crate) fn unique(&self) -> [u8; 16] {
        let mut unique = [0; 16];
        self.entropy.fill(&mut unique);
        unique
    }
}

/// All disks and volumes.
pub struct Volumes {
    cache: Arc<Cache<RawMutex>>,
    /// The cache's helpers that have nothing to do.
    idle: &'static WaitQueue,
    channels: RefCell<Vec<Channel>>,
    slots: RefCell<Vec<Slot>>,
    pub(crate) array: RefCell<Array>,
    /// The array has something to do in the background.
    pub(crate) array_work: Event,
    pub(crate) chances: Cell<Chances>,
    /// The array could not be kept in order.
    array_failing: Cell<bool>,
    /// Held by who changes which disks and volumes there are.
    pub(crate) changing: Mutex<()>,
}

impl Volumes {
    /// No disk yet, a cache of `budget` bytes, `count` channels.
    pub fn new(budget: usize, count: usize) -> Self {
        let (mut channels, mut slots) = (Vec::new(), Vec::new());
        channels.resize_with(count, Channel::default);
        slots.resize_with(count.max(2), Slot::default);
        let idle: &'static WaitQueue = Box::leak(Box::default());
        let wake = Box::new(|| {
            idle.wake_one();
        });
        Self {
            cache: Arc::new(Cache::with_helpers(budget, wake)),
            idle,
            channels: RefCell::new(channels),
            slots: RefCell::new(slots),
            array: RefCell::new(Array::None),
            array_work: Event::new(),
            chances: Cell::default(),
            array_failing: Cell::new(false),
            changing: Mutex::new(()),
        }
    }

    /// Reads ahead and writes back. One of several threads.
    pub fn help_cache(&self) {
        loop {
            if !self.cache.work() {
                self.idle.wait();
            }
        }
    }

    /// Takes the disks into use that were found at the start, one for each channel that has one.
    pub fn start(&self, disks: Vec<Option<Disk>>, blank: BlankDisks, surroundings: &Surroundings<'_>) {
        let _changing = self.changing.lock();
        for (channel, disk) in disks.into_iter().enumerate() {
            match disk {
                Some(disk) => self.note(channel, disk),
                None => log::info!("channel {channel}: no disk"),
            }
        }
        self.start_array(blank == BlankDisks::Mirror, surroundings);
        let count = self.channels.borrow().len();
        for channel in (0..count).filter(|&channel| !self.is_member(channel)) {
            self.take_single(channel, blank != BlankDisks::Leave, surroundings);
        }
    }

    /// Takes a disk into use that has come while the appliance runs.
    pub fn attach(&self, channel: usize, disk: Disk, surroundings: &Surroundings<'_>) {
        let _changing = self.changing.lock();
        let before = self.device(channel);
        // What is on a channel of its own has left with its disk.
        if before.is_some() && !self.is_member(channel) {
            self.unmount(self.volume_of(channel), surroundings);
        }
        self.note(channel, disk);
        if !self.take_into_array(channel, before, surroundings) {
            self.take_single(channel, false, surroundings);
        }
    }

    fn note(&self, channel: usize, disk: Disk) {
        let size = disk.device.blocks().saturating_mul(u64::from(disk.device.block_size()));
        log::info!("channel {channel}: {}, {} MiB", disk.identity.model, size >> 20);
        self.with(channel, |entry| {
            entry.disk = Some(disk);
            entry.state = "not mounted";
        });
    }

    /// Mounts what is on a disk that is not in the array. A blank one is formatted if `format_blank` says so.
    pub(crate) fn take_single(&self, channel: usize, format_blank: bool, surroundings: &Surroundings<'_>) {
        let Some(device) = self.device(channel) else { return };
        let state = match Layout::read(&*device) {
            Err(why) => {
                log::error!("channel {channel}: {why}");
                "failed"
            }
            Ok(layout) if layout.data().is_none() && layout.blank && format_blank => {
                if let Err(why) = self.format_single(channel, FileSystem::ExFat, surroundings) {
                    log::error!("channel {channel}: {why}");
                }
                return;
            }
            Ok(_) if !matches!(storage::mirror::examine(&*device), Ok(None)) => {
                log::warn!("channel {channel}: the disk belongs to an array; `array` shows it");
                "of an array"
            }
            Ok(layout) if layout.data().is_none() => {
                log::warn!("channel {channel}: no volume on the disk; `format {channel}` makes one");
                "no volume"
            }
            Ok(_) => match self.mount_single(channel, &device, surroundings) {
                Ok(()) => "online",
                Err(why) => {
                    let number = self.volume_of(channel);
                    log::error!("channel {channel}: {why}; `check {number}` looks for damage");
                    "not mountable"
                }
            },
        };
        self.set_state(channel, state);
    }

    fn mount_single(
        &self,
        channel: usize,
        disk: &Arc<dyn BlockDevice>,
        surroundings: &Surroundings<'_>,
    ) -> Result<(), String> {
        let layout = Layout::read(&**disk).map_err(|why| why.to_string())?;
        let partition = layout.data().and_then(|partition| partition.open(disk)).ok_or("no volume")?;
        // A disk that the appliance has divided has room for a journal.
        self.mount(self.volume_of(channel), partition, layout.journal(disk), surroundings)
    }

    pub(crate) fn mount(
        &self,
        number: usize,
        partition: Arc<dyn BlockDevice>,
        journal: Option<Arc<dyn BlockDevice>>,
        surroundings: &Surroundings<'_>,
    ) -> Result<(), String> {
        let clock = Arc::new(VolumeClock(surroundings.clock));
        let volume = Volume::mount_journaled(self.cache.clone(), partition, journal, clock, false);
        let volume = Arc::new(volume.map_err(|why| format!("volume: {why}"))?);
        let information = volume.information();
        log::info!(
            "volume {number}: {} \"{}\"{}",
            information.file_system,
            String::from_utf16_lossy(&information.label),
            if information.read_only { ", read-only" } else { "" }
        );
        if volume.status().found_dirty {
            log::warn!("volume {number}: was not left cleanly; `check {number}` looks for damage");
        }
        let shared = Arc::new(ShareVolume::new(volume.clone()));
        self.with_slot(number, |slot| {
            *slot = Slot { mounted: Some(Mounted { volume, shared }), failing: false }
        });
        (surroundings.publish)(number);
        Ok(())
    }

    /// Lays a new file system over a channel's disk, or over the array if the disk is in it, and mounts it.
    pub fn format(
        &self,
        channel: usize,
        file_system: FileSystem,
        surroundings: &Surroundings<'_>,
    ) -> Result<(), String> {
        let _changing = self.changing.lock();
        if self.is_member(channel) {
            return self.format_array(file_system, surroundings);
        }
        let device = self.device(channel).ok_or("there is no disk")?;
        if !matches!(storage::mirror::examine(&*device), Ok(None)) && self.is_refused() {
            return Err(String::from("the disk belongs to an array: `array choose` or `array split` first"));
        }
        self.format_single(channel, file_system, surroundings)
    }

    fn format_single(
        &self,
        channel: usize,
        file_system: FileSystem,
        surroundings: &Surroundings<'_>,
    ) -> Result<(), String> {
        let disk = self.device(channel).ok_or("there is no disk")?;
        let number = self.volume_of(channel);
        self.unmount(number, surroundings);
        log::info!("channel {channel}: formatting");
        let options = options(number, file_system, surroundings);
        storage::format::disk(&disk, &options).map_err(format_error)?;
        self.mount_single(channel, &disk, surroundings)?;
        self.set_state(channel, "online");
        Ok(())
    }

    /// Checks a volume, mounted or not, and repairs it if told to. No share shows it meanwhile. What is found goes to
    /// `out`.
    pub fn check(
        &self,
        number: usize,
        repair: bool,
        surroundings: &Surroundings<'_>,
        out: &mut dyn core::fmt::Write,
    ) -> Result<(), String> {
        let _changing = self.changing.lock();
        let (partition, journal, channel) = self.place_of_volume(number).ok_or("there is no such volume")?;
        self.unmount(number, surroundings);
        // Unmounting empties the journal, if all went well: from here on the volume alone is what counts.
        if let Some(journal) = &journal
            && let Err(why) = storage::volume::settle_journal(journal.clone(), &*partition, repair)
        {
            log::warn!("volume {number}: its journal: {why}");
        }
        let checked = volume_check::check(&self.cache, partition.clone(), number, repair, out);
        let mounted = self.mount(number, partition, journal, surroundings);
        if let Some(channel) = channel {
            self.set_state(channel, if mounted.is_ok() { "online" } else { "not mountable" });
        }
        // What the check has said stands, whether or not the volume can be used as it is.
        if let (Ok(()), Err(why)) = (&checked, mounted) {
            log::error!("volume {number}: {why}");
            let _ = writeln!(out, "Its shares stay away: {why}.");
        }
        checked
    }

    /// The channels of the disks that a volume is on, in use or not; those of the array's disks that are there.
    pub fn disks_of(&self, number: usize) -> Vec<usize> {
        if number == 0
            && let Some(places) = self.array_places()
        {
            return places.into_iter().flatten().filter(|&channel| self.device(channel).is_some()).collect();
        }
        self.place_of_volume(number).and_then(|(_, _, channel)| channel).into_iter().collect()
    }

    /// Takes a volume out of use for ever: its disks are blank then. An array's goes from both disks in one step; what is left after
    /// a power cut is the volume, or an array without one, to be removed again.
    pub fn remove(&self, number: usize, surroundings: &Surroundings<'_>) -> Result<(), String> {
        let _changing = self.changing.lock();
        let mut channels = self.disks_of(number);
        if channels.is_empty() {
            return Err(String::from("there is no such volume"));
        }
        log::warn!("volume {number}: removed");
        self.unmount(number, surroundings);
        let array = self.mirror().filter(|_| number == 0);
        if let Some(mirror) = &array {
            if let Err(why) = storage::format::vacate(&**mirror) {
                self.begin_anew(surroundings);
                return Err(format!("the volume stays: {why}"));
            }
            // A disk that is not up to date must not be the one that is left.
            channels.sort_by_key(|&channel| self.member(channel) == Some(Member::Good));
            self.let_go(surroundings);
        }
        let mut outcome = Ok(());
        for &channel in &channels {
            let Some(disk) = self.device(channel) else { continue };
            if let Err(why) = storage::format::blank(&*disk) {
                outcome = Err(format!("disk {channel} keeps what it holds: {why}"));
            }
        }
        if array.is_some() {
            self.begin_anew(surroundings);
        } else {
            channels.into_iter().for_each(|channel| self.take_single(channel, false, surroundings));
        }
        outcome
    }

    /// Lets a volume take all the room of its disk, or of the smaller disk of the array. No share shows it meanwhile. After a
    /// power cut at any moment it has the old size or the new one.
    pub fn grow(&self, number: usize, surroundings: &Surroundings<'_>) -> Result<Grown, String> {
        let _changing = self.changing.lock();
        let volume =
            self.with_slot(number, |slot| slot.mounted.as_ref().map(|mounted| mounted.volume.clone()));
        let volume = volume.flatten().ok_or("the volume is not in use")?;
        if volume.information().file_system != "exFAT" {
            return Err(GrowError::NotExfat.to_string());
        }
        let status = volume.status();
        drop(volume);
        if status.read_only || status.damaged || status.found_dirty {
            return Err(format!("`check {number} repair` comes first"));
        }
        let single = self.place_of_volume(number).and_then(|(_, _, channel)| channel);
        let enlarged = match single {
            Some(channel) => self.enlarge_single(number, channel, surroundings),
            None => self.enlarge_array(surroundings),
        };
        let outcome = enlarged.and_then(|()| {
            let (part, journal) = self.rest_volume(number, surroundings)?;
            log::info!("volume {number}: grows");
            storage::volume::grow(&*part, journal).map_err(|why| why.to_string())
        });
        let mounted = match (single, self.place_of_volume(number)) {
            (_, Some((part, journal, _))) if self.share_volume(number).is_none() => {
                self.mount(number, part, journal, surroundings)
            }
            _ => Ok(()),
        };
        if let Some(channel) = single {
            self.set_state(channel, if mounted.is_ok() { "online" } else { "not mountable" });
        }
        outcome.and_then(|grown| mounted.map(|()| grown))
    }

    /// Takes a volume out of use, with nothing left in its journal; gives its place and the journal's.
    #[allow(clippy::type_complexity)]
    fn rest_volume(
        &self,
        number: usize,
        surroundings: &Surroundings<'_>,
    ) -> Result<(Arc<dyn BlockDevice>, Arc<dyn BlockDevice>), String> {
        let (part, journal, _) = self.place_of_volume(number).ok_or("there is no such volume")?;
        let journal = journal.ok_or("only volumes on disks that the appliance has divided grow")?;
        self.unmount(number, surroundings);
        let settled = storage::volume::settle_journal(journal.clone(), &*part, false);
        settled.map_err(|why| format!("its journal: {why}"))?;
        Ok((part, journal))
    }

    fn enlarge_single(
        &self,
        number: usize,
        channel: usize,
        surroundings: &Surroundings<'_>,
    ) -> Result<(), String> {
        self.rest_volume(number, surroundings)?;
        let disk = self.device(channel).ok_or("there is no disk")?;
        if storage::partition::enlarge(&*disk).map_err(|why| why.to_string())? {
            log::info!("channel {channel}: the data partition reaches to the disk's end");
        }
        Ok(())
    }

    fn enlarge_array(&self, surroundings: &Surroundings<'_>) -> Result<(), String> {
        let mirror = self.mirror().ok_or("there is no array")?;
        if mirror.status().members != [Member::Good; 2] {
            return Err(String::from("both disks of the array have to be good"));
        }
        self.rest_volume(0, surroundings)?;
        self.rest_array();
        let enlarged = mirror.enlarge();
        if enlarged != Ok(false) {
            // What it knows of its disks is over.
            self.begin_anew(surroundings);
        }
        enlarged.map(|_| ()).map_err(|why| why.to_string())
    }

    /// Where a volume is, or would be: its partition, its journal, and the channel of a disk of its own.
    #[allow(clippy::type_complexity)]
    fn place_of_volume(
        &self,
        number: usize,
    ) -> Option<(Arc<dyn BlockDevice>, Option<Arc<dyn BlockDevice>>, Option<usize>)> {
        if let Some(mirror) = self.mirror().filter(|_| number == 0) {
            return Some((mirror.data()?, mirror.journal(), None));
        }
        let disks = self.devices();
        let (channel, disk) = disks
            .into_iter()
            .find(|&(channel, _)| !self.is_member(channel) && self.volume_of(channel) == number)?;
        let layout = Layout::read(&*disk).ok()?;
        // Where no boot sector makes sense, its copy may.
        let data = |part: &Partition| part.role == Role::Data;
        let place = layout.data().or_else(|| layout.partitions.iter().copied().find(data))?;
        Some((place.open(&disk)?, layout.journal(&disk), Some(channel)))
    }

    fn with<T>(&self, channel: usize, body: impl FnOnce(&mut Channel) -> T) -> Option<T> {
        self.channels.borrow_mut().get_mut(channel).map(body)
    }

    fn with_slot<T>(&self, number: usize, body: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        self.slots.borrow_mut().get_mut(number).map(body)
    }

    pub(crate) fn set_state(&self, channel: usize, state: &'static str) {
        self.with(channel, |entry| entry.state = state);
    }

    pub(crate) fn device(&self, channel: usize) -> Option<Arc<dyn BlockDevice>> {
        self.with(channel, |entry| entry.disk.as_ref().map(|disk| disk.device.clone())).flatten()
    }

    /// The channels' disks.
    pub(crate) fn devices(&self) -> Vec<(usize, Arc<dyn BlockDevice>)> {
        let channels = self.channels.borrow();
        let devices = channels
            .iter()
            .enumerate()
            .filter_map(|(channel, entry)| Some((channel, entry.disk.as_ref()?.device.clone())));
        devices.collect()
    }

    /// The number of the volume on a disk that is not in the array.
    pub(crate) fn volume_of(&self, channel: usize) -> usize {
        if matches!(*self.array.borrow(), Array::None) { channel } else { channel.max(1) }
    }

    /// A volume as shares show it.
    pub fn share_volume(&self, number: usize) -> Option<Arc<ShareVolume>> {
        self.with_slot(number, |slot| slot.mounted.as_ref().map(|mounted| mounted.shared.clone())).flatten()
    }

    fn mounted(&self) -> Vec<(usize, Arc<Volume<RawMutex>>)> {
        let slots = self.slots.borrow();
        let mounted = slots
            .iter()
            .enumerate()
            .filter_map(|(number, slot)| Some((number, slot.mounted.as_ref()?.volume.clone())));
        mounted.collect()
    }

    /// Writes what is dirty, but not to single disks on channels that are `gone`. Called by the flusher now and then.
    pub fn synchronise(&self, gone: impl Fn(usize) -> bool) {
        let count = self.channels.borrow().len();
        let lost: Vec<usize> = (0..count)
            .filter(|&channel| !self.is_member(channel) && gone(channel))
            .map(|channel| self.volume_of(channel))
            .collect();
        for (number, volume) in self.mounted() {
            if lost.contains(&number) {
                continue;
            }
            let outcome = volume.sync();
            // One line when it begins to fail, not one every time.
            let failed_before =
                self.with_slot(number, |slot| core::mem::replace(&mut slot.failing, outcome.is_err()));
            match (outcome, failed_before.unwrap_or(false)) {
                (Err(why), false) => log::error!("volume {number}: {why}"),
                (Ok(()), true) => log::info!("volume {number}: synchronised again"),
                _ => {}
            }
        }
        if let Some(mirror) = self.mirror() {
            let outcome = mirror.maintain();
            if let (Err(why), false) = (outcome, self.array_failing.replace(outcome.is_err())) {
                log::error!("array: {why}");
            }
        }
    }

    /// Writes everything and marks the volumes clean. They take no more calls.
    pub fn unmount_all(&self) {
        for (number, volume) in self.mounted() {
            self.with_slot(number, |slot| slot.mounted = None);
            unmounted(number, &volume);
        }
        self.rest_array();
    }

    /// Takes a volume out of use, if it is in use.
    pub(crate) fn unmount(&self, number: usize, surroundings: &Surroundings<'_>) {
        (surroundings.withdraw)(number);
        let Some(mounted) = self.with_slot(number, |slot| slot.mounted.take()).flatten() else { return };
        unmounted(number, &mounted.volume);
        for (channel, _) in self.devices() {
            if !self.is_member(channel) && self.volume_of(channel) == number {
                self.set_state(channel, "not mounted");
            }
        }
    }

    /// The cache's figures, for the console.
    pub fn cache_statistics(&self) -> console::Cache {
        let statistics = self.cache.statistics();
        let bytes = |pages: u32| u64::from(pages) * PAGE_SIZE as u64;
        console::Cache {
            total: bytes(statistics.maximum_pages),
            used: bytes(statistics.pages),
            dirty: bytes(statistics.dirty_pages),
            hits: statistics.hits,
            misses: statistics.misses,
        }
    }

    /// What is on a channel, for the console; its error count is the board's to add.
    pub fn describe(&self, channel: usize) -> console::Disk {
        let (disk, state) = self.with(channel, |entry| (entry.disk.clone(), entry.state)).unwrap_or_default();
        let Some(disk) = disk else {
            return console::Disk { channel, state: String::from("no disk"), ..console::Disk::default() };
        };
        let member = self.member_state(channel);
        let number = if member.is_some() { 0 } else { self.volume_of(channel) };
        let shown = member.is_some() || state == "online";
        let volume =
            self.with_slot(number, |slot| slot.mounted.as_ref().map(|mounted| mounted.volume.clone()));
        let volume = volume.flatten().filter(|_| shown);
        let state = match volume.as_ref().map(|volume| volume.status()) {
            Some(status) if status.damaged => "damaged",
            Some(status) if status.read_only => "read-only",
            Some(status) if status.found_dirty => "unchecked",
            _ => member.unwrap_or(state),
        };
        let volume = volume.map(|volume| {
            let information = volume.information();
            let space = volume.space().ok();
            console::VolumeUse {
                index: number,
                label: String::from_utf16_lossy(&information.label),
                file_system: information.file_system.to_string(),
                total: space.map_or(0, |space| space.total),
                free: space.map_or(0, |space| space.free),
            }
        });
        console::Disk {
            channel,
            model: disk.identity.model.to_string(),
            size: disk.device.blocks().saturating_mul(u64::from(disk.device.block_size())),
            state: String::from(state),
            errors: 0,
            volume,
        }
    }
}

fn unmounted(number: usize, volume: &Volume<RawMutex>) {
    if let Err(why) = volume.unmount() {
        log::error!("volume {number}: {why}");
    }
}

/// What a new volume shall be.
pub(crate) fn options(number: usize, file_system: FileSystem, surroundings: &Surroundings<'_>) -> Options {
    let kind = match file_system {
        FileSystem::ExFat => Kind::Exfat,
        FileSystem::Fat32 => Kind::Fat32,
    };
    let label = format!("DATA{number}").encode_utf16().collect();
    Options { kind, label, unique: surroundings.unique(), cluster: None }
}

pub(crate) fn format_error(why: FormatError) -> String {
    match why {
        FormatError::Device(why) => format!("formatting: {why}"),
        FormatError::Size => String::from("the disk's size does not suit"),
        FormatError::Options => String::from("formatting: these options do not go together"),
    }
}
